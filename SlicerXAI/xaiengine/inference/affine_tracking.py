"""One MONAI transform at a time, with the affine right after it.

MONAI carries the affine exactly through nearly all of its transforms. Exceptions, which are dealt with here:

- ``Spacing`` with ``recompute_affine`` replaces the affine by a mere scaling; and it needs 20 bytes for each voxel
  of its result (6 GB for 512 x 512 x 333). Here it resamples in slabs, to the affine it would have without.
- ``Resize`` and ``Zoom`` by nearest neighbor take the voxel below, so that the image moves against its affine by up
  to half a voxel of the source.
- ``Transpose``, ``Lambda`` and other code may move voxels and keep the affine. Known cases are refused; anything
  unknown is probed with a mark in the image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import ModelError, XAIError
from ..io.grid import Grid
from ..io.resample import resample
from ..models.channel_steps import PerChannel

_NOT_NEEDED = ("LoadImage", "EnsureChannelFirst", "AddChannel", "AsChannelFirst")
_UNTRACKED = ("Transpose", "SqueezeDim", "AsChannelLast", "SplitDim", "Imagei2iTranslation")
_OPAQUE = ("Lambda", "TorchVision", "TorchIO", "NumpyPassThrough")


def _name(step: Any) -> str:
    """The class's name, without the d of dictionary transforms."""
    from monai.transforms import MapTransform

    name = type(step).__name__
    return name.removesuffix("d") if isinstance(step, MapTransform) else name


def flat(transforms: Sequence[Any]) -> list[Any]:
    """The single transforms of nested Compose, without those that only load."""
    from monai.transforms import Compose

    steps: list[Any] = []
    for step in transforms:
        if isinstance(step, Compose):
            steps += flat(step.transforms)
        elif _name(step) not in _NOT_NEEDED:
            steps.append(step)
    return steps


def image_key(steps: Sequence[Any]) -> Any:
    """The key of the image in dictionary transforms."""
    from monai.transforms import MapTransform

    return next((step.keys[0] for step in steps if isinstance(step, MapTransform) and step.keys), "image")


def refuse_joints(steps: Sequence[Any]) -> None:
    """Refuse MONAI's own ConcatItems of several images, whose channels cannot be told apart. Raises ModelError."""
    for step in steps:
        if _name(step) == "ConcatItems" and len(getattr(step, "keys", ())) > 1:
            raise ModelError(
                f"The transform {type(step).__name__} joins the images {', '.join(map(str, step.keys))}, which "
                "code of the model prepared one by one.",
                "Give the preprocessing as _target_ entries in configs/inference.json: then each image has its steps.",
            )


def apply(step: Any, data: dict[Any, Any], key: Any) -> dict[Any, Any]:
    """One transform applied to ``data[key]``, a MetaTensor (C, I, J, K).

    Raises:
        ModelError: it is random, fails, or moves voxels without telling.
    """
    if isinstance(step, PerChannel):
        return {**data, key: _per_channel(step, data, key)}
    name = _name(step)
    _refuse(step, name)
    opaque = name in _OPAQUE or not type(step).__module__.startswith(("monai.", "xaiengine."))
    before = data[key]
    if opaque:
        # Code of somebody's own may work in place; the original is needed to compare.
        data = {**data, key: before.clone()}
    try:
        if name == "Spacing" and (spaced := _spacing(step, before)) is not None:
            return {**data, key: spaced}
        after = _call(step, data, key)
    except XAIError:
        raise
    except Exception as error:  # MONAI's transforms raise many kinds
        raise ModelError(
            f"The transform {type(step).__name__} of the model's preprocessing failed on this scan: {error}.",
            "Check that the scan is of the kind that the model was made for (size, channels, modality).",
        ) from error
    after[key] = _with_affine(after[key], before)
    if name in ("Resize", "Zoom") and _by_nearest(step):
        _correct_nearest(step, after[key], before)
    elif opaque and getattr(after[key], "ndim", 0) == 4:
        _probe(step, {**data, key: before}, key, after[key])
    return after


def _per_channel(step: PerChannel, data: dict[Any, Any], key: Any) -> Any:
    """Each channel through its own transform; all of them have to end on the same voxels."""
    import torch
    from monai.data import MetaTensor

    image = data[key]
    if image.shape[0] != len(step.keys):
        raise ModelError(
            f"The model prepares {len(step.keys)} images each in its own way ({', '.join(step.keys)}); the scan has "
            f"{image.shape[0]} channel(s).",
            "Give the first as the scan and the others by --channels (the option Additional channels), in this order.",
        )
    parts = [image[channel : channel + 1] for channel in range(len(step.keys))]
    for channel, transform in step.groups:
        parts[channel] = apply(transform, {**data, key: parts[channel].clone()}, key)[key]
    first = parts[0]
    for name, part in zip(step.keys, parts):
        if part.shape != first.shape or not np.allclose(part.affine, first.affine, atol=1e-4):
            raise ModelError(
                f"After the preprocessing the images {step.keys[0]} and {name} do not lie on the same voxels.",
                "Give all image keys the same spatial steps.",
            )
    return MetaTensor(torch.cat([part.as_tensor().float() for part in parts]), affine=first.affine, meta=image.meta)


def _refuse(step: Any, name: str) -> None:
    from monai.transforms import RandomizableTrait

    if isinstance(step, RandomizableTrait):
        raise ModelError(
            f"The transform {type(step).__name__} of the model's preprocessing is random, so a map could not be "
            "brought back.",
            "Take the preprocessing of inference, not of training.",
        )
    if name in _UNTRACKED:
        raise ModelError(
            f"The transform {type(step).__name__} of the model's preprocessing moves voxels and does not say "
            "where to.",
            "Use Orientation, Flip or Rotate90 in its place.",
        )


def _call(step: Any, data: dict[Any, Any], key: Any) -> dict[Any, Any]:
    from monai.transforms import MapTransform

    if isinstance(step, MapTransform):
        if not all(name in data for name in step.keys):
            # Labels and the like, which only training has.
            step = copy.copy(step)
            step.allow_missing_keys = True
        return dict(step(data))
    return {**data, key: step(data[key])}


def _with_affine(after: Any, before: Any) -> Any:
    """The image with its affine, where a change of type (``EnsureType`` without meta data) has dropped it."""
    from monai.data import MetaTensor

    if isinstance(after, MetaTensor) or tuple(np.shape(after)[1:]) != tuple(before.shape[1:]):
        return after
    return MetaTensor(after, affine=before.affine, meta=before.meta)


def _spacing(step: Any, image: Any) -> Any | None:
    """What Spacing gives, resampled here; None when it asks for what only MONAI does (splines, other padding)."""
    from monai.data import MetaTensor
    from monai.transforms import Spacingd

    single = copy.deepcopy(step.spacing_transform if isinstance(step, Spacingd) else step)
    options = step if isinstance(step, Spacingd) else single.sp_resample
    mode, padding = (value[0] if isinstance(value, tuple) else value for value in (options.mode, options.padding_mode))
    mode, padding = (str(getattr(value, "value", value)) for value in (mode, padding))
    if mode not in ("bilinear", "nearest") or padding != "border" or image.ndim != 4:
        return None
    extent = step.scale_extent[0] if isinstance(step, Spacingd) else single.scale_extent
    single.recompute_affine = False
    planned = single(image, scale_extent=extent, lazy=True)
    shape = tuple(int(size) for size in planned.peek_pending_shape())
    affine = np.asarray(planned.peek_pending_affine(), dtype=np.float64)
    from_grid = Grid(tuple(image.shape[1:]), np.asarray(image.affine, dtype=np.float64))
    kind = "linear" if mode == "bilinear" else "nearest"
    array = resample(image.as_tensor().cpu().numpy(), from_grid, Grid(shape, affine), kind, outside="edge")
    return _placed(MetaTensor(np.ascontiguousarray(array)), image, affine)


def _placed(result: Any, image: Any, affine: np.ndarray) -> Any:
    import torch

    result = result.to(image.device, torch.float32)
    result.copy_meta_from(image)
    result.affine = torch.tensor(affine)
    return result


def _by_nearest(step: Any) -> bool:
    modes = step.mode if isinstance(step.mode, (tuple, list)) else (step.mode,)
    return str(getattr(modes[0], "value", modes[0])) == "nearest"


def _correct_nearest(step: Any, after: Any, before: Any) -> None:
    """Move the affine to where nearest-neighbor interpolation takes its voxels from: floor(i * source / target)."""
    import torch

    shift = np.zeros(3)
    for axis, (target, source) in enumerate(zip(_interpolated_shape(step, after, before), before.shape[1:])):
        ratio = source / target
        index = np.arange(target)
        # In voxels of the target: where they are taken from, less where the affine says that they lie.
        shift[axis] = np.mean(np.floor(index * ratio) - ((index + 0.5) * ratio - 0.5)) / ratio
    affine = np.asarray(after.affine, dtype=np.float64).copy()
    affine[:3, 3] += affine[:3, :3] @ shift
    after.affine = torch.tensor(affine)


def _interpolated_shape(step: Any, after: Any, before: Any) -> tuple[int, ...]:
    """The shape that the interpolation gave: Zoom pads or crops afterwards."""
    if _name(step) != "Zoom":
        return tuple(after.shape[1:])
    factors = np.broadcast_to(getattr(step, "zoomer", step).zoom, 3)
    return tuple(int(size * factor) for size, factor in zip(before.shape[1:], factors))


def _probe(step: Any, data: dict[Any, Any], key: Any, after: Any) -> None:
    """Put a mark into the image and see whether it comes out where the affine says."""
    before = data[key]
    source = Grid(tuple(before.shape[1:]), np.asarray(before.affine, dtype=np.float64))
    start = [int(size * share) for size, share in zip(source.shape, (0.2, 0.3, 0.4))]
    box = tuple(slice(first, first + max(1, size // 5)) for first, size in zip(start, source.shape))
    marked = before.clone()
    spread = float(before.max() - before.min()) or 1.0
    # Brighter where it was dark and darker where it was bright, so that it shows after clipping as well.
    marked[(slice(None), *box)] = before.max() + before.min() - before[(slice(None), *box)] + 0.1 * spread
    changed = _call(step, {**data, key: marked}, key)[key]
    difference = np.abs(np.asarray(changed, dtype=np.float64) - np.asarray(after, dtype=np.float64)).sum(0)
    where = np.argwhere(difference > 0.5 * difference.max())
    target = Grid(difference.shape, np.asarray(after.affine, dtype=np.float64))
    expected = source.index_to_ras([(part.start + part.stop - 1) / 2 for part in box])
    size = np.array([(part.stop - part.start) for part in box]) * source.spacing
    found = target.index_to_ras((where.min(0) + where.max(0)) / 2) if len(where) else np.full(3, np.inf)
    if np.linalg.norm(found - expected) > max(*source.spacing, *target.spacing, 0.35 * size.max()):
        raise ModelError(
            f"The transform {type(step).__name__} of the model's preprocessing moves voxels and does not say "
            "where to.",
            "Use MONAI's spatial transforms, which carry the affine along.",
        )
