"""The engine's version, for files that say what wrote them."""

from __future__ import annotations

from importlib import import_module


def engine_version() -> str:
    """The version of the package; looked up when called, because the package itself names modules that ask."""
    return str(import_module(__package__.partition(".")[0]).__version__)
