"""What every format's loader does last: survey the network's layers and choose the default one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..network.layers import layer_names
from .explained_model import ExplainedModel
from .layer_choice import matching_layers, published_layers, suggested_layers
from .layer_survey import example_shapes, survey
from .model_cache import remembered


def with_layers(model: ExplainedModel, patterns: Sequence[str] = (), input_size: Sequence[int] = ()) -> ExplainedModel:
    """The model with its ``layers`` (the default first) and ``example_shape``, an input that it takes.

    ``patterns`` are names or wildcards that the model's author chose; ``input_size`` is the spatial size that the
    network insists on, if it does.
    """
    size = tuple(input_size) or resized_to(model)
    roi = () if size else model.inferer.roi_size
    shapes = example_shapes(model.spatial_dims, model.in_channels, roi, size)
    if not model.capabilities.layers:
        return replace(model, layers=(), example_shape=shapes[0])
    layers = matching_layers(model.network, patterns) if patterns else published_layers(model.network)
    if layers:
        return replace(model, layers=tuple(layers), example_shape=shapes[0])
    known = remembered(model.digest, ("layers", shapes), lambda: _surveyed(model, shapes))
    names = set(layer_names(model.network))
    return replace(
        model,
        layers=tuple(name for name in known["layers"] if name in names),
        example_shape=tuple(int(size) for size in known["example_shape"]),
    )


def _surveyed(model: ExplainedModel, shapes: Sequence[tuple[int, ...]]) -> dict[str, Any]:
    found = survey(model.network, shapes)
    return {"layers": suggested_layers(model.network, found), "example_shape": found.input_shape}


def resized_to(model: ExplainedModel) -> tuple[int, ...]:
    """The spatial size that the preprocessing brings every scan to, without the axis across slices; or nothing."""
    specs: Sequence[Any] = getattr(model.preprocessing, "specs", ())
    for spec in reversed(specs):
        if getattr(spec, "name", "") in ("Resize", "ResizeWithPadOrCrop"):
            asked = spec.arguments.get("spatial_size")
            sizes = [
                int(size) for size in (asked if isinstance(asked, (list, tuple)) else [asked] * model.spatial_dims)
            ]
            if model.spatial_dims == 2 and len(sizes) == 3:
                axis = {"sagittal": 0, "coronal": 1, "axial": 2}[model.inferer.plane]
                sizes.pop(axis)
            if len(sizes) == model.spatial_dims and min(sizes) > 0:
                return tuple(sizes)
    return ()
