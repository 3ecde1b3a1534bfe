#!/usr/bin/env python-real
"""CLI module: shows what in a scan a prediction rests on (the task explain-prediction)."""

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

    sys.exit(main("explain-prediction"))
