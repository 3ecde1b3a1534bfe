"""A picture of maps of one segmented structure: planes through its middle, its outline and what its distances say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..io.volume import Volume
from .three_planes import MapLayer, Outline, PictureText, draw_three_planes, middle_of


def draw_target_maps(
    path: Path,
    volume: Volume,
    layers: Sequence[MapLayer],
    structure: np.ndarray,
    name: str,
    *,
    title: str,
    caption: str = "",
    theme: str = "dark",
) -> list[Path]:
    """Write the pictures; maps and ``structure`` (I, J, K) lie on the volume's grid."""
    return draw_three_planes(
        path,
        volume,
        layers,
        [Outline(structure, name)],
        text=PictureText(title, caption),
        center_ras=middle_of(structure, volume.grid),
        theme=theme,
    )
