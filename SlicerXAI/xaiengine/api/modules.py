"""``xai.wrap``: an own ``nn.Module`` as a model that can be explained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.device import choose_device
from ..core.errors import ModelError, OptionError
from ..models.explained_model import Capabilities, ExplainedModel, Inferer, ModelTask
from ..models.layer_survey import example_shapes
from ..models.network_facts import input_channels, output_channels, spatial_dims
from ..models.outputs import selector_for
from ..models.probing import output_count
from ..models.settings import usual_activation

if TYPE_CHECKING:
    import torch
    from torch import nn

TASKS: tuple[str, ...] = ("classification", "multilabel", "regression", "segmentation")
Activation = Literal["softmax", "sigmoid", "none"]


def wrap(
    module: nn.Module,
    task: ModelTask | None = None,
    labels: Sequence[str] = (),
    *,
    spacing: Sequence[float] | float | None = None,
    orientation: str = "",
    preprocessing: Sequence[Callable[..., Any]] | Callable[[], list[Any]] = (),
    plane: Literal["axial", "coronal", "sagittal"] = "axial",
    window: Sequence[int] = (),
    overlap: float = 0.25,
    activation: Activation | None = None,
    channels: int | Sequence[str] | None = None,
    dimensions: Literal[2, 3] | None = None,
    target: str = "",
    select_output: Callable[[Any], torch.Tensor] | None = None,
    free_batch: bool = True,
    name: str = "",
    device: str | None = None,
) -> ExplainedModel:
    """An own network as a model that can be explained.

    The module is put into evaluation mode and stays the caller's: give a copy to go on training.

    Args:
        module: takes (N, channels, spatial...) and gives (N, outputs), or (N, outputs, spatial...) for segmentation.
            With two spatial axes it sees pictures, or the slices of a volume along ``plane``.
        task: classification, multilabel, regression or segmentation; found out by running the module if None.
        labels: a name for each output.
        spacing: mm per voxel that scans are resampled to first; as they are if None.
        orientation: axis codes that scans are turned to first, for example ``"RAS"``; as they are if empty.
        preprocessing: MONAI transforms or functions of an image (channels, I, J, K), after the above, in order.
        window: size in voxels of sliding windows of a segmentation; the whole scan if empty.
        activation: what turns outputs into probabilities; softmax, sigmoid (multilabel, one output) or none
            (regression) by default. Give ``"none"`` for a network that ends in its own softmax.
        channels: number or names of the input channels; that of the first convolution by default.
        dimensions: spatial axes of the input, 2 or 3; those of the first convolution by default.
        target: label that is explained where none is asked for.
        select_output: takes the prediction out of what the module returns, where that is not found by itself.
        free_batch: whether the module takes any number of samples at once.

    Raises:
        OptionError: unknown task, labels that are not as many as the outputs, no such device.
        ModelError: what the module takes could not be found out.
    """
    import torch

    if not isinstance(module, torch.nn.Module):
        raise OptionError(f"wrap takes a torch.nn.Module, not {type(module).__name__}.", "Give the network itself.")
    if task is not None and task not in TASKS:
        raise OptionError(f"There is no task called {task!r}.", f"Choose from {', '.join(TASKS)}.")
    module.eval()
    named = tuple(channels) if isinstance(channels, Sequence) else ()
    steps = _steps(spacing, orientation, preprocessing)
    dims = dimensions or spatial_dims({}, module)
    count = len(named) if named else channels or input_channels({}, module) or 1
    model = ExplainedModel(
        name=name or type(module).__name__,
        network=module,
        task=task or "classification",
        labels=tuple(str(label) for label in labels),
        digest="",
        source=Path(),
        format="a module made in Python",
        spatial_dims=dims,
        in_channels=int(count) if not isinstance(count, Sequence) else len(count),
        channel_names=named,
        preprocessing=steps,
        inferer=_inferer(dims, plane, tuple(int(size) for size in window), overlap),
        capabilities=_capabilities(free_batch),
        select_output=select_output or selector_for(module),
        target=str(target),
    )
    shapes = example_shapes(model.spatial_dims, model.in_channels, model.inferer.roi_size, ())
    model = _completed(replace(model, example_shape=shapes[0]), task, shapes)
    chosen = activation or usual_activation(model.task, len(model.labels))
    if model.target:
        model.label_index(model.target)
    model = replace(model, activation=chosen, digest=_digest(module, steps, model))
    return model if device is None else model.to(choose_device(device))


def _inferer(dims: int, plane: Any, window: tuple[int, ...], overlap: float) -> Inferer:
    if window:
        return Inferer("sliding_window", plane, window, overlap)
    return Inferer("whole" if dims == 3 else "slices", plane)


def _capabilities(free_batch: bool) -> Capabilities:
    reasons = {} if free_batch else {"free_batch": "it was wrapped as taking one sample at a time"}
    return Capabilities(free_batch=free_batch, reasons=reasons)


class _steps:
    """A model's preprocessing: called, it gives the transforms."""

    def __init__(self, spacing: Any, orientation: str, given: Any) -> None:
        self.spacing = tuple(map(float, spacing)) if isinstance(spacing, Sequence) else spacing
        self.orientation, self.given = orientation, given

    def __call__(self) -> list[Any]:
        from monai.transforms import Orientation, Spacing

        steps: list[Any] = []
        if self.orientation:
            steps.append(Orientation(axcodes=self.orientation))
        if self.spacing is not None:
            sizes = self.spacing if isinstance(self.spacing, tuple) else (float(self.spacing),) * 3
            # An axis that is not named (across a picture) keeps its spacing.
            steps.append(Spacing(pixdim=(*sizes, *[-1.0] * (3 - len(sizes))), mode="bilinear"))
        given = self.given
        if callable(given) and not isinstance(given, Sequence):
            return [*steps, *_transforms_of(given)]
        return [*steps, *given]

    def __repr__(self) -> str:
        return f"{self.orientation} {self.spacing} {[_text_of(step) for step in self()]}"


def _transforms_of(given: Any) -> list[Any]:
    """A Compose is a transform by itself; a function without arguments gives transforms."""
    from monai.transforms import Transform

    return [given] if isinstance(given, Transform) else list(given())


def _text_of(step: Any) -> str:
    """A transform with its settings, the same in every process."""
    settings = {key: value for key, value in vars(step).items() if _plain(value)} if hasattr(step, "__dict__") else {}
    code = getattr(step, "__code__", None)
    return f"{getattr(step, '__qualname__', type(step).__name__)} {settings} {code.co_code if code else ''}"


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (str, int, float, bool))


def _completed(model: ExplainedModel, task: ModelTask | None, shapes: Sequence[tuple[int, ...]]) -> ExplainedModel:
    """Task and labels from what the network gives for an example, where they were not given."""
    if task is not None and model.labels:
        found = output_channels({}, model.network)
        return model if found == 0 or len(model.labels) == found else _counted(model, task, shapes)
    return _counted(model, task, shapes)


def _counted(model: ExplainedModel, task: ModelTask | None, shapes: Sequence[tuple[int, ...]]) -> ExplainedModel:
    count, is_map, shape = _outputs(model, shapes)
    if not count:
        if model.labels and task is not None:
            return model
        raise ModelError(
            f"The module takes none of the usual inputs ({' or '.join(str(item) for item in shapes[:3])}), so its "
            "outputs could not be counted.",
            "Give task and labels, and channels and dimensions if it has no convolution.",
        )
    binary = count == 1 and len(model.labels) == 2
    if model.labels and len(model.labels) != count and not binary:
        raise OptionError(
            f"{len(model.labels)} labels were given, the module has {count} outputs.", "Name every output."
        )
    chosen: ModelTask = task or ("segmentation" if is_map else "classification")
    labels = model.labels or tuple(f"class {number}" for number in range(count))
    return replace(model, task=chosen, labels=labels, example_shape=shape)


def _outputs(model: ExplainedModel, shapes: Sequence[tuple[int, ...]]) -> tuple[int, bool, tuple[int, ...]]:
    for shape in shapes:
        try:
            count, is_map = output_count(replace(model, example_shape=shape))
        except ModelError:
            continue
        return count, is_map, shape
    return 0, False, ()


def _digest(module: nn.Module, steps: Any, model: ExplainedModel) -> str:
    """SHA-256 of weights, structure, preprocessing and inference: reference statistics belong to all of them."""
    total = hashlib.sha256(f"{module!r}\0{steps!r}\0{model.inferer!r}\0{model.task}".encode())
    state: Mapping[str, Any] = module.state_dict()
    for key in sorted(state):
        total.update(key.encode())
        if hasattr(state[key], "detach"):
            total.update(state[key].detach().cpu().contiguous().flatten().view(_bytes()).numpy().tobytes())
    return total.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
