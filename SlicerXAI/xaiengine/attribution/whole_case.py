"""A prediction as a case: samples of one scan (slices, or the whole volume) and one target, explained together."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import OptionError, ResourceError
from ..core.progress import Progress
from ..models.explained_model import Capabilities
from ..network.feature_grid import FeatureGrid, feature_grid
from ..network.layers import find_layer
from ..targets.targets import RegressionTarget, Target
from .baselines import gaussian_blur
from .bottleneck.bottleneck import BottleneckSettings
from .bottleneck.information import InformationRequest, information, multilayer_information
from .bottleneck.input_bottleneck import InputBottleneckSettings, input_information
from .bottleneck.settings import Direction
from .bottleneck.statistics import ReferenceStatistics
from .cam import original_cam, record_layers, upsample
from .case import MASK_CELLS, LayerCall, LayerMaps, ModuleCall, Piece, Remembering, some_layer
from .feature_maps import coarse_note, require_maps
from .forward import Attribution, TargetForward
from .placement import placed
from .reference_game import fitting_examples
from .regions import supervoxels
from .registry import AttributionMethod, Kind, Passes, check_settings

DESTROY_VALUE_BETA = 10.0
"""The published 30 is for cross-entropy, which grows without end; a value can be destroyed once only."""
SAMPLE_ROWS = 4
"""Rows at most of the pass that is timed."""


def check_needs(methods: Sequence[AttributionMethod], capabilities: Capabilities) -> None:
    """Raise ModelError for the first method whose needs a model does not meet."""
    for method in methods:
        for need in method.needs:
            capabilities.require(need, method.title)


@dataclass
class WholeCase(Remembering):
    """Samples (N, C, spatial...) of one scan, explained together.

    ``spacing`` is in mm per spatial axis. ``layers`` are those asked for (the deepest last); bottlenecks use
    ``bottleneck_layers``. ``statistics`` gives reference statistics by layer, ``examples`` healthy reference scans
    (C, spatial...). ``segments`` is a label image (N, spatial...) for methods on regions; supervoxels are made where
    it is None.
    """

    network: nn.Module
    target: Target
    inputs: torch.Tensor
    baseline: torch.Tensor
    spacing: tuple[float, ...]
    layers: tuple[str, ...]
    bottleneck_layers: tuple[str, ...]
    statistics: Callable[[str], ReferenceStatistics]
    select_output: Callable[[Any], torch.Tensor] = lambda output: output
    settings: Mapping[str, Any] = field(default_factory=dict)
    examples: Callable[[], Sequence[torch.Tensor]] = tuple
    segments: np.ndarray | None = None
    roi: torch.Tensor | None = None
    seed: int = 0
    batch_size: int = 8
    progress: Progress | None = None
    capabilities: Capabilities = Capabilities()
    memory: dict[Any, Any] = field(default_factory=dict)

    usual_path_steps = 48
    most_path_steps = 256

    def __post_init__(self) -> None:
        check_settings(self.settings)
        named = dict.fromkeys((*self.layers, *self.bottleneck_layers))
        with torch.no_grad():
            require_maps(lambda inputs: self.select_output(self.network(inputs)), self.network, named, self.inputs[:1])

    def with_(self, **changes: Any) -> WholeCase:
        """A changed case without remembered results."""
        return replace(self, memory={}, **changes)

    @property
    def kind(self) -> Kind:
        return "regression" if isinstance(self.target, RegressionTarget) else "classification"

    @property
    def multilayer_layers(self) -> tuple[str, ...]:
        return self.bottleneck_layers

    @property
    def samples(self) -> int:
        return len(self.inputs)

    @property
    def voxels(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[2:])

    @property
    def default_block_mm(self) -> float:
        """An eighth of the shortest extent."""
        return min(size * step for size, step in zip(self.voxels, self.spacing)) / 8

    @property
    def mask_cells(self) -> tuple[int, ...]:
        return (MASK_CELLS,) * len(self.voxels)

    # ------------------------------------------------------------------ passes

    @property
    def rowwise_passes(self) -> float:
        return float(self.samples)

    def value_pass(self, rowwise: bool = False) -> Passes:
        return Passes(self.samples)

    def gradient_pass(self, rowwise: bool = False) -> Passes:
        return Passes(self.samples, self.samples)

    def changed_passes(self, boxes: Sequence[tuple[slice, ...]]) -> float:
        return float(len(boxes) * self.samples)

    # ------------------------------------------------------------------ the network as a function

    def forward(self) -> TargetForward:
        return TargetForward(self.network, self.target, self.select_output, self.progress)

    def pieces(self, rowwise: bool = False) -> list[Piece]:
        forward = self.forward()
        if not rowwise:
            return [Piece(forward, self.inputs, self.baseline, self.batch_size, 0)]
        return [
            Piece(forward, self.inputs[row : row + 1], self.baseline[row : row + 1], self.batch_size, row)
            for row in range(self.samples)
        ]

    def by_module(self, title: str, call: ModuleCall, linear: bool = False, baselines: int = 0) -> Attribution:
        return call(self.forward(), self.inputs, self.shap_baselines(baselines) if baselines else self.baseline)

    def at_layer(self, layer: str, call: LayerCall) -> Attribution:
        found = call(self.forward(), find_layer(self.network, layer), layer, self.inputs, self.baseline)
        return self.from_cells(layer, found.map[:, 0], replace(found, unit="change per voxel"), amounts=True)

    # ------------------------------------------------------------------ regions and baselines

    def labels(self, row: int, regions: int) -> torch.Tensor:
        if self.segments is not None:
            used, labels = np.unique(self.segments[row], return_inverse=True)
            if used[0] != 0:
                labels = labels + 1
            if len(used[used > 0]) < 2:
                raise OptionError(
                    "Fewer than two segments lie in an explained slice, so they cannot be compared.",
                    "Give more segments, or leave them out to use supervoxels.",
                )
            return torch.as_tensor(labels.reshape(self.segments[row].shape))
        return self.once(("supervoxels", row, regions), lambda: self._supervoxels(row, regions))

    def _supervoxels(self, row: int, regions: int) -> torch.Tensor:
        image = self.inputs[row].mean(0).float().cpu().numpy()
        return torch.as_tensor(supervoxels(image, self.spacing, regions).astype(np.int64))

    def reference_examples(self) -> torch.Tensor:
        return self.once("examples", lambda: fitting_examples(self.examples(), self.inputs))

    def shap_baselines(self, count: int) -> torch.Tensor:
        """The chosen baseline of the first sample, and that sample blurred more and less."""
        widths = np.geomspace(1 / 24, 1 / 4, max(2, count) - 1)
        blurred = [gaussian_blur(self.inputs[:1], [width * size for size in self.voxels]) for width in widths]
        return torch.cat([self.baseline[:1], *blurred])

    # ------------------------------------------------------------------ layers

    def cells(self, layer: str) -> FeatureGrid:
        return self.once(("cells", layer), lambda: feature_grid(self.network, layer, self.inputs[:1]))

    def features(self) -> Mapping[str, LayerMaps]:
        return self.once("features", self._features)

    def _features(self) -> dict[str, LayerMaps]:
        layers = {name: find_layer(self.network, name) for name in some_layer(self.layers)}
        activations, gradients, _ = record_layers(self.forward().output, layers, self.inputs, self.target)
        found = {}
        for name in layers:
            activation, gradient = activations[name].detach().float(), gradients[name]
            found[name] = LayerMaps(
                activation, gradient, (gradient * activation).sum(1), (gradient.relu() * activation).sum(1)
            )
        return found

    def activation(self, layer: str) -> torch.Tensor:
        return self._recorded(layer)[0]

    def _recorded(self, layer: str) -> tuple[torch.Tensor, torch.Tensor]:
        layers = {layer: find_layer(self.network, layer)}
        activations, _, output = record_layers(self.forward().output, layers, self.inputs, self.target, False)
        return activations[layer].detach(), output.detach()

    def original_cam(self, layer: str) -> torch.Tensor:
        activation, output = self._recorded(layer)
        return original_cam(self.forward(), find_layer(self.network, layer), layer, activation, output, self.target)

    def masks_on_input(self, layer: str, masks: torch.Tensor) -> torch.Tensor:
        return upsample(masks, self.voxels)

    def from_cells(self, layer: str, cells: torch.Tensor, found: Attribution, amounts: bool = False) -> Attribution:
        voxels = placed(cells, self.cells(layer), self.voxels)[:, None]
        if amounts:
            voxels = voxels * (cells[0].numel() / voxels[0, 0].numel())
        note = coarse_note(layer, cells.shape[1:], self.voxels)
        return replace(found, map=voxels, layer=layer, notes=(*found.notes, note) if note else found.notes)

    def on_input(self, found: Attribution) -> torch.Tensor:
        return found.map

    # ------------------------------------------------------------------ information bottlenecks

    def bits(self, settings: Any, direction: Direction) -> Attribution:
        layer = some_layer(self.bottleneck_layers)[0]
        return replace(information(self._request(settings, direction), layer, self.inputs), layer=layer)

    def multilayer_bits(self, settings: Any) -> Attribution:
        return multilayer_information(
            self._request(settings), self.bottleneck_layers, self.inputs, gate=settings.gate, part=settings.gate_part
        )

    def input_bits(self, settings: Any) -> Attribution:
        layer = some_layer(self.bottleneck_layers)[0]
        return input_information(self._request(settings), layer, self.inputs, InputBottleneckSettings(seed=self.seed))

    def _request(self, settings: Any, direction: Direction = "keep") -> InformationRequest:
        def report(share: float) -> None:
            if self.progress is not None:
                self.progress.update(round(1000 * share), 1000)

        # The quicker optimiser of the converged mode lets go of parts of what must be destroyed (measured on planted
        # lesions: 42 instead of 470 bits), so the published one serves there.
        mode = settings.schedule
        published: dict[str, Any] = (
            {"learning_rate": 1.0, "adam_betas": (0.9, 0.999)} if direction == "destroy" and mode != "full" else {}
        )
        beta = settings.beta
        if beta is None and direction == "destroy" and isinstance(self.target, RegressionTarget):
            beta = DESTROY_VALUE_BETA
        return InformationRequest(
            self.network,
            self.target,
            self.statistics,
            self.select_output,
            BottleneckSettings(mode=mode, direction=direction, beta=beta, seed=self.seed, **published),
            settings.regression_loss,
            settings.regression_label,
            report,
        )

    # ------------------------------------------------------------------ running

    @property
    def device(self) -> torch.device:
        return self.inputs.device

    @property
    def sample(self) -> torch.Tensor:
        return self.inputs[:1]

    def evaluate(self, batch: torch.Tensor) -> torch.Tensor:
        return self.select_output(self.network(batch))

    def select(self, output: Any) -> torch.Tensor:
        return self.select_output(output)

    def tail(self) -> tuple[nn.Module, str]:
        return self.network, some_layer(self.bottleneck_layers)[0]

    def check(self, methods: Sequence[AttributionMethod]) -> None:
        check_needs(methods, self.capabilities)

    @contextmanager
    def reporting(self, information: bool) -> Iterator[None]:
        yield

    def smaller(self, title: str, warn: Callable[[str], None], error: Exception) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.memory.clear()
        if self.batch_size > 1:
            self.batch_size = -(-self.batch_size // 2)
            warn(f"{title} runs {self.batch_size} inputs per pass, because memory was short.")
            return
        if self.device.type == "cpu":
            raise ResourceError(
                f"The memory is not enough for {title} at one input per pass.",
                "Crop the scan to the region of interest, or choose a method without gradients.",
            ) from error
        warn(f"{title} did not fit into the memory of {self.device}; it and what follows ran on the CPU.")
        self.network.cpu()
        self.inputs, self.baseline = self.inputs.cpu(), self.baseline.cpu()
        self.roi = None if self.roi is None else self.roi.cpu()
