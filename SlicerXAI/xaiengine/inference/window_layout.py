"""Where the windows of a sliding-window inference lie, and with which weight each voxel of one counts.

Equal to :func:`monai.inferers.sliding_window_inference`: the same windows, padding and blending weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import _get_scan_interval
from monai.utils import fall_back_tuple

from ..core.boxes import Box, bounding_box, intersection
from ..core.errors import OptionError
from ..models.explained_model import Inferer
from ..models.formats.nnunet_windows import window_starts, window_weights


@dataclass(frozen=True, eq=False)
class WindowLayout:
    """Windows over an image, all in voxels.

    ``starts`` are in the padded image, which begins ``pad_before`` voxels before the image. ``flat_axis`` is the
    axis along which windows are one voxel thick and that a two-dimensional network does not see; None otherwise.
    ``weights`` (window_size) is what a voxel of a window counts in the blended output.
    """

    image_size: tuple[int, ...]
    window_size: tuple[int, ...]
    pad_before: tuple[int, ...]
    padded_size: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    weights: torch.Tensor
    flat_axis: int | None = None
    padding_mode: str = "constant"
    cval: float = 0.0

    @property
    def count(self) -> int:
        return len(self.starts)

    @property
    def is_padded(self) -> bool:
        return self.padded_size != self.image_size

    @property
    def interior(self) -> Box:
        """The image within the padded image."""
        return tuple(slice(before, before + size) for before, size in zip(self.pad_before, self.image_size))

    def box(self, index: int) -> Box:
        """A window within the padded image."""
        return tuple(slice(start, start + size) for start, size in zip(self.starts[index], self.window_size))

    def padded_box(self, box: Box) -> Box:
        """A box of the image as a box of the padded image."""
        return tuple(slice(part.start + before, part.stop + before) for part, before in zip(box, self.pad_before))

    def touching(self, box: Box) -> list[int]:
        """The windows that share voxels with a box of the image."""
        wanted = self.padded_box(box)
        return [index for index in range(self.count) if intersection(self.box(index), wanted) is not None]

    def touching_mask(self, mask: np.ndarray | torch.Tensor) -> list[int]:
        """The windows that hold at least one voxel of a mask (image_size)."""
        mask = torch.as_tensor(mask)
        box = bounding_box(mask)
        if box is None:
            return []
        found = []
        for index in self.touching(box):
            common = intersection(self.box(index), self.interior)
            assert common is not None  # a window that touches the image
            part = tuple(slice(c.start - b, c.stop - b) for c, b in zip(common, self.pad_before))
            if bool(mask[part].any()):
                found.append(index)
        return found

    def total_weights(self) -> torch.Tensor:
        """The sum of the windows' weights at each voxel of the padded image."""
        total = torch.zeros(self.padded_size, dtype=self.weights.dtype, device=self.weights.device)
        for index in range(self.count):
            total[self.box(index)] += self.weights
        return total


def lay_windows(
    image_size: Sequence[int],
    inferer: Inferer,
    spatial_dims: int,
    slice_axis: int = 2,
    device: torch.device | str = "cpu",
    divisible_by: int = 1,
) -> WindowLayout:
    """The windows through which a network sees an image.

    Args:
        image_size: voxels along each axis, two or three numbers.
        inferer: ``whole`` is one window over everything, ``slices`` one over each slice.
        spatial_dims: of the network; a two-dimensional one sees a volume slice by slice.
        slice_axis: the axis across the slices, for two-dimensional networks.
        divisible_by: window lengths are raised to a multiple of this; the image is padded where it is smaller.

    Raises:
        OptionError: the window has another number of dimensions than the network, or an overlap outside 0..1.
    """
    size = tuple(int(length) for length in image_size)
    flat_axis = slice_axis if spatial_dims == len(size) - 1 else None
    if flat_axis is None and spatial_dims != len(size):
        raise OptionError(
            f"A network of {spatial_dims} dimensions cannot look at an image of {len(size)}.",
            "Choose the model's other variant, or correct spatial_dims in its description.",
        )
    seen = [axis for axis in range(len(size)) if axis != flat_axis]
    asked = inferer.roi_size if inferer.kind == "sliding_window" else ()
    if asked and len(asked) != len(seen):
        raise OptionError(
            f"The window {tuple(asked)} has {len(asked)} dimensions, the network {len(seen)}.",
            "Give one window length for each dimension of the network.",
        )
    if not 0 <= inferer.overlap < 1:
        raise OptionError(f"The overlap of windows is {inferer.overlap}; 0 <= overlap < 1 is possible.", "Try 0.5.")
    window = [1] * len(size)
    whole = [size[axis] for axis in seen]
    for axis, length in zip(seen, fall_back_tuple(asked, whole) if asked else whole):
        window[axis] = -(-int(length) // divisible_by) * divisible_by
    padded = tuple(max(length, part) for length, part in zip(size, window))
    before = tuple((length - part) // 2 for length, part in zip(padded, size))
    overlap = [inferer.overlap] * len(size)
    if inferer.scheme == "nnunet":
        starts = window_starts(padded, window, 1 - inferer.overlap)
    else:
        slices = dense_patch_slices(padded, window, _get_scan_interval(padded, window, len(size), overlap))
        starts = [tuple(int(part.start) for part in window_slices) for window_slices in slices]
    return WindowLayout(
        image_size=size,
        window_size=tuple(window),
        pad_before=before,
        padded_size=padded,
        starts=tuple(starts),
        weights=_weights(tuple(window), flat_axis, inferer, device),
        flat_axis=flat_axis,
        padding_mode=inferer.padding_mode,
        cval=inferer.cval,
    )


def _weights(
    window: tuple[int, ...], flat_axis: int | None, inferer: Inferer, device: torch.device | str
) -> torch.Tensor:
    seen: Literal["constant", "gaussian"] = inferer.blending if inferer.kind == "sliding_window" else "constant"
    inner = tuple(length for axis, length in enumerate(window) if axis != flat_axis)
    if inferer.scheme == "nnunet":
        weights = window_weights(inner).to(device)
        return weights if flat_axis is None else weights.unsqueeze(flat_axis)
    weights = compute_importance_map(inner, mode=seen, sigma_scale=inferer.sigma_scale, device=device)
    return weights if flat_axis is None else weights.unsqueeze(flat_axis)
