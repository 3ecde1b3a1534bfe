"""The option with which a user lets a model run its own code, spelled alike by every command."""

from __future__ import annotations

import argparse

TRUST_HELP = (
    "let the model run its own code; with a file, the Python file that defines its class "
    "(only for models whose maker you know)"
)


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """``--trust-model [FILE]``."""
    parser.add_argument("--trust-model", nargs="?", const=True, default=False, metavar="FILE", help=TRUST_HELP)
