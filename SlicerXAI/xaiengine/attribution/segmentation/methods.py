"""Runs methods for all targets at once, through the windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...core.errors import ModelError
from ...inference.window_layers import LayerFeatures, LayerLattice
from ...io.grid import Grid
from ...io.resample import resample
from .. import gradient as gradients
from ..backpropagation import deconvolution, deep_lift, deep_lift_shap, guided_backpropagation
from ..baselines import baseline_like
from ..bottleneck.reference_store import find_statistics
from ..bottleneck.segmentation_bottleneck import segmentation_bits
from ..bottleneck.settings import BottleneckSettings
from ..cam import RECTIFIED, WEIGHTS, upsample
from ..coalitions import RegionGame, feature_ablation, kernel_shap, lime, shapley_sampling
from ..feature_maps import explainable
from ..forward import Attribution
from ..layer import LayerSettings, layer_attribution
from ..perturbation import occlusion, rise
from ..segmentation_windowwise import layer_over_windows, over_windows
from .explaining import FIRST_STEPS, MOST_STEPS, Explaining, SegmentationMap
from .method_list import CAUTION, MARKED, Method

CAM_NAMES = {
    "grad-cam": "gradcam",
    "grad-cam++": "gradcam++",
    "hires-cam": "hirescam",
    "layer-cam": "layercam",
    "xgrad-cam": "xgradcam",
    "score-cam": "scorecam",
}
REGION_CALLS = {
    "feature-ablation": feature_ablation,
    "shapley-sampling": shapley_sampling,
    "kernel-shap": kernel_shap,
    "lime": lime,
}
LEAST_MEAN_GRADIENT = 0.02
SMOOTHING = {"smoothgrad": "smoothgrad", "smoothgrad-squared": "smoothgrad_sq", "vargrad": "vargrad"}


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
        maps = _RUNNERS[method.family](job, method)
    caution = (CAUTION,) if method.name in MARKED else ()
    return [replace(item, notes=(*item.notes, *caution)) for item in maps]


def _maps(job: Explaining, method: Method, found: Attribution, number: int, row: int = 0) -> SegmentationMap:
    return SegmentationMap(
        method,
        number,
        found.map[row].detach().float().cpu().numpy(),
        job.scan.grid,
        found.unit or "a.u.",
        convergence=found.convergence,
        notes=found.notes,
    )


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
            found = gradients.smooth_gradient(
                forward,
                image,
                samples=settings.samples,
                noise=settings.noise,
                seed=settings.seed,
                batch_size=1,
                kind=SMOOTHING[method.name],
            )
        maps.append(_maps(job, method, found, number))
    return maps


def _modified_gradient(job: Explaining, method: Method) -> list[SegmentationMap]:
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
        found = over_windows(job.scan.module, job.scan.windows, target, job.scan.image, job.baseline, call)
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
                forward,
                image,
                job.baseline,
                block,
                stride,
                roi=job.roi,
                coarse_to_fine=settings.coarse_to_fine,
                batch_size=job.scan.windows.batch_size,
            )
        else:
            found = rise(
                forward,
                image,
                job.baseline,
                masks=settings.masks,
                seed=settings.seed,
                cells=_cells(job.scan.grid),
                batch_size=1,
            )
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
            "shapley-sampling": {
                "permutations": max(2, settings.coalitions // max(1, game.count)),
                "seed": settings.seed,
            },
        }.get(method.name, {"samples": settings.coalitions, "seed": settings.seed})
        maps.append(_maps(job, method, REGION_CALLS[method.name](game, **more), number))
    return maps


def _on_lattice(
    job: Explaining,
    method: Method,
    number: int,
    values: Tensor,
    lattice: LayerLattice,
    layer: str,
    found: Attribution,
) -> SegmentationMap:
    array, grid = continued(values.detach().float().cpu().numpy(), lattice.grid(job.scan.grid), lattice)
    return SegmentationMap(
        method, number, array[None], grid, found.unit or "a.u.", layer, found.convergence, found.notes
    )


def continued(values: np.ndarray, grid: Grid, lattice: LayerLattice) -> tuple[np.ndarray, Grid]:
    """Cell values (cells...) with one more cell at each end, so that they reach the border of the windows.

    The outermost centers of coarse cells lie inside the border, by up to a cell.
    """
    more = [int(scale > 1) for scale in lattice.scale]
    padded = np.pad(values, [(width, width) for width in more], mode="edge")
    return padded, grid.cropped([-width for width in more], padded.shape)


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
            notes = _averaging_notes(method, gradient, layer) if name == "gradcam" else ()
            maps.append(_on_lattice(job, method, number, raw, features.lattice, layer, Attribution(raw, notes=notes)))
    return maps


def _averaging_notes(method: Method, gradient: Tensor, layer: str) -> tuple[str, ...]:
    """Said where next to nothing of the gradient is left in the channels' means, from which Grad-CAM is made.

    Instance normalization behind a layer does that: a shift of a whole channel changes nothing.
    """
    left = float(gradient.flatten(2).mean(2).abs().mean() / gradient.abs().mean().clamp_min(1e-30))
    if left >= LEAST_MEAN_GRADIENT:
        return ()
    return (
        f"{method.title} at {layer} rests on {left:.1%} of the gradient: its mean over the cells is nearly 0, as "
        "instance normalization makes it. HiResCAM does not average.",
    )


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
    moved = resample(*continued(values.cpu().numpy(), lattice.grid(grid), lattice), grid)
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
    settings = BottleneckSettings(
        mode=job.settings.schedule,
        direction="keep" if method.name == "iba" else "destroy",
        beta=job.settings.beta,
        seed=job.settings.seed,
        autocast="off",
    )
    for number, chosen in enumerate(job.chosen):
        found, lattice = segmentation_bits(
            job.scan.module,
            job.scan.windows,
            job.scan.image,
            chosen.target,
            chosen.structure,
            chosen.index,
            layer,
            region=chosen.region,
            statistics=statistics,
            settings=settings,
            progress=job.report,
        )
        found = replace(found, convergence={**found.convergence, "total_bits": float(found.map.sum())})
        maps.append(_on_lattice(job, method, number, found.map[0, 0], lattice, layer, found))
    return [_bits_per_voxel(job, item) for item in maps]


def _bits_per_voxel(job: Explaining, item: SegmentationMap) -> SegmentationMap:
    """Bits per cell spread over the voxels of a cell: the sum over the scan's voxels stays the total."""
    total = item.convergence["total_bits"]
    on_voxels = float(resample(item.summed, item.grid, job.scan.grid).sum())
    per_voxel = total / on_voxels if on_voxels > 0 else 0.0
    share = per_voxel * job.scan.volume.grid.voxel_volume_ml / job.scan.grid.voxel_volume_ml
    return replace(item, values=item.values * share, unit="bits/voxel")


_RUNNERS = {
    "gradient": _gradient,
    "modified-gradient": _modified_gradient,
    "perturbation": _perturbation,
    "regions": _region_methods,
    "cam": _cam,
    "layer": _layer,
    "bottleneck": _bottleneck,
}
