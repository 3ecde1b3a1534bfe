"""The models that come with the module, by their names, found without the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

MODELS_FOLDER = Path(__file__).resolve().parent.parent / "Resources" / "Models"


def shippedModels(folder: Path = MODELS_FOLDER) -> Mapping[str, str]:
    """Return what each shipped model does (``classification``, ``segmentation`` ...) by its name."""
    if not folder.is_dir():
        return {}
    return {path.name: _task(path) for path in sorted(folder.iterdir()) if (path / "configs").is_dir()}


def shippedGenerators(folder: Path = MODELS_FOLDER) -> list[str]:
    """Return the names of the shipped generators of counterfactual images."""
    return sorted(path.parent.name for path in folder.glob("*/generator.json"))


def _task(path: Path) -> str:
    try:
        content = json.loads((path / "configs" / "explanation.json").read_text(encoding="utf-8"))
        return str(content.get("task") or "")
    except (OSError, ValueError, AttributeError):
        return ""
