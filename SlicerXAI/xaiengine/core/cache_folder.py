"""The folder of files that can be made again: fitted statistics and converted models."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "XAIENGINE_CACHE"


def cache_folder() -> Path:
    """The user's cache folder of this program by the rules of each system; ``XAIENGINE_CACHE`` overrides it."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "SlicerXAI" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "SlicerXAI"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slicerxai"
