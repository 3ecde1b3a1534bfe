"""A loaded model with what the engine must know to explain it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.device import is_out_of_memory
from ..core.errors import ModelError, OptionError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .files import ModelFiles

ModelTask = Literal["classification", "multilabel", "regression", "segmentation"]
Inference = Literal["whole", "slices", "sliding_window"]


@dataclass(frozen=True)
class Capabilities:
    """What can be done with a model. A method whose needs are not met is refused with ``reasons[need]``."""

    layers: bool = True
    free_batch: bool = True
    differentiable: bool = True
    reasons: Mapping[str, str] = field(default_factory=dict)

    def require(self, need: Literal["layers", "free_batch", "differentiable"], method: str) -> None:
        """Raise ModelError when ``method`` needs what this model cannot give."""
        if not getattr(self, need):
            raise ModelError(
                f"{method} cannot be applied to this model: {self.reasons.get(need, need)}.",
                "Choose a method that needs no more than the model's output, or give the model in another format.",
            )


@dataclass(frozen=True)
class Inferer:
    """How the network sees a scan. ``plane`` serves ``slices``; window settings serve ``sliding_window``.

    ``scheme`` says whose rules place and weight the windows: MONAI's or nnU-Net's.
    """

    kind: Inference = "whole"
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    roi_size: tuple[int, ...] = ()
    overlap: float = 0.25
    blending: Literal["constant", "gaussian"] = "constant"
    sigma_scale: float = 0.125
    sw_batch_size: int = 1
    padding_mode: str = "constant"
    cval: float = 0.0
    scheme: Literal["monai", "nnunet"] = "monai"


@dataclass(frozen=True)
class ExplainedModel:
    """A model ready to be explained.

    ``network`` is in evaluation mode. ``preprocessing`` gives the MONAI transforms that turn a scan
    (a channel-first MetaTensor in RAS millimeters) into the network's input. ``labels`` name the outputs:
    the channels of the last layer. ``digest`` is the SHA-256 of weights and configuration. ``defaults`` are
    the model's own settings per task (``configs/explanation.json``). ``select_output`` takes the tensor
    out of tuples, lists and dictionaries that a network may return. ``files`` reads the model's own files;
    ``reference`` names the one with the statistics of its layers over reference images, if it has one.
    ``example_shape`` (N, C, spatial...) is an input that the network takes. ``statistics`` are reference statistics in
    memory, by layer, which come before those in files; ``examples`` are healthy reference scans in memory, as the
    network sees them (each (C, spatial...)). ``axis_order`` is that of a 2D network's pictures and slices, ""
    where it is not described (see :mod:`xaiengine.models.axis_order`).
    ``grading`` is the scale that the model asks for, where its findings are those of one disease ("" for none).
    """

    name: str
    network: nn.Module
    task: ModelTask
    labels: tuple[str, ...]
    digest: str
    source: Path
    format: str
    spatial_dims: int = 2
    in_channels: int = 1
    channel_names: tuple[str, ...] = ()
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"
    preprocessing: Callable[[], list[Any]] = list
    inferer: Inferer = Inferer()
    capabilities: Capabilities = Capabilities()
    layers: tuple[str, ...] = ()
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    select_output: Callable[[Any], Any] = lambda output: output
    target: str = ""
    notes: tuple[str, ...] = ()
    files: ModelFiles | None = None
    reference: str = ""
    example_shape: tuple[int, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Any, ...] = ()
    axis_order: Literal["", "rows_first", "columns_first"] = ""
    grading: Literal["", "covid-19"] = ""

    def __post_init__(self) -> None:
        """From now on the network is called with a copy of its input, which it may change."""
        from .calling import own_input

        object.__setattr__(self, "network", own_input(self.network))

    def to(self, device: torch.device) -> ExplainedModel:
        """The same model with its network on a device."""
        return replace(self, network=self.network.to(device))

    @property
    def device(self) -> torch.device:
        import torch

        parameter = next(self.network.parameters(), None)
        return parameter.device if parameter is not None else torch.device("cpu")

    def label_index(self, label: str | int) -> int:
        """The output channel of a label, given by name or number. Raises OptionError naming the labels."""
        if isinstance(label, int) or str(label).lstrip("-").isdigit():
            index = int(label)
            if 0 <= index < len(self.labels):
                return index
        elif label in self.labels:
            return self.labels.index(label)
        known = ", ".join(f"{number} {name}" for number, name in enumerate(self.labels))
        raise OptionError(f"The model {self.name} has no output {label!r}.", f"Its outputs are: {known}.")

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Probabilities from logits of shape (N, C, ...): softmax, sigmoid, or the values themselves."""
        if self.activation == "softmax":
            return logits.float().softmax(1)
        return logits.float().sigmoid() if self.activation == "sigmoid" else logits.float()

    def predict(self, batch: torch.Tensor) -> torch.Tensor:
        """Raw outputs, shape (N, C, ...), of a batch of inputs (N, channels, spatial...) without gradients."""
        import torch

        rows = batch.split(1) if not self.capabilities.free_batch else [batch]
        with torch.inference_mode():
            return torch.cat([self._row(part.to(self.device)) for part in rows])

    def _row(self, batch: torch.Tensor) -> torch.Tensor:
        """One pass. An input of a size that the network does not take ends in a sentence, not in PyTorch's words."""
        try:
            return self.select_output(self.network(batch))
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            if is_out_of_memory(error) or tuple(batch.shape[1:]) == self.example_shape[1:]:
                raise
            given, known = (" x ".join(map(str, shape[2:])) for shape in (batch.shape, self.example_shape))
            raise ModelError(
                f"The network {self.name} does not take an image of {given} "
                f"({str(error).strip().splitlines()[-1][:160] if str(error) else type(error).__name__}); "
                f"it takes {known or 'another size'}.",
                "Bring scans to its size with a Resize step in its preprocessing (describe-model --size).",
            ) from error

    def read_reference(self) -> tuple[dict[str, torch.Tensor], dict[str, str]] | None:
        """Tensors and metadata of the model's reference statistics; None when it ships none.

        Raises:
            ModelError: the file named in ``configs/explanation.json`` is missing or damaged.
        """
        if not self.reference or self.files is None:
            return None
        from .formats.weights import read_safetensors_metadata, read_state

        metadata = read_safetensors_metadata(self.files.read(self.reference), self.reference)
        return read_state(self.files, self.reference), metadata
