"""One scan on its way through methods: its targets, settings, and what several methods need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...core.errors import OptionError
from ...inference.segmentation_preparation import PredictedScan
from ...inference.window_layers import LayerFeatures, layer_features
from ...io.grid import Grid
from ...network.layers import find_layer
from ...targets.segmentation_targets import SegmentationTarget
from ...targets.target_choice import ChosenTarget
from ..baselines import BaselineKind, baseline_like
from ..bottleneck.segmentation_bottleneck import bottleneck_layer, coarsest_layer
from ..forward import out_of_place
from ..perturbation import block_voxels
from ..regions import supervoxels
from ..segmentation_forward import CachedPrediction, WindowedForward
from .method_list import Method

FIRST_STEPS = 16
MOST_STEPS = 64


@dataclass(frozen=True)
class MethodSettings:
    """Options of the methods; lengths in mm. ``steps`` None lets the path integral grow until it is complete."""

    baseline: BaselineKind = "blurred"
    constant: float = 0.0
    steps: int | None = None
    samples: int = 16
    noise: float = 0.1
    block_mm: float = 12.0
    stride_mm: float | None = None
    coarse_to_fine: float = 0.0
    regions: int = 60
    coalitions: int = 128
    masks: int = 200
    layers: tuple[str, ...] = ()
    schedule: str = "converged"
    beta: float | None = None
    seed: int = 0


@dataclass(frozen=True, eq=False)
class SegmentationMap:
    """A map of one target by one method, (C, I, J, K) on ``grid``; C is 1 but for maps per input channel."""

    method: Method
    number: int
    values: np.ndarray
    grid: Grid
    unit: str = ""
    layer: str = ""
    convergence: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def summed(self) -> np.ndarray:
        """Summed over input channels, (I, J, K)."""
        return self.values.sum(0)


@dataclass(eq=False)
class Explaining:
    """One scan, its targets and settings; what several methods need is computed once.

    ``roi`` (I, J, K) bool on the network's grid limits occlusion to blocks that touch it.
    """

    scan: PredictedScan
    chosen: list[ChosenTarget]
    settings: MethodSettings
    baseline_scan: Tensor | None = None
    given_regions: Tensor | None = None
    roi: Tensor | None = None
    report: Callable[[int, int], None] = lambda done, total: None

    @property
    def targets(self) -> list[SegmentationTarget]:
        return [chosen.target for chosen in self.chosen]

    @cached_property
    def touched(self) -> list[int]:
        return self.scan.windows.windows_of(self.targets)

    @cached_property
    def baseline(self) -> Tensor:
        settings = self.settings
        return baseline_like(self.scan.image, settings.baseline, constant=settings.constant, scan=self.baseline_scan)

    @cached_property
    def cached(self) -> CachedPrediction:
        return CachedPrediction(self.scan.windows, self.scan.image, self.targets)

    @cached_property
    def forward(self) -> WindowedForward:
        return WindowedForward(self.scan.model.network, self.scan.windows, self.targets, self.cached)

    @cached_property
    def sample(self) -> Tensor:
        """The first window that the targets touch, as a batch for the network."""
        windows = self.scan.windows
        return windows.crop(windows.padded(self.scan.image), self.touched[:1])

    @cached_property
    def layers(self) -> list[str]:
        """Asked for, or the coarsest feature map: the bottom of a U-Net, as in Seg-Grad-CAM."""
        network = self.scan.model.network
        if self.settings.layers:
            for name in self.settings.layers:
                find_layer(network, name)
            return list(self.settings.layers)
        return [coarsest_layer(network, self.sample)]

    @cached_property
    def bottleneck(self) -> str:
        return self.settings.layers[0] if self.settings.layers else bottleneck_layer(self.scan.module, self.sample)

    @cached_property
    def features(self) -> dict[str, LayerFeatures]:
        network, windows = self.scan.model.network, self.scan.windows
        with out_of_place(network):
            return layer_features(windows, network, self.layers, self.scan.image, self.targets)[0]

    @cached_property
    def regions(self) -> Tensor:
        """Labels 1..R (I, J, K) on the network's grid: given segments and the rest, or supervoxels."""
        if self.given_regions is not None:
            return self.given_regions
        image = self.scan.image[0].mean(0).cpu().numpy()
        return torch.from_numpy(supervoxels(image, self.scan.grid.spacing, self.settings.regions))

    @cached_property
    def block(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Block and stride of occlusion in voxels."""
        spacing, shape = self.scan.grid.spacing, self.scan.grid.shape
        block = block_voxels(self.settings.block_mm, spacing, shape)
        if self.settings.stride_mm is None:
            return block, block
        return block, tuple(max(1, round(self.settings.stride_mm / step)) for step in spacing)

    def rows(self, image: Tensor) -> Tensor:
        """The image once for each target, so that methods for batches explain all targets."""
        return image.expand(len(self.targets), *image.shape[1:])


def check_settings(settings: MethodSettings) -> None:
    """Raise OptionError for settings that do not go together."""
    if settings.stride_mm is not None and settings.stride_mm > settings.block_mm:
        raise OptionError(
            f"The stride {settings.stride_mm:g} mm leaves gaps between blocks of {settings.block_mm:g} mm.",
            "Choose a stride no longer than the block.",
        )
