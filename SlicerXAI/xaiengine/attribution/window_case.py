"""A segmentation as a case: one scan seen through windows, and one or several targets, each a row."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ModelError, ResourceError
from ..core.progress import Progress
from ..inference.segmentation_preparation import PredictedScan
from ..inference.window_layers import LayerFeatures, LayerLattice, lay_cells, layer_features
from ..network.layers import find_layer
from ..targets.segmentation_targets import SegmentationTarget
from ..targets.target_choice import ChosenTarget
from .baselines import baseline_like, gaussian_blur
from .bottleneck.segmentation_bottleneck import bottleneck_layer, coarsest_layer, cut_layers
from .case import MASK_CELLS, LayerCall, LayerMaps, ModuleCall, Piece, Remembering, joined
from .feature_maps import require_maps
from .forward import Attribution, TargetForward, out_of_place
from .lattice_maps import lattice_in_place, lattice_on_image
from .reference_game import fitting_examples
from .regions import supervoxels
from .registry import Kind, Passes, check_settings
from .window_bits import WindowBits
from .window_forward import CachedPrediction, WindowedForward
from .windowwise import layer_over_windows, over_windows

FREE_BATCH_FAMILIES = ("gradient", "layer", "information")
"""Families whose methods run several variants of a window at once; the others take one at a time."""


@dataclass(eq=False)
class WindowCase(WindowBits, Remembering):
    """One scan, its targets and settings; what several methods need is computed once.

    ``baseline_image`` (1, C, I, J, K) is that of the settings (``blurred``) where none is given; ``segments``
    (I, J, K) are regions 1, 2, ... for methods on regions; ``roi`` (I, J, K) bool limits occlusion to blocks that
    touch it. ``named_layers`` are those that the user asked for.
    """

    scan: PredictedScan
    chosen: list[ChosenTarget]
    settings: Mapping[str, Any] = field(default_factory=dict)
    baseline_image: Tensor | None = None
    segments: Tensor | None = None
    roi: Tensor | None = None
    named_layers: tuple[str, ...] = ()
    seed: int = 0
    progress: Progress | None = None
    batch_size: int = field(init=False, default=1)
    memory: dict[Any, Any] = field(default_factory=dict)

    usual_path_steps = 16
    most_path_steps = 64
    default_block_mm = 12.0

    def __post_init__(self) -> None:
        check_settings(self.settings)
        require_maps(self.network, self.network, self.named_layers, self.sample[:1])
        self.batch_size = len(self.chosen)

    def with_(self, **changes: Any) -> WindowCase:
        """A changed case without remembered results."""
        return replace(self, memory={}, **changes)

    @property
    def kind(self) -> Kind:
        return "segmentation"

    @property
    def network(self) -> nn.Module:
        return self.scan.model.network

    @property
    def targets(self) -> list[SegmentationTarget]:
        return [chosen.target for chosen in self.chosen]

    @property
    def image(self) -> Tensor:
        return self.scan.image

    @property
    def inputs(self) -> Tensor:
        return self.image.expand(len(self.chosen), *self.image.shape[1:])

    @cached_property
    def one_baseline(self) -> Tensor:
        return baseline_like(self.image, "blurred") if self.baseline_image is None else self.baseline_image

    @property
    def baseline(self) -> Tensor:
        return self.one_baseline.expand(len(self.chosen), *self.image.shape[1:])

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(self.scan.grid.spacing)

    @cached_property
    def touched(self) -> list[int]:
        """The windows that hold voxels of a target."""
        return self.scan.windows.windows_of(self.targets)

    @property
    def mask_cells(self) -> tuple[int, ...]:
        """Isotropic in the patient, so that long scans are hidden in pieces of one size."""
        shape = self.image.shape[2:]
        extent = [size * step for size, step in zip(shape, self.spacing)]
        return tuple(
            max(1, min(size, round(MASK_CELLS * length / max(extent)))) for size, length in zip(shape, extent)
        )

    # ------------------------------------------------------------------ passes

    @property
    def rowwise_passes(self) -> float:
        return float(len(self.touched) * len(self.chosen))

    def value_pass(self, rowwise: bool = False) -> Passes:
        return Passes(self.rowwise_passes if rowwise else len(self.touched))

    def gradient_pass(self, rowwise: bool = False) -> Passes:
        windows = len(self.touched)
        split = any(not target.linear for target in self.targets) and windows > self.scan.windows.batch_size
        once = Passes(windows * (2 if split else 1), windows)
        return once * len(self.chosen) if rowwise else once

    def changed_passes(self, boxes: Sequence[tuple[slice, ...]]) -> float:
        return float(sum(len(self.cached.windows_changed_in(box)) for box in boxes))

    # ------------------------------------------------------------------ the network as a function

    @cached_property
    def cached(self) -> CachedPrediction:
        return CachedPrediction(self.scan.windows, self.image, self.targets)

    @cached_property
    def _forward(self) -> WindowedForward:
        return WindowedForward(self.network, self.scan.windows, self.targets, self.cached)

    def forward(self) -> WindowedForward:
        return self._forward

    def pieces(self, rowwise: bool = False) -> list[Piece]:
        batch = self.scan.windows.batch_size if rowwise else 1
        return [
            Piece(self._forward.of(row), self.image, self.one_baseline, batch, row) for row in range(len(self.chosen))
        ]

    def by_module(self, title: str, call: ModuleCall, linear: bool = False, baselines: int = 0) -> Attribution:
        def of_window(forward: TargetForward, window: Tensor, shadow: Tensor) -> Attribution:
            return call(forward, window, _several(window, shadow, baselines) if baselines else shadow)

        parts = []
        for target in self.targets:
            if linear and not target.linear and len(self.touched) > 1:
                raise ModelError(
                    f"{title} needs a target that is linear in the network's output; {target.name} is not.",
                    "Choose the score logit, or integrated gradients.",
                )
            found = over_windows(self.scan.module, self.scan.windows, target, self.image, self.one_baseline, of_window)
            parts.append(found)
        return joined(parts)

    def at_layer(self, layer: str, call: LayerCall) -> Attribution:
        def of_window(
            forward: TargetForward, units: nn.Module, name: str, window: Tensor, shadow: Tensor
        ) -> Attribution:
            return call(forward, units, name, window, shadow)

        parts = []
        for target in self.targets:
            found, lattice = layer_over_windows(
                self.scan.module, self.scan.windows, target, layer, self.image, self.one_baseline, of_window
            )
            parts.append(found)
            self.memory["lattice", layer] = lattice
        whole = joined(parts)
        return self.from_cells(layer, whole.map[:, 0], replace(whole, unit="change per voxel"), amounts=True)

    # ------------------------------------------------------------------ regions and baselines

    def labels(self, row: int, regions: int) -> Tensor:
        if self.segments is not None:
            return self.segments
        return self.once(("supervoxels", regions), lambda: self._supervoxels(regions))

    def _supervoxels(self, regions: int) -> Tensor:
        image = self.image[0].mean(0).cpu().numpy()
        return torch.from_numpy(supervoxels(image, self.spacing, regions))

    def reference_examples(self) -> Tensor:
        return fitting_examples((), self.inputs)  # windows of one scan have no counterparts in another

    def shap_baselines(self, count: int) -> Tensor:
        return _several(self.image, self.one_baseline, count)

    # ------------------------------------------------------------------ layers

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Asked for, or the coarsest feature map: the bottom of a U-Net, as in Seg-Grad-CAM."""
        return self.named_layers or (coarsest_layer(self.network, self.sample),)

    @cached_property
    def bottleneck_layers(self) -> tuple[str, ...]:
        return self.named_layers or (bottleneck_layer(self.scan.module, self.sample),)

    @cached_property
    def multilayer_layers(self) -> tuple[str, ...]:
        """Asked for, or the first and the last layer through which everything passes."""
        if self.named_layers:
            return self.named_layers
        found = cut_layers(self.scan.module, self.sample)
        return (found[0], found[-1]) if len(found) > 1 else tuple(found)

    @cached_property
    def _features(self) -> dict[str, LayerFeatures]:
        with out_of_place(self.network):
            return layer_features(self.scan.windows, self.network, self.layers, self.image, self.targets)[0]

    def features(self) -> Mapping[str, LayerMaps]:
        return {
            layer: LayerMaps(
                maps.activation.expand(len(self.chosen), *maps.activation.shape),
                torch.stack(maps.gradients),
                torch.stack(maps.products),
                torch.stack(maps.positive_products),
            )
            for layer, maps in self._features.items()
        }

    def activation(self, layer: str) -> Tensor:
        found = self._features[layer].activation
        return found.expand(len(self.chosen), *found.shape)

    def lattice(self, layer: str) -> LayerLattice:
        """Where a layer's cells lie over all windows."""
        if "_features" in self.__dict__ and layer in self._features:
            return self._features[layer].lattice
        return self.once(
            ("lattice", layer), lambda: lay_cells(self.scan.windows, self.network, layer, self.touched, self.image)
        )

    def original_cam(self, layer: str) -> Tensor:
        """Zhou 2016 for segmentations: the activation weighted as the last, pointwise convolution weighs it."""
        maps = self._features[layer]
        _check_pointwise_head(self, layer)
        weights = [gradient.flatten(1).sum(1) for gradient in maps.gradients]
        return torch.stack([torch.einsum("k,k...->...", weight, maps.activation) for weight in weights])

    def masks_on_input(self, layer: str, masks: Tensor) -> Tensor:
        lattice = self.lattice(layer)
        return torch.stack([lattice_on_image(mask, lattice, self.scan.grid) for mask in masks])

    def from_cells(self, layer: str, cells: Tensor, found: Attribution, amounts: bool = False) -> Attribution:
        """On the layer's lattice; amounts stay per cell, which :class:`Explanation` scales with its grid."""
        return replace(found, map=cells[:, None], layer=layer, lattice=self.lattice(layer))

    def on_input(self, found: Attribution) -> Tensor:
        if found.lattice is None:
            return found.map
        lattice = found.lattice
        maps = torch.stack([lattice_in_place(row[0], lattice, self.scan.grid) for row in found.map])[:, None]
        if found.unit.endswith("voxel"):
            maps = maps * (self.scan.grid.voxel_volume_ml / lattice.grid(self.scan.grid).voxel_volume_ml)
        return maps.to(found.map)

    # ------------------------------------------------------------------ running

    @property
    def device(self) -> torch.device:
        return self.image.device

    @cached_property
    def sample(self) -> Tensor:
        """The first window that the targets touch, as a batch for the network."""
        windows = self.scan.windows
        return windows.crop(windows.padded(self.image), self.touched[:1])

    def evaluate(self, batch: Tensor) -> Tensor:
        return self.scan.windows.run(batch)

    def select(self, output: Any) -> Tensor:
        return output

    def tail(self) -> tuple[nn.Module, str]:
        return self.scan.module, f"network.{self.bottleneck_layers[0]}"

    def check(self, methods: Sequence[Any]) -> None:
        for method in methods:
            for need in method.needs:
                if need != "free_batch" or method.family in FREE_BATCH_FAMILIES:
                    self.scan.model.capabilities.require(need, method.title)

    @contextmanager
    def reporting(self, information: bool) -> Iterator[None]:
        windows, progress = self.scan.windows, self.progress
        if progress is None:
            yield
            return
        before = windows.on_windows
        windows.on_windows = (lambda count: progress.check()) if information else progress.advance
        try:
            yield
        finally:
            windows.on_windows = before

    def smaller(self, title: str, warn: Callable[[str], None], error: Exception) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        windows = self.scan.windows
        if windows.batch_size <= 1:
            raise ResourceError(
                f"The memory is not enough for {title} at one window per pass.",
                "Crop the scan to the region of interest, explain a component instead of the whole class, or choose "
                "the CPU.",
            ) from error
        windows.batch_size //= 2
        warn(f"Memory ran out: {windows.batch_size} windows a pass are used from here on.")


def _several(image: Tensor, baseline: Tensor, count: int) -> Tensor:
    """The chosen baseline, and the image blurred more and less, (count, C, spatial...)."""
    shape, found = image.shape[2:], [baseline]
    for number in range(max(2, count) - 1):
        width = (1 / 24) * 6.0 ** (number / max(1, count - 2))
        found.append(gaussian_blur(image, [width * size for size in shape]))
    return torch.cat(found)


@torch.no_grad()
def _check_pointwise_head(case: WindowCase, layer: str) -> None:
    """Raise ModelError unless one pointwise convolution of the layer gives the network's output."""
    from .feature_maps import recorded

    layers = {layer: find_layer(case.network, layer)}
    with recorded(layers) as activations:
        output = case.scan.module(case.sample).float()
    activation = activations[layer].float()
    for module in case.network.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(module, (nn.Conv2d, nn.Conv3d)) or weight is None or weight[0, 0].numel() != 1:
            continue
        if weight.shape[1] != activation.shape[1] or activation.shape[2:] != output.shape[2:]:
            continue
        guess = module(activation)
        if guess.shape == output.shape and torch.allclose(guess, output, rtol=1e-3, atol=1e-4):
            return
    raise ModelError(
        f"CAM needs a network that ends in one pointwise convolution of {layer}; this one does something else after "
        "that layer.",
        "Name the last layer before the output, or use HiResCAM, which equals CAM inside the explained voxels.",
    )
