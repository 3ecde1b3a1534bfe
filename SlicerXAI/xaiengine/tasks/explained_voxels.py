"""Writes where a model was asked: beside that, a map of 0 is no answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..io.segmentation import Mask, Segmentation
from ..io.segmentation_files import write_segmentation
from ..io.volume import Volume

if TYPE_CHECKING:
    from .task import Context


def write_explained_voxels(asked: np.ndarray, volume: Volume, context: Context) -> None:
    """Write the mask (I, J, K) bool on the volume's grid as a hidden segmentation; nothing where all was explained."""
    if asked.all():
        return
    masks = [Mask("explained", asked, (0.55, 0.55, 0.6))]
    segmentation = Segmentation.from_masks(masks, volume.grid, f"{volume.name} explained")
    write_segmentation(context.output.path("explained.seg.nrrd"), segmentation)
    context.output.add(
        "segmentation",
        "explained.seg.nrrd",
        "explained",
        "explained",
        description="What was explained. Where the map is 0 elsewhere, nothing was asked.",
        display={"visible": False},
    )
