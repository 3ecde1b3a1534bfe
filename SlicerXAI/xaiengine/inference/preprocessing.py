"""A scan brought to the form a model takes, and maps brought back to the scan, through MONAI's transforms.

The transforms carry the affine along; what comes out is placed by it, and maps return by resampling in the
patient's coordinates. This holds for crops, pads, flips, turns and resampling alike, in any order, and needs no
inverse of any transform. What MONAI 1.6 leaves to correct is corrected in ``tracked.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import ModelError
from ..io.grid import Grid
from ..io.resample import Mode, Outside, resample
from ..io.volume import Volume

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """What a model takes: ``tensor`` (C, I, J, K), float32, on ``grid``; ``source`` is the grid of the scan."""

    tensor: torch.Tensor
    grid: Grid
    source: Grid

    def restored(self, values: Any, mode: Mode = "linear", outside: Outside = 0.0) -> np.ndarray:
        """A map over the tensor (..., of any resolution) on the grid of the scan; see :func:`restore`."""
        return restore(values, self.grid.resized(values.shape[-3:]), self.source, mode, outside)


def preprocess(volume: Volume, transforms: Sequence[Any]) -> Preprocessed:
    """Apply MONAI transforms, array or dictionary ones, to a volume.

    Transforms that load files or add a channel axis are skipped, because the volume is already loaded and has its
    channels first. Dictionary transforms work on the first key of the first of them ("image" as a rule).

    Raises:
        ModelError: a transform is random, fails on this scan, gives several images or none with three spatial
            axes, or moves voxels without saying where to.
    """
    import torch
    from monai.data import MetaTensor
    from monai.utils import MetaKeys, SpaceKeys

    from .affine_tracking import apply, flat, image_key, refuse_joints

    fitted = [step.for_volume(volume) if hasattr(step, "for_volume") else step for step in flat(transforms)]
    steps = [step for step in fitted if step is not None]
    key = image_key(steps)
    refuse_joints(steps)
    # A copy in any case: transforms may work in place.
    array = np.array(volume.channels_first(), dtype=np.float32, order="C")
    meta = {MetaKeys.SPACE: SpaceKeys.RAS, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
    image = MetaTensor(torch.from_numpy(array), affine=torch.tensor(volume.grid.affine), meta=meta)
    del array
    data: dict[Any, Any] = {key: image}
    del image
    for step in steps:
        data = apply(step, data, key)
    image = _single_image(data, key)
    tensor = torch.as_tensor(image.as_tensor(), dtype=torch.float32).contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(
            "After the model's preprocessing the scan holds values that are not numbers.",
            "Check that the scan is of the kind that the model was made for.",
        )
    return Preprocessed(tensor, Grid(tuple(image.shape[1:]), np.asarray(image.affine, dtype=np.float64)), volume.grid)


def _single_image(data: Mapping[Any, Any], key: Any) -> Any:
    image = data[key]
    if isinstance(image, (list, tuple)):
        raise ModelError(
            f"The model's preprocessing gives {len(image)} images for one scan; one was expected.",
            "Leave out transforms that draw samples; sliding windows belong to the inferer.",
        )
    if not hasattr(image, "affine") or image.ndim != 4:
        raise ModelError(
            f"The model's preprocessing gives an array of shape {tuple(getattr(image, 'shape', ()))}; "
            "(channels, I, J, K) was expected.",
            "Slice-wise models take volumes too: slices are drawn from them afterwards.",
        )
    if 0 in image.shape:
        raise ModelError(
            f"The model's preprocessing leaves nothing of the scan (shape {tuple(image.shape)}).",
            "Check that the scan shows the part of the body that the model was made for.",
        )
    return image


def restore(
    values: np.ndarray | torch.Tensor, grid: Grid, to_grid: Grid, mode: Mode = "linear", outside: Outside = 0.0
) -> np.ndarray:
    """A map on another grid of the same patient: linear for maps, nearest for labels.

    ``values`` is (I, J, K) or (C, I, J, K) on ``grid``; ``outside`` is given where ``grid`` does not reach (the
    part of the scan that the preprocessing cropped away).
    """
    if not isinstance(values, np.ndarray):
        values = values.detach().cpu().numpy()
    return resample(values, grid, to_grid, mode, outside)
