"""``xai.wrap``: an own ``nn.Module`` as a model that can be explained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.device import choose_device
from ..core.errors import ModelError, OptionError
from ..models.axis_order import ordered
from ..models.explained_model import Capabilities, ExplainedModel, Inferer, ModelTask
from ..models.network_facts import input_channels, spatial_dims
from ..models.settings import usual_activation
from ..models.understanding import prediction_shape, understood

if TYPE_CHECKING:
    from torch import nn

TASKS: tuple[str, ...] = ("classification", "multilabel", "regression", "segmentation")
Activation = Literal["softmax", "sigmoid", "none"]
EXAMPLE_SIDES = {2: (64, 128, 224, 256), 3: (32, 64, 96, 128)}
"""Sizes that are tried in turn to see what a module gives."""


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
    input_size: Sequence[int] = (),
    output: str | int = "",
    passes: int = 0,
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
            (regression) by default. A network that ends in its own softmax or sigmoid is found out.
        channels: number or names of the input channels; that of the first convolution by default.
        dimensions: spatial axes of the input, 2 or 3; those of the first convolution by default.
        target: label that is explained where none is asked for.
        input_size: spatial size of the input, where the module takes one size only.
        output: place of the prediction in the tuple or dictionary that the module returns; found out if empty.
        passes: explain the mean of so many passes of a module that is random (dropout left on).
        free_batch: give False for a module that takes one sample at a time.

    Raises:
        OptionError: unknown task, or one that the module does not do; no such device.
        ModelError: labels that are not as many as the outputs; what the module takes could not be found out; it
            gives another answer at each pass.
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
        target=str(target),
        example_shape=(1, 1, *[int(size) for size in input_size]) if input_size else (),
    )
    model = understood(
        _completed(model, task), activation=activation, output=output, passes=passes, named=bool(labels), probe=True
    )
    if not free_batch:
        model = replace(model, capabilities=_one_at_a_time(model.capabilities))
    if model.target:
        model.label_index(model.target)
    model = replace(model, digest=_digest(module, steps, model))
    model = ordered(model)
    return model if device is None else model.to(choose_device(device))


def _inferer(dims: int, plane: Any, window: tuple[int, ...], overlap: float) -> Inferer:
    if window:
        return Inferer("sliding_window", plane, window, overlap)
    return Inferer("whole" if dims == 3 else "slices", plane)


def _one_at_a_time(found: Capabilities) -> Capabilities:
    reason = "it was wrapped as taking one sample at a time"
    return replace(found, free_batch=False, reasons={**found.reasons, "free_batch": reason})


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


def _completed(model: ExplainedModel, task: ModelTask | None) -> ExplainedModel:
    """Task and labels from what the network gives for an example, where they were not given."""
    model, shape = _prediction(model)
    is_map = len(shape) > 2 and max(shape[2:]) > 1
    chosen: ModelTask = task or ("segmentation" if is_map else "classification")
    if is_map != (chosen == "segmentation"):
        gives = "an output for each voxel" if is_map else f"{shape[1]} numbers for an image"
        raise OptionError(
            f"The module gives {gives} ({' x '.join(map(str, shape))}), which is no {chosen}.",
            'Give task="segmentation".' if is_map else "Give another task.",
        )
    labels = model.labels or tuple(f"class {number}" for number in range(shape[1]))
    return replace(model, task=chosen, labels=labels, activation=usual_activation(chosen, len(labels)))


def _prediction(model: ExplainedModel) -> tuple[ExplainedModel, tuple[int, ...]]:
    """The model with an example input that the module takes, and the shape (N, C, ...) of its prediction."""
    fixed = model.example_shape[2:] or model.inferer.roi_size
    sizes = [tuple(fixed)] if fixed else [(side,) * model.spatial_dims for side in EXAMPLE_SIDES[model.spatial_dims]]
    problem: ModelError | None = None
    for size in sizes:
        tried = replace(model, example_shape=(1, model.in_channels, *size))
        try:
            return tried, prediction_shape(tried, len(model.labels))
        except ModelError as error:
            problem = problem or error
    assert problem is not None
    raise ModelError(
        problem.message, "Give input_size, and channels and dimensions if the first layer is no convolution."
    ) from problem


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
