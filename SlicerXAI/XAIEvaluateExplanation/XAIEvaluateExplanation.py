#!/usr/bin/env python-real
"""CLI module: checks whether a map tells the truth about a model (the task evaluate-explanation)."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    # The engine lies beside this module's folder: in the checkout, and in an installed extension.
    sys.path += [str(HERE.parent), str(HERE.parent / "qt-scripted-modules")]
    from xaiengine.app.slicer_cli_start import main

    sys.exit(main("evaluate-explanation", __file__))
