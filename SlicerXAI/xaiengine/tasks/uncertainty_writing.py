"""Writes the uncertainty of maps and prediction: volumes, a table of the runs, a picture, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution.explanation import Explanation
from ..core.number_text import percent
from ..evaluation.uncertainty.measuring import Uncertainty
from ..figures.three_planes import MapLayer, Outline, PictureText, color_end, draw_three_planes, strongest_point
from ..io.volume import Volume
from ..io.volume_files import write_volume

if TYPE_CHECKING:
    from .task import Context

ROLE = "uncertainty"
PROBABILITY_ROLE = "prediction_uncertainty"


def write_uncertainty(
    found: Uncertainty,
    explanations: Sequence[Explanation],
    volume: Volume,
    context: Context,
    *,
    probability_sd: np.ndarray | None = None,
    outlines: Sequence[Outline] = (),
    explained: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write what was measured; the explanations lie on the volume's grid and hold their SD as an extra map.

    ``probability_sd`` (I, J, K) on the volume's grid is the SD of the explained class's probability, of segmentations.
    The returned values describe the first map.
    """
    for number, item in enumerate(explanations):
        role = ROLE if number == 0 else f"{ROLE}-{item.method}"
        if any(artifact.role == role for artifact in context.output.artifacts):
            role = f"{role}-{number + 1}"
        title = f"SD of {item.title} ({item.target})"
        about = f"Standard deviation over {found.count} runs ({found.title}), in the map's own unit."
        _volume(item.extras[ROLE], volume, role, title, item.unit, about, context)
    if probability_sd is not None:
        title = "SD of the predicted probability"
        about = f"Standard deviation over {found.count} runs ({found.title}): where the prediction is not sure."
        _volume(probability_sd, volume, PROBABILITY_ROLE, title, "probability", about, context)
    context.output.table(
        "uncertainty.csv",
        list(found.runs[0]),
        found.runs,
        "uncertainty runs",
        "uncertainty-runs",
        description=f"What each run gave, over {found.title}: the explained number, how alike the map is, and the "
        "prediction.",
    )
    _picture(found, explanations[0], volume, context, probability_sd, outlines, explained)
    return {
        "uncertainty_source": found.title,
        "uncertainty_runs": found.count,
        "stable_percent": 100 * found.maps[0].stable_share,
        "target_sd": found.target_sd,
    }


def _volume(
    values: np.ndarray, volume: Volume, role: str, title: str, unit: str, about: str, context: Context
) -> None:
    values = np.asarray(values, dtype=np.float32)
    file = f"{role.replace('+', 'p')}.nrrd"
    end = color_end(values)
    write_volume(context.output.path(file), Volume(values, volume.grid, title, unit))
    context.output.add(
        "volume",
        file,
        title,
        role,
        units=unit,
        description=about,
        display={
            "colors": "heat",
            "window": [0.0, end],
            "threshold": 0.05 * end,
            "opacity": 0.5,
            "background": "input",
        },
    )


def _picture(
    found: Uncertainty,
    first: Explanation,
    volume: Volume,
    context: Context,
    probability_sd: np.ndarray | None,
    outlines: Sequence[Outline],
    explained: np.ndarray | None,
) -> None:
    """The first map above its SD (and the prediction's), through one point; their colors end at the same value."""
    end = color_end(first.map)
    layers = [
        MapLayer(first.map, first.title, first.unit, explained=explained),
        MapLayer(first.extras[ROLE], f"SD over {found.count} runs", first.unit, upper=end, explained=explained),
    ]
    if probability_sd is not None:
        layers.append(MapLayer(probability_sd, "SD of the probability", "probability", threshold=0.02))
    text = PictureText(
        f"{volume.name}: {first.title} and its uncertainty over {found.title}",
        f"{percent(found.maps[0].stable_share)} of |map| is stable: the SD is at most half of the mean there",
    )
    center = strongest_point(volume.grid, first.map)
    draw_three_planes(context.output.path("uncertainty.png"), volume, layers, outlines, text=text, center_ras=center)
    context.output.add("image", "uncertainty.png", "uncertainty picture", "uncertainty-picture")
