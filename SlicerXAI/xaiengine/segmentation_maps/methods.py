"""Runs methods for all targets at once, through the windows, and counts beforehand what that takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..attribution import gradient as gradients
from ..attribution.backpropagation import deconvolution, deep_lift, deep_lift_shap, guided_backpropagation
from ..attribution.baselines import BaselineKind, baseline_like
from ..attribution.bottleneck_options import BottleneckSettings
from ..attribution.cam import RECTIFIED, WEIGHTS, upsample
from ..attribution.coalitions import RegionGame, feature_ablation, kernel_shap, lime, shapley_sampling
from ..attribution.feature_maps import default_layers, explainable
from ..attribution.forward import Attribution, out_of_place
from ..attribution.layer import LayerSettings, layer_attribution
from ..attribution.perturbation import block_voxels, occlusion, positions, rise
from ..attribution.reference_store import find_statistics
from ..attribution.regions import supervoxels
from ..attribution.segmentation_bottleneck import bottleneck_layer, segmentation_bits
from ..attribution.segmentation_forward import CachedPrediction, WindowedForward
from ..attribution.segmentation_windowwise import layer_over_windows, over_windows
from ..errors import ModelError, OptionError
from ..grid import Grid
from ..layers import find_layer
from ..window_layers import LayerFeatures, LayerLattice, layer_features
from .method_list import Method
from .preparation import PredictedScan
from .target_choice import ChosenTarget

CAM_NAMES = {"grad-cam": "gradcam", "grad-cam++": "gradcam++", "hires-cam": "hirescam", "layer-cam": "layercam",
             "xgrad-cam": "xgradcam", "score-cam": "scorecam"}  # fmt: skip
REGION_CALLS = {"feature-ablation": feature_ablation, "shapley-sampling": shapley_sampling,
                "kernel-shap": kernel_shap, "lime": lime}  # fmt: skip
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
    """One scan, its targets and settings; what several methods need is computed once."""

    scan: PredictedScan
    chosen: list[ChosenTarget]
    settings: MethodSettings
    baseline_scan: Tensor | None = None
    given_regions: Tensor | None = None
    report: Callable[[int, int], None] = lambda done, total: None

    @property
    def targets(self):
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
        """Asked for, or the deepest feature map."""
        network = self.scan.model.network
        if self.settings.layers:
            for name in self.settings.layers:
                find_layer(network, name)
            return list(self.settings.layers)
        return default_layers(network, network, self.sample)

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


def run_method(job: Explaining, method: Method) -> list[SegmentationMap]:
    """The maps of a method, one for each target (and layer).

    Raises:
        ModelError: the method's needs are not met by the model; nothing silent is returned.
    """
    capabilities = job.scan.model.capabilities
    if method.differentiates:
        capabilities.require("differentiable", method.title)
    if method.layered:
        capabilities.require("layers", method.title)
    with explainable(job.scan.model.network):
        return _RUNNERS[method.family](job, method)


def _maps(job: Explaining, method: Method, found: Attribution, number: int, row: int = 0) -> SegmentationMap:
    return SegmentationMap(
        method, number, found.map[row].detach().float().cpu().numpy(), job.scan.grid, found.unit or "a.u.",
        convergence=found.convergence, notes=found.notes,
    )  # fmt: skip


def _gradient(job: Explaining, method: Method) -> list[SegmentationMap]:
    image, settings, count = job.scan.image, job.settings, len(job.targets)
    if method.name in ("saliency", "input-x-gradient", "integrated-gradients"):
        rows, baseline = job.rows(image), job.rows(job.baseline)
        if method.name == "saliency":
            found = gradients.saliency(job.forward, rows)
        elif method.name == "input-x-gradient":
            found = gradients.input_x_gradient(job.forward, rows, baseline)
        else:
            found = gradients.integrated_gradients(
                job.forward, rows, baseline, steps=settings.steps, max_steps=MOST_STEPS, batch_size=count
            )
        return [_maps(job, method, found, number, number) for number in range(count)]
    maps = []
    for number in range(count):
        forward = job.forward.of(number)
        if method.name == "gradient-shap":
            baselines = torch.cat([job.baseline, baseline_like(image, "mean")])
            found = gradients.gradient_shap(
                forward, image, baselines, samples=settings.samples, seed=settings.seed, batch_size=1
            )
        else:
            kind = {"smoothgrad": "smoothgrad", "smoothgrad-squared": "smoothgrad_sq", "vargrad": "vargrad"}
            found = gradients.smooth_gradient(
                forward, image, samples=settings.samples, noise=settings.noise, seed=settings.seed, batch_size=1,
                kind=kind[method.name],
            )  # fmt: skip
        maps.append(_maps(job, method, found, number))
    return maps


def _modified_gradient(job: Explaining, method: Method) -> list[SegmentationMap]:
    baselines = {"blurred": job.baseline, "mean": baseline_like(job.scan.image, "mean")}

    def call(forward, window: Tensor, shadow: Tensor) -> Attribution:
        if method.name == "guided-backpropagation":
            return guided_backpropagation(forward, window)
        if method.name == "deconvolution":
            return deconvolution(forward, window)
        if method.name == "deeplift":
            return deep_lift(forward, window, shadow)
        return deep_lift_shap(forward, window, torch.cat([shadow, baseline_like(window, "mean")]))

    maps = []
    for number, target in enumerate(job.targets):
        if method.name.startswith("deeplift") and not target.linear and len(job.touched) > 1:
            raise ModelError(
                f"{method.title} needs a target that is linear in the network's output; {target.name} is not.",
                "Choose the score logit, or integrated gradients.",
            )
        found = over_windows(
            job.scan.module, job.scan.windows, target, job.scan.image, baselines["blurred"], call
        )
        maps.append(_maps(job, method, found, number))
    return maps


def _perturbation(job: Explaining, method: Method) -> list[SegmentationMap]:
    maps = []
    image, settings = job.scan.image, job.settings
    for number in range(len(job.targets)):
        forward = job.forward.of(number)
        if method.name == "occlusion":
            block, stride = job.block
            found = occlusion(
                forward, image, job.baseline, block, stride, coarse_to_fine=settings.coarse_to_fine,
                batch_size=job.scan.windows.batch_size,
            )  # fmt: skip
        else:
            found = rise(
                forward, image, job.baseline, masks=settings.masks, seed=settings.seed,
                cells=_cells(job.scan.grid), batch_size=1,
            )  # fmt: skip
        maps.append(_maps(job, method, found, number))
    return maps


def _cells(grid: Grid) -> tuple[int, ...]:
    """A grid of masks of about seven cells along the longest side, isotropic in the patient."""
    extent = [size * step for size, step in zip(grid.shape, grid.spacing)]
    return tuple(max(1, min(size, round(7 * length / max(extent)))) for size, length in zip(grid.shape, extent))


def _region_methods(job: Explaining, method: Method) -> list[SegmentationMap]:
    maps = []
    settings = job.settings
    for number in range(len(job.targets)):
        game = RegionGame(job.forward.of(number), job.scan.image, job.baseline, job.regions, batch_size=1)
        more = {
            "feature-ablation": {},
            "shapley-sampling": {"permutations": max(2, settings.coalitions // max(1, game.count)),
                                 "seed": settings.seed},
        }.get(method.name, {"samples": settings.coalitions, "seed": settings.seed})  # fmt: skip
        maps.append(_maps(job, method, REGION_CALLS[method.name](game, **more), number))
    return maps


def _on_lattice(
    job: Explaining, method: Method, number: int, values: Tensor, lattice: LayerLattice, layer: str,
    found: Attribution,
) -> SegmentationMap:  # fmt: skip
    return SegmentationMap(
        method, number, values.detach().float().cpu().numpy()[None], lattice.grid(job.scan.grid), found.unit or "a.u.",
        layer, found.convergence, found.notes,
    )  # fmt: skip


def _cam(job: Explaining, method: Method) -> list[SegmentationMap]:
    name, maps = CAM_NAMES[method.name], []
    for layer, features in job.features.items():
        for number in range(len(job.targets)):
            activation, gradient = features.activation[None], features.gradients[number][None]
            if name == "hirescam":
                raw = features.products[number]
            elif name == "layercam":
                raw = features.positive_products[number]
            elif name == "scorecam":
                raw = _score_cam(job, features, number)
            else:
                raw = (WEIGHTS[name](activation, gradient) * activation).sum(1)[0]
            raw = raw.relu() if name in RECTIFIED else raw
            maps.append(_on_lattice(job, method, number, raw, features.lattice, layer, Attribution(raw)))
    return maps


@torch.no_grad()
def _score_cam(job: Explaining, features: LayerFeatures, number: int) -> Tensor:
    """Feature maps weighted by what each, as a mask of the scan, keeps of the target (Wang 2020)."""
    activation = features.activation
    low = activation.amin((1, 2, 3), keepdim=True)
    scaled = (activation - low) / (activation.amax((1, 2, 3), keepdim=True) - low + 1e-8)
    forward, image = job.forward.of(number), job.scan.image
    reference = float(forward.values(image)[0])
    scores = torch.empty(len(scaled), device=image.device)
    for channel in range(len(scaled)):
        mask = _lattice_on_image(scaled[channel], features.lattice, job.scan.grid).to(image)
        scores[channel] = float(forward.values(image * mask[None, None])[0]) - reference
    return (scores.softmax(0).reshape(-1, 1, 1, 1) * scaled).sum(0)


def _lattice_on_image(values: Tensor, lattice: LayerLattice, grid: Grid) -> Tensor:
    """Cell values (cells...) on the voxels of the image, linearly; 0 beyond the cells."""
    if lattice.scale == (1.0, 1.0, 1.0) and tuple(values.shape) == grid.shape:
        return values
    if tuple(lattice.shape) == lattice.window_cells and tuple(lattice.layout.window_size) == grid.shape:
        return upsample(values[None], grid.shape)[0]
    from ..resample import resample

    moved = resample(values.cpu().numpy(), lattice.grid(grid), grid, "linear")
    return torch.from_numpy(np.ascontiguousarray(moved))


def _layer(job: Explaining, method: Method) -> list[SegmentationMap]:
    maps = []
    if not method.captum:
        for layer, features in job.features.items():
            for number in range(len(job.targets)):
                values = features.activation.sum(0) if method.name == "layer-activation" else features.products[number]
                unit = "activation" if method.name == "layer-activation" else "a.u."
                found = Attribution(values, unit=unit)
                maps.append(_on_lattice(job, method, number, values, features.lattice, layer, found))
        return maps
    steps = job.settings.steps or FIRST_STEPS
    settings = LayerSettings(steps=steps, samples=job.settings.samples, batch_size=1, seed=job.settings.seed)

    def call(forward, layer, name: str, window: Tensor, shadow: Tensor) -> Attribution:
        return layer_attribution(method.captum, forward, name, layer, window, shadow, settings)

    for layer in job.layers:
        for number, target in enumerate(job.targets):
            found, lattice = layer_over_windows(
                job.scan.module, job.scan.windows, target, layer, job.scan.image, job.baseline, call
            )
            maps.append(_on_lattice(job, method, number, found.map[0, 0], lattice, layer, found))
    return maps


def _bottleneck(job: Explaining, method: Method) -> list[SegmentationMap]:
    maps = []
    layer = job.bottleneck
    statistics = find_statistics(job.scan.model, layer)
    mode = {"reference": "reference", "converged": "converged"}[job.settings.schedule]
    settings = BottleneckSettings(
        mode=mode, direction="keep" if method.name == "iba" else "destroy", beta=job.settings.beta,
        seed=job.settings.seed, autocast="off",
    )  # fmt: skip
    for number, chosen in enumerate(job.chosen):
        found, lattice = segmentation_bits(
            job.scan.module, job.scan.windows, job.scan.image, chosen.target, chosen.structure, chosen.index, layer,
            region=chosen.region, statistics=statistics, settings=settings, progress=job.report,
        )  # fmt: skip
        maps.append(_on_lattice(job, method, number, found.map[0, 0], lattice, layer, found))
    return [_bits_per_voxel(job, item) for item in maps]


def _bits_per_voxel(job: Explaining, item: SegmentationMap) -> SegmentationMap:
    """Bits per cell spread over the voxels of a cell: the sum over the scan's voxels stays the total."""
    from dataclasses import replace

    share = job.scan.volume.grid.voxel_volume_ml / item.grid.voxel_volume_ml
    total = float(item.values.sum())
    return replace(
        item, values=item.values * share, unit="bits/voxel",
        convergence={**item.convergence, "total_bits": total},
    )  # fmt: skip


_RUNNERS = {
    "gradient": _gradient,
    "modified-gradient": _modified_gradient,
    "perturbation": _perturbation,
    "regions": _region_methods,
    "cam": _cam,
    "layer": _layer,
    "bottleneck": _bottleneck,
}


def count_passes(job: Explaining, method: Method) -> tuple[int, int]:
    """Forward and backward passes of single windows that a method takes, as far as can be known beforehand."""
    windows, settings, count = len(job.touched), job.settings, len(job.targets)
    split = any(not target.linear for target in job.targets) and windows > job.scan.windows.batch_size
    once = windows * (2 if split else 1)
    if method.name in ("saliency", "input-x-gradient"):
        return once + (windows if method.name == "input-x-gradient" else 0), windows
    if method.name == "integrated-gradients":
        steps = settings.steps or FIRST_STEPS
        return steps * once + windows, steps * windows
    if method.family == "gradient":
        return settings.samples * once * count, settings.samples * windows * count
    if method.family == "modified-gradient":
        return 4 * windows * count, 2 * windows * count
    if method.name == "occlusion":
        return _occlusion_passes(job), 0
    if method.name == "rise":
        return settings.masks * windows, 0
    if method.family == "regions":
        coalitions = settings.regions + 3 if method.name == "feature-ablation" else settings.coalitions + 3
        return coalitions * windows, 0
    if method.name == "score-cam":
        return once + 64 * windows, windows
    if method.captum:
        steps = settings.steps or FIRST_STEPS
        return (steps + 3) * windows * count * len(job.layers), steps * windows * count * len(job.layers)
    if method.family == "bottleneck":
        passes = 2 * (BottleneckSettings().steps if settings.schedule == "reference" else 30) * windows * count
        return passes + 2 * windows, passes
    return once, windows


def _occlusion_passes(job: Explaining) -> int:
    """By hand: the windows that each block and a target touch. Half of it where only a part is refined."""
    block, stride = job.block
    starts = positions(job.scan.grid.shape, block, stride)
    boxes = (tuple(slice(a, a + n) for a, n in zip(start, block)) for start in starts)
    total = sum(len(job.cached.windows_changed_in(box)) for box in boxes)
    return total if job.settings.coarse_to_fine <= 0 else math.ceil(total * (job.settings.coarse_to_fine + 1 / 16))


def check_settings(settings: MethodSettings) -> None:
    """Raise OptionError for settings that do not go together."""
    if settings.stride_mm is not None and settings.stride_mm > settings.block_mm:
        raise OptionError(
            f"The stride {settings.stride_mm:g} mm leaves gaps between blocks of {settings.block_mm:g} mm.",
            "Choose a stride no longer than the block.",
        )
