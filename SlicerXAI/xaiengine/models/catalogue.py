"""Finds models: by path, or by the name of one that is shipped with SlicerXAI."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from ..core.errors import ModelError

_PACKAGE = Path(__file__).resolve().parent.parent


def model_folders() -> list[Path]:
    """Folders with shipped models, those that exist: of a source checkout, of the packaged extension, of a wheel.

    A checkout and the extension keep them beside the package (``SlicerXAI/Resources/Models`` and
    ``lib/Slicer-5.x/qt-scripted-modules/Resources/Models``); the wheel carries them inside the package.
    """
    candidates = [_PACKAGE.parent / "Resources" / "Models", _PACKAGE / "shipped_models"]
    return [folder for folder in candidates if folder.is_dir()]


def shipped_models() -> dict[str, Path]:
    """Shipped models by their names: the names of their folders or .zip files."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for item in sorted(folder.iterdir()):
            if (item / "configs").is_dir() or item.suffix == ".zip":
                found.setdefault(item.stem if item.is_file() else item.name, item)
    return found


def find_model(name: str | Path) -> Path:
    """The path of a model given by its path or by the name of a shipped one.

    Raises:
        ModelError: there is no such file, folder or name; near names are offered.
    """
    path = Path(name).expanduser()
    if path.exists():
        return Path(os.path.abspath(path))  # a link keeps its own name, which tells the format
    shipped = shipped_models()
    for known, place in shipped.items():
        if known.lower() == str(name).lower():
            return place
    near = difflib.get_close_matches(str(name), shipped, 3, 0.4)
    names = ", ".join(near or shipped) or "none"
    raise ModelError(
        f"There is no model {str(name)!r}: no such file or folder, and no shipped model of this name.",
        f"{'Did you mean' if near else 'Shipped models are'}: {names}{'?' if near else '.'}",
    )
