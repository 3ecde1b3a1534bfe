"""Whether the processes that a test started are still there."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def is_running(process_id: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    stat = Path(f"/proc/{process_id}/stat")
    if sys.platform == "linux":
        try:
            return stat.read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False
    try:
        os.kill(process_id, 0)
    except OSError:
        return False
    return True
