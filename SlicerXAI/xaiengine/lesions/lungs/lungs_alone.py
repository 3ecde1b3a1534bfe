"""The scan as a model that was trained on lungs alone sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...core.cancellation import interruptibly
from ...io.volume import Volume
from ...models.explained_model import ExplainedModel
from ..settings import TASK
from .lungs import segment_lungs


def lungs_alone(volume: Volume, model: ExplainedModel, check: Callable[[], None] = lambda: None) -> tuple[Volume, str]:
    """The scan as the model was trained to see it, and a note for the user (empty where nothing was hidden).

    A model says so by ``outside_lungs`` (HU) among its defaults for lesions.
    """
    outside = model.defaults.get(TASK, {}).get("outside_lungs")
    if outside is None:
        return volume, ""
    lungs = interruptibly(check, segment_lungs, volume.array, volume.grid, check).combined
    hidden = np.where(lungs, volume.array, np.asarray(outside, volume.array.dtype))
    return volume.with_array(hidden), (
        f"The model {model.name} was trained on lungs alone, so voxels outside the lungs that were found are shown "
        f"to it as {outside:g} HU."
    )
