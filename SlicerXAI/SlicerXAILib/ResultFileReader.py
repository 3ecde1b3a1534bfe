"""Opens results by drag and drop: a ``result.json``, or one that was renamed to ``<name>.xai.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import Display
from .ResultAttributes import RESULT_NAME
from .ResultLoader import loadResult

RENAMED = ".xai.json"
_LARGEST_BYTES = 50_000_000
_FIELDS = ("status", "task", "artifacts")


def readingConfidence(path: str | Path) -> float:
    """Return from 0 to 1 how sure it is that a file is a result; by its name, and by what is in it."""
    path = Path(path)
    if path.name != RESULT_NAME and not path.name.lower().endswith(RENAMED):
        return 0.0
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return 0.0
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0.0
    return 0.9 if isinstance(content, dict) and all(name in content for name in _FIELDS) else 0.0


def openResult(path: str | Path) -> list[Any]:
    """Load a result with the files that it names and show it; returns its nodes.

    :raises EngineError: a file is missing or cannot be read; no node is left behind then.
    """
    path = Path(path).resolve()
    name = path.name[: -len(RENAMED)] if path.name.lower().endswith(RENAMED) else path.parent.name
    loaded = loadResult(path, inputName=name, keepFiles=True)
    Display.showResult(loaded, None)
    return [*loaded.nodes.values()]
