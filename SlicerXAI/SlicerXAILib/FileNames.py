"""Names of files and folders from names that people give to scans."""

from __future__ import annotations

import re

# Not allowed in names on Windows, or parts of paths somewhere.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_MOST_LETTERS = 120
# Windows takes these for devices, with any extension.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])\s*(\.|$)", re.IGNORECASE)


def fileName(*parts: str, extension: str = "") -> str:
    """Return the parts as one name that every system takes for a file or folder; never empty, never a path."""
    words = " ".join(_FORBIDDEN.sub(" ", part) for part in parts).split()
    name = " ".join(words)[:_MOST_LETTERS].strip(" .") or "SlicerXAI"
    if _DEVICE.match(name):
        name = f"_{name}"
    return name + extension
