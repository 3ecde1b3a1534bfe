"""Names of files and folders from names that people give to scans."""

from __future__ import annotations

import re

# Not allowed in names on Windows, or parts of paths somewhere.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_MOST_LETTERS = 120
# Windows takes these for devices, with any extension.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}


def fileName(*parts: str, extension: str = "") -> str:
    """Return the parts as one name that every system takes for a file or folder; never empty, never a path."""
    words = " ".join(_FORBIDDEN.sub(" ", part) for part in parts).split()
    name = " ".join(words)[:_MOST_LETTERS].strip(" .") or "SlicerXAI"
    if name.partition(".")[0].strip().lower() in _DEVICES:
        name = f"_{name}"
    return name + extension
