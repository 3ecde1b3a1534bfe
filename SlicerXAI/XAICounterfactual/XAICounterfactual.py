#!/usr/bin/env python-real
"""CLI module: shows what a scan would look like if the model had said otherwise (explain-counterfactual)."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    # The engine lies beside this module's folder: in the checkout, and in an installed extension.
    sys.path += [str(HERE.parent), str(HERE.parent / "qt-scripted-modules")]
    from xaiengine.app.slicer_cli_start import main

    sys.exit(main("explain-counterfactual", __file__))
