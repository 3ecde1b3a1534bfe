"""What a model is: input, outputs, capabilities, layers, cost; and its prediction for an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from ..models.axis_order import in_words
from ..models.explained_model import ExplainedModel

if TYPE_CHECKING:
    from ..models.layer_survey import Survey

BYTES_PER_VALUE = 4
GRADIENT_FACTOR = 2.0
"""Bytes of a gradient pass per byte of activations: the activations and the gradients that flow back."""


@dataclass(frozen=True)
class LayerRow:
    """A layer in the table: ``shape`` (C, spatial...) of its output, ``share`` (0..1) of the network's compute."""

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    share: float
    suits_bottleneck: bool
    suits_cam: bool
    default: bool


@dataclass(frozen=True)
class ModelReport:
    """All that a user or a panel must know of a model; plain values throughout."""

    name: str
    format: str
    source: str
    digest: str
    task: str
    target: str
    labels: tuple[str, ...]
    activation: str
    spatial_dims: int
    in_channels: int
    channel_names: tuple[str, ...]
    spacing: tuple[float, ...]
    preprocessing: tuple[str, ...]
    inference: dict[str, Any]
    capabilities: dict[str, Any]
    parameters: int
    operations: int
    window: tuple[int, ...]
    window_memory_mb: float
    default_layer: str
    default_reason: str
    layers: tuple[LayerRow, ...]
    notes: tuple[str, ...]
    axis_order: str = ""
    prediction: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def inspect_model(model: ExplainedModel, layers: Sequence[str] = ()) -> ModelReport:
    """The report of a loaded model. ``layers`` (names or wildcards) narrows the table of layers.

    Raises:
        ModelError: a name or wildcard in ``layers`` matches nothing; near names are offered.
    """
    from ..models.layer_choice import matching_layers, why_default
    from ..models.layer_survey import Survey, survey

    shape = model.example_shape or (1, model.in_channels, *[64] * model.spatial_dims)
    found = survey(model.network, [shape]) if model.capabilities.layers else Survey(shape)
    chosen = set(matching_layers(model.network, layers)) if layers else None
    rows = layer_rows(model, found) if model.capabilities.layers else ()
    notes = model.notes
    if found.failure:
        notes = (*notes, f"The layers' sizes are not known: the network does not take {shape} ({found.failure}).")
    return ModelReport(
        name=model.name,
        format=model.format,
        source=str(model.source),
        digest=model.digest,
        task=model.task,
        target=model.target,
        labels=model.labels,
        activation=model.activation,
        spatial_dims=model.spatial_dims,
        in_channels=model.in_channels,
        channel_names=model.channel_names,
        spacing=input_spacing(model),
        preprocessing=tuple(_step_text(step) for step in model.preprocessing()),
        inference=asdict(model.inferer),
        capabilities=_capabilities(model),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        operations=found.flops,
        window=shape[2:],
        window_memory_mb=round(found.activations * BYTES_PER_VALUE * GRADIENT_FACTOR / 2**20, 1),
        default_layer=model.layers[0] if model.layers else "",
        default_reason=why_default(model.network, found, model.layers) if model.capabilities.layers else "",
        layers=tuple(row for row in rows if chosen is None or row.name in chosen),
        notes=notes,
        axis_order=in_words(model),
    )


def layer_rows(model: ExplainedModel, found: Survey) -> tuple[LayerRow, ...]:
    """The table of layers, in the order in which they are computed."""
    from ..models.layer_choice import suits_bottleneck, suits_cam

    default = model.layers[0] if model.layers else ""
    return tuple(
        LayerRow(
            name=layer.name,
            type=layer.type,
            shape=layer.shape,
            parameters=layer.parameters,
            share=round(layer.flops / found.flops, 4) if found.flops else 0.0,
            suits_bottleneck=suits_bottleneck(layer, found),
            suits_cam=suits_cam(layer, found),
            default=layer.name == default,
        )
        for layer in found.layers
    )


def input_spacing(model: ExplainedModel) -> tuple[float, ...]:
    """The voxel spacing (mm) that the preprocessing resamples to; empty when it keeps the scan's."""
    for step in getattr(model.preprocessing, "specs", ()):
        if getattr(step, "name", "") == "Spacing":
            pixdim = step.arguments["pixdim"]
            return tuple(float(size) for size in (pixdim if isinstance(pixdim, (list, tuple)) else [pixdim] * 3))
    plan = getattr(model.preprocessing, "plan", None)
    return tuple(plan.spacing) if plan is not None else ()


def inspect_image(
    model: ExplainedModel, image: Path, series_uid: str = "", picture: Path | None = None
) -> dict[str, Any]:
    """The model's prediction for an image, as plain values; ``picture`` is where to draw what the network receives.

    Returns:
        For a classifier the probabilities by label (the highest slice of slice-wise models, with its number); for a
        regression the value; for a segmentation the volume of each label in mL on the model's grid.
    """
    from ..figures.network_input import draw_input
    from ..inference.prediction import predict_scan
    from ..inference.preprocessing import preprocess
    from ..inference.scan_reading import doubts, read_for_model

    if not image.exists():
        raise ModelError(f"There is no image {image}.", "Check the path.")
    volume = read_for_model(model, image, series_uid=series_uid)
    prepared = preprocess(volume, model.preprocessing())
    logits = predict_scan(model, prepared)
    values = model.probabilities(logits).cpu()
    said: dict[str, Any] = {"warnings": list(found)} if (found := doubts(volume, model)) else {}
    if picture is not None:
        said["picture"] = str(draw_input(picture, _sample(model, prepared, values)))
    if model.task == "segmentation":
        return {"volumes_ml": _volumes(model, values, prepared.grid.voxel_volume_ml), **said}
    named = {}
    for number, label in enumerate(model.labels[: values.shape[1]]):
        row = int(values[:, number].argmax())
        named[label] = {"value": round(float(values[row, number]), 6)}
        if len(values) > 1:
            named[label]["slice"] = row
    return {"values": named, **said}


def _sample(model: ExplainedModel, prepared: Any, values: Any) -> Any:
    """What the network receives: the picture, the slice with the highest answer, or the volume."""
    from ..inference.prediction import SLICE_AXIS

    array = prepared.tensor.numpy()
    if model.spatial_dims == 3:
        return array
    axis = SLICE_AXIS[model.inferer.plane] + 1
    row = array.shape[axis] // 2
    if model.task != "segmentation" and len(values) == array.shape[axis]:
        row = int(values.max(1).values.argmax())
    return array.take(row, axis=axis)


def check_preprocessing(model: ExplainedModel) -> None:
    """Run the preprocessing and the network on a scan of noise, where it can be done in a moment.

    Raises:
        ModelError: the network does not take what the preprocessing makes of a scan.
    """
    import numpy as np

    from ..core.errors import XAIError
    from ..inference.prediction import predict_scan
    from ..inference.preprocessing import preprocess
    from ..io.grid import Grid
    from ..io.volume import Volume

    if model.inferer.kind == "sliding_window":
        return
    shape = (*model.example_shape[2:], *([1] if model.spatial_dims == 2 else []))
    if len(shape) != 3:
        return
    noise = np.random.default_rng(0).normal(100, 100, (model.in_channels, *shape)).astype(np.float32)
    volume = Volume(noise if model.in_channels > 1 else noise[0], Grid(shape, np.eye(4)))
    try:
        prepared = preprocess(volume, model.preprocessing())
        predict_scan(model, prepared)
    except XAIError as error:
        raise ModelError(
            f"The description does not fit: a scan of {' x '.join(map(str, shape))} voxels fails. {error.message}",
            error.remedy,
        ) from error


def _volumes(model: ExplainedModel, values: Any, voxel_ml: float) -> dict[str, float]:
    if model.activation == "softmax":
        index = values.argmax(1)
        counts = [int((index == number).sum()) for number in range(values.shape[1])]
    else:
        counts = [int(count) for count in (values > 0.5).flatten(2).sum(-1)[0]]
    return {label: round(count * voxel_ml, 4) for label, count in zip(model.labels, counts)}


def _capabilities(model: ExplainedModel) -> dict[str, Any]:
    found = model.capabilities
    return {
        "layers": found.layers,
        "free_batch": found.free_batch,
        "differentiable": found.differentiable,
        "reasons": dict(found.reasons),
    }


def _step_text(step: Any) -> str:
    return type(step).__name__
