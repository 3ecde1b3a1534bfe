"""What a CLI module's script calls. Slicer waits five seconds for ``--xml``: nothing slow is imported before that."""

from __future__ import annotations

import sys
from pathlib import Path


def main(task: str, script: str) -> int:
    """Answer ``--xml`` from the file beside the script, or else do the task with Slicer's arguments."""
    if "--xml" in sys.argv[1:]:
        sys.stdout.buffer.write(Path(script).with_suffix(".xml").read_bytes())
        return 0
    from .slicer_cli import main as run

    return run(task)
