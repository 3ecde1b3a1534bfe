"""Reads how a bundle runs its network over a scan (``inferer``) without building MONAI's inferer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..core.errors import ModelError
from .explained_model import Inferer
from .trust.allowed import refuse_target
from .trust.safe_config import Component

_SLIDING = ("SlidingWindowInferer", "SlidingWindowInfererAdapt")
_PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}
LARGEST_WINDOW = 512**3


def inferer_of(entry: Any) -> Inferer | None:
    """The inferer of a configuration entry; None when there is none.

    Raises:
        TrustError: it names something that is no MONAI inferer.
        ModelError: it is an inferer that explanations cannot follow, or its window is not sensible.
    """
    if entry is None:
        return None
    if not isinstance(entry, Component):
        raise ModelError("The entry inferer of the configuration is not a _target_ entry.", "Correct it.")
    name = entry.short_name
    if name != entry.target and not entry.target.startswith("monai.inferers."):
        raise refuse_target(entry.target, entry.where)
    if name in _SLIDING:
        return _sliding(entry, 3)
    if name == "SimpleInferer":
        return Inferer("whole")
    if name == "SliceInferer":
        return replace(_sliding(entry, 2), plane=_PLANES[int(entry.arguments.get("spatial_dim", 0))])
    if not name.endswith("Inferer"):
        raise refuse_target(entry.target, entry.where)
    raise ModelError(
        f"The model is run by {name}, which explanations cannot follow.",
        'Give "inference" in configs/explanation.json: whole, slices or sliding_window.',
    )


def _sliding(entry: Component, dims: int) -> Inferer:
    arguments = entry.arguments
    roi = arguments.get("roi_size", ())
    # null, or a number below 1, is the whole length of an axis, as in MONAI
    roi = tuple(
        -1 if size is None else int(size) for size in (roi if isinstance(roi, (list, tuple)) else [roi] * dims)
    )
    total = 1
    for size in roi:
        total *= max(size, 1)
    if not roi or total > LARGEST_WINDOW:
        raise ModelError(f"The sliding window {roi} of the model is not usable.", "Correct roi_size of the inferer.")
    overlap = arguments.get("overlap", 0.25)
    overlap = float(max(overlap) if isinstance(overlap, (list, tuple)) else overlap)
    sigma = arguments.get("sigma_scale", 0.125)
    return Inferer(
        "sliding_window",
        roi_size=roi,
        overlap=min(max(overlap, 0.0), 0.95),
        blending="gaussian" if str(arguments.get("mode", "constant")).lower() == "gaussian" else "constant",
        sigma_scale=float(sigma[0] if isinstance(sigma, (list, tuple)) else sigma),
        sw_batch_size=min(max(int(arguments.get("sw_batch_size", 1)), 1), 64),
        padding_mode=str(arguments.get("padding_mode", "constant")),
        cval=float(arguments.get("cval", 0.0)),
    )
