#!/usr/bin/env python-real
"""CLI module: checks whether a map tells the truth about a model (the task evaluate-explanation)."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve()

if __name__ == "__main__":
    if "--xml" in sys.argv[1:]:  # Slicer waits for five seconds only: answer before anything is imported
        sys.stdout.buffer.write(HERE.with_suffix(".xml").read_bytes())
        sys.exit(0)
    # Beside this module in a source checkout, among the scripted modules in an installed extension.
    sys.path += [str(HERE.parents[1]), str(HERE.parents[1] / "qt-scripted-modules")]
    from xaiengine.slicer_cli import main

    sys.exit(main("evaluate-explanation"))
