"""Pictures of explanations: a row of planes for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.explanation import Explanation
from ..io.volume import Volume
from .three_planes import MapLayer, Outline, PictureText, color_end, draw_three_planes, has_opposing

__all__ = ["display_of", "display_window", "draw_explanations", "layer_of"]


def display_window(explanation: Explanation) -> float:
    """The value at which colors end: all but the strongest half percent of the voxels stay below."""
    return color_end(explanation.map)


def layer_of(explanation: Explanation) -> MapLayer:
    """An explanation as it is drawn."""
    return MapLayer(explanation.map, explanation.title, explanation.unit)


def display_of(explanation: Explanation) -> dict[str, Any]:
    """Hints for showing a map: diverging colors around zero for signed maps, heat for others."""
    end = display_window(explanation)
    if has_opposing(explanation.map):
        return {"colors": "diverging", "window": [-end, end], "opacity": 0.5, "background": "input"}
    return {
        "colors": "heat",
        "window": [0.0, end],
        "threshold": 0.05 * end,
        "opacity": 0.5,
        "background": "input",
    }


def draw_explanations(
    path: Path,
    volume: Volume,
    explanations: Sequence[Explanation],
    caption: str,
    outlines: Sequence[Outline] = (),
    theme: str = "dark",
    *,
    explained: np.ndarray | None = None,
) -> list[Path]:
    """Write the pictures (one for every eight methods) and return their paths; maps lie on the volume's grid.

    ``explained`` (I, J, K) bool: where the model was asked; the rest is hatched.
    """
    layers = [replace(layer_of(explanation), explained=explained) for explanation in explanations]
    title = caption if len(layers) != 1 else f"{caption} ({layers[0].title})"
    return draw_three_planes(path, volume, layers, outlines, text=PictureText(title), theme=theme)
