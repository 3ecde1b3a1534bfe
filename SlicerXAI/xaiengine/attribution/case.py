"""One question to a model: the samples, the target and the settings that every attribution method shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ..core.errors import ModelError, OptionError
from ..core.progress import Progress
from ..network.feature_grid import FeatureGrid, feature_grid
from ..network.layers import find_layer
from ..targets.targets import RegressionTarget, Target
from .baselines import gaussian_blur
from .bottleneck.bottleneck import BottleneckSettings
from .bottleneck.information import Gate, InformationRequest, RegressionLoss
from .bottleneck.statistics import ReferenceStatistics
from .forward import TargetForward
from .regions import supervoxels

DESTROY_VALUE_BETA = 10.0
"""The published 30 is for cross-entropy, which grows without end; a value can be destroyed once only."""


@dataclass(frozen=True)
class MethodSettings:
    """What the methods can be told. Lengths are in mm, ``roi`` is (spatial...), counts are per sample."""

    steps: int = 0
    max_steps: int = 256
    layer_steps: int = 32
    samples: int = 32
    noise: float = 0.1
    shap_baselines: int = 8
    occlusion_mm: float = 0.0
    occlusion_stride_mm: float = 0.0
    coarse_to_fine: float = 0.0
    regions: int = 64
    coalitions: int = 256
    permutations: int = 8
    masks: int = 400
    mask_cells: int = 7
    schedule: Literal["converged", "reference"] = "converged"
    beta: float | None = None
    gate: Gate = "energy"
    gate_part: float = 0.9
    regression_loss: RegressionLoss = "keep"
    regression_label: float | None = None
    roi: torch.Tensor | None = None


@dataclass
class Case:
    """Samples (N, C, spatial...) of one scan, explained together.

    ``spacing`` is in mm per spatial axis. ``layers`` are those asked for (the deepest last); bottlenecks use
    ``bottleneck_layers``. ``statistics`` gives reference statistics by layer. ``segments`` is a label image
    (N, spatial...) for methods on regions; supervoxels are made where it is None. Results that several methods
    need are made once.
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
    settings: MethodSettings = MethodSettings()
    segments: np.ndarray | None = None
    seed: int = 0
    batch_size: int = 8
    progress: Progress | None = None
    memory: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in {*self.layers, *self.bottleneck_layers}:
            find_layer(self.network, name)

    def forward(self) -> TargetForward:
        return TargetForward(self.network, self.target, self.select_output, self.progress)

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made at the first call with this key."""
        if key not in self.memory:
            self.memory[key] = make()
        return self.memory[key]

    def with_(self, **changes: Any) -> Case:
        """A changed case without remembered results."""
        return replace(self, memory={}, **changes)

    @property
    def samples(self) -> int:
        return len(self.inputs)

    @property
    def voxels(self) -> tuple[int, ...]:
        return tuple(self.inputs.shape[2:])

    @property
    def deepest(self) -> str:
        if not self.layers:
            raise ModelError("The model has no layer with a feature map.", "Choose a method that needs no layer.")
        return self.layers[-1]

    @property
    def earliest(self) -> str:
        """The first layer for bottlenecks."""
        if not self.bottleneck_layers:
            raise ModelError("The model has no layer with a feature map.", "Choose a method that needs no layer.")
        return self.bottleneck_layers[0]

    def cells(self, layer: str) -> FeatureGrid:
        return self.once(("cells", layer), lambda: feature_grid(self.network, layer, self.inputs[:1]))

    def occlusion_block(self) -> tuple[float, float]:
        """Size and stride in mm; by default an eighth of the shortest extent, without overlap."""
        extents = [size * step for size, step in zip(self.voxels, self.spacing)]
        size = self.settings.occlusion_mm or min(extents) / 8
        return size, self.settings.occlusion_stride_mm or size

    def labels(self, sample: int) -> torch.Tensor:
        """The regions (spatial...) of a sample: given segments, or supervoxels of its first channel."""
        if self.segments is not None:
            used, labels = np.unique(self.segments[sample], return_inverse=True)
            if used[0] != 0:
                labels = labels + 1
            if len(used[used > 0]) < 2:
                raise OptionError(
                    "Fewer than two segments lie in an explained slice, so they cannot be compared.",
                    "Give more segments, or leave them out to use supervoxels.",
                )
            return torch.as_tensor(labels.reshape(self.segments[sample].shape))
        return self.once(("supervoxels", sample), lambda: self._supervoxels(sample))

    def _supervoxels(self, sample: int) -> torch.Tensor:
        image = self.inputs[sample].mean(0).float().cpu().numpy()
        return torch.as_tensor(supervoxels(image, self.spacing, self.settings.regions).astype(np.int64))

    def shap_baselines(self) -> torch.Tensor:
        """Several baselines (B, C, spatial...): the chosen one of each sample, blurred more and less, and its mean."""
        chosen = self.baseline[:1]
        count = max(2, self.settings.shap_baselines)
        widths = np.geomspace(1 / 24, 1 / 4, count - 1)
        blurred = [gaussian_blur(self.inputs[:1], [width * size for size in self.voxels]) for width in widths]
        return torch.cat([chosen, *blurred])

    def information_request(self, direction: str = "keep") -> InformationRequest:
        def report(share: float) -> None:
            if self.progress is not None:
                self.progress.update(round(1000 * share), 1000)

        # The quicker optimiser of the converged mode lets go of parts of what must be destroyed (measured on planted
        # lesions: 42 instead of 470 bits), so the published one serves there.
        published = {"learning_rate": 1.0, "adam_betas": (0.9, 0.999)} if direction == "destroy" else {}
        beta = self.settings.beta
        if beta is None and direction == "destroy" and isinstance(self.target, RegressionTarget):
            beta = DESTROY_VALUE_BETA
        return InformationRequest(
            self.network,
            self.target,
            self.statistics,
            self.select_output,
            BottleneckSettings(
                mode=self.settings.schedule,
                direction=direction,
                beta=beta,
                seed=self.seed,
                **published,
            ),
            self.settings.regression_loss,
            self.settings.regression_label,
            report,
        )
