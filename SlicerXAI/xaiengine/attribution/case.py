"""One question to a model: what is explained, on which grid, and the settings that every method shares.

Methods see the :class:`Case` alone, so that they explain predictions (:mod:`xaiengine.attribution.whole_case`) and
segmentations (:mod:`xaiengine.attribution.window_case`) alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import nn

from ..core.errors import ModelError
from ..core.progress import Progress
from .bottleneck.settings import Direction
from .forward import Attribution, Forward, TargetForward
from .passes import Kind, Passes

MASK_CELLS = 7
"""Of random masks along the longest side."""
ModuleCall = Callable[[TargetForward, torch.Tensor, torch.Tensor], Attribution]
"""A method that needs the network as a module: gets it with inputs and baseline (or baselines), all of one sample
or window."""
LayerCall = Callable[[TargetForward, nn.Module, str, torch.Tensor, torch.Tensor], Attribution]
"""The same with a layer and its name; gives (N, 1, cells...)."""


@dataclass(frozen=True)
class Piece:
    """Rows that are explained together: ``forward`` gives their values for ``inputs`` (n, C, spatial...)."""

    forward: Forward
    inputs: torch.Tensor
    baseline: torch.Tensor
    batch_size: int
    row: int


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """A layer's activation (R, K, cells...), the derivatives of each row's value with respect to it, and, summed over
    channels (R, cells...), gradient times activation, and positive gradient times activation."""

    activation: torch.Tensor
    gradient: torch.Tensor
    product: torch.Tensor
    positive_product: torch.Tensor


class Case(Protocol):
    """What a method may ask. Rows R are the samples of a prediction, or the targets of a segmentation.

    Attributes:
        kind: of the model.
        network: the module itself.
        inputs, baseline: (R, C, spatial...), in the network's own values.
        spacing: mm per spatial axis.
        layers: for class activation maps and layer methods, the deepest last.
        bottleneck_layers: the earliest first.
        settings: of all methods together, by name; each takes its own (:meth:`AttributionMethod.settings`).
        roi: (spatial...) or (R, spatial...) bool, to which occlusion is limited.
        batch_size: rows at a time.
        usual_path_steps, most_path_steps: of path integrals whose number of steps is automatic.
        default_block_mm: of occlusion.
        mask_cells: cells of random masks along each axis.
    """

    settings: Mapping[str, Any]
    seed: int
    batch_size: int
    progress: Progress | None
    memory: dict[Any, Any]

    @property
    def kind(self) -> Kind: ...
    @property
    def network(self) -> nn.Module: ...
    @property
    def inputs(self) -> torch.Tensor: ...
    @property
    def baseline(self) -> torch.Tensor: ...
    @property
    def spacing(self) -> tuple[float, ...]: ...
    @property
    def layers(self) -> Sequence[str]: ...
    @property
    def bottleneck_layers(self) -> Sequence[str]: ...
    @property
    def multilayer_layers(self) -> Sequence[str]:
        """Of the multi-layer bottleneck: an early one and one or more that gate it."""
        ...

    @property
    def roi(self) -> torch.Tensor | None: ...
    @property
    def usual_path_steps(self) -> int: ...
    @property
    def most_path_steps(self) -> int: ...
    @property
    def default_block_mm(self) -> float: ...
    @property
    def mask_cells(self) -> Sequence[int]: ...
    @property
    def rowwise_passes(self) -> float:
        """Evaluations of the network that show every row once, each by itself."""
        ...

    def value_pass(self, rowwise: bool = False) -> Passes:
        """What the values of all rows take; ``rowwise`` where rows cannot share passes."""
        ...

    def gradient_pass(self, rowwise: bool = False) -> Passes:
        """What the gradients of all rows take."""
        ...

    def changed_passes(self, boxes: Sequence[tuple[slice, ...]]) -> float:
        """Evaluations that values of the image changed in each of these boxes take, for all rows."""
        ...

    def forward(self) -> Forward:
        """The network as a function to the explained numbers: row r of a batch belongs to row r mod R of the case."""
        ...

    def pieces(self, rowwise: bool = False) -> list[Piece]:
        """The rows as a method that draws random numbers takes them: together, or each by itself."""
        ...

    def labels(self, row: int, regions: int) -> torch.Tensor:
        """Regions 1, 2, ... (spatial...) of a row: given segments, or about ``regions`` supervoxels."""
        ...

    def reference_examples(self) -> torch.Tensor:
        """Healthy reference scans (E, C, spatial...) as the network sees them.

        Raises OptionError when there are none of the input's size.
        """
        ...

    def shap_baselines(self, count: int) -> torch.Tensor:
        """Several baselines (B, C, spatial...)."""
        ...

    def features(self) -> Mapping[str, LayerMaps]:
        """The maps of :attr:`layers`, from one pass."""
        ...

    def activation(self, layer: str) -> torch.Tensor:
        """A layer's activation (R, K, cells...), without derivatives."""
        ...

    def original_cam(self, layer: str) -> torch.Tensor:
        """Feature maps weighted as the network's last linear layer weighs them, (R, cells...)."""
        ...

    def masks_on_input(self, layer: str, masks: torch.Tensor) -> torch.Tensor:
        """Cell values (n, cells...) on the voxels of the input (n, spatial...)."""
        ...

    def from_cells(self, layer: str, cells: torch.Tensor, found: Attribution, amounts: bool = False) -> Attribution:
        """Values of a layer's cells (R, cells...) as a result, with all else from ``found``.

        ``amounts`` are per cell and become amounts per voxel.
        """
        ...

    def by_module(self, title: str, call: ModuleCall, linear: bool = False, baselines: int = 0) -> Attribution:
        """Run a method that needs the network as a module: on all rows, or window by window.

        ``linear``: window by window it is right for targets only that are linear in the output. ``baselines``: it is
        given so many in place of one.
        """
        ...

    def at_layer(self, layer: str, call: LayerCall) -> Attribution:
        """The same at a layer; the result is on the input's voxels (or the layer's lattice)."""
        ...

    def bits(self, settings: Any, direction: Direction) -> Attribution: ...
    def multilayer_bits(self, settings: Any) -> Attribution: ...
    def input_bits(self, settings: Any) -> Attribution: ...

    def on_input(self, found: Attribution) -> torch.Tensor:
        """A result's map (R, C, spatial...) on the voxels of the input, whatever grid it was made on."""
        ...

    # ------------------------------------------------------------------ what the runner needs

    @property
    def device(self) -> torch.device: ...
    @property
    def sample(self) -> torch.Tensor:
        """A batch as the network takes it: one row, or one window."""
        ...

    def evaluate(self, batch: torch.Tensor) -> torch.Tensor:
        """The network's output for a batch, of which the pass counts and progress know."""
        ...

    def select(self, output: Any) -> torch.Tensor:
        """The explained tensor of what :meth:`tail`'s module returns."""
        ...

    def tail(self) -> tuple[nn.Module, str]:
        """The module and the name of the bottleneck's layer in it."""
        ...

    def check(self, methods: Sequence[Any]) -> None:
        """Raise ModelError for the first method whose needs the model does not meet."""
        ...

    def reporting(self, information: bool) -> AbstractContextManager[None]:
        """Counted passes advance the running stage of the progress inside the block."""
        ...

    def smaller(self, title: str, warn: Callable[[str], None], error: Exception) -> None:
        """Take less memory from now on. Raises ResourceError when that is not possible."""
        ...


class Remembering:
    """Shared by the cases: results that several methods need are made once."""

    memory: dict[Any, Any]

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made at the first call with this key."""
        if key not in self.memory:
            self.memory[key] = make()
        return self.memory[key]


def joined(parts: Sequence[Attribution]) -> Attribution:
    """Results of single rows as one; the figures are the worst of the rows'."""
    if len(parts) == 1:
        return parts[0]
    worst = {
        key: (min if key in ("fit_r2", "converged_share") else max)(part.convergence[key] for part in parts)
        for key in parts[0].convergence
    }
    extras = {key: torch.cat([part.extras[key] for part in parts]) for key in parts[0].extras}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return replace(
        parts[0],
        map=torch.cat([part.map for part in parts]),
        convergence=worst,
        extras=extras,
        notes=notes,
        by_row=tuple(part.convergence for part in parts),
    )


def with_layers(parts: Sequence[Attribution]) -> Attribution:
    """Results at several layers as one: the last is shown, the others come with it."""
    return replace(parts[-1], others=tuple(parts[:-1]))


def some_layer(layers: Sequence[str]) -> Sequence[str]:
    """The layers, which must not be none."""
    if not layers:
        raise ModelError("The model has no layer with a feature map.", "Choose a method that needs no layer.")
    return layers
