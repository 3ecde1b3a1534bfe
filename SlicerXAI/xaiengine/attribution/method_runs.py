"""How each method runs on a case, and how many forward passes it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from ..network.layers import find_layer
from . import coalitions, gradient, perturbation
from .cam import cam_maps
from .case import Case
from .forward import Attribution
from .layer import LayerSettings, layer_attribution
from .method import Run
from .perturbation import COARSE_FACTORS, block_voxels, positions
from .placement import placed


def integrated_run(case: Case) -> Attribution:
    settings = case.settings
    return gradient.integrated_gradients(
        case.forward(),
        case.inputs,
        case.baseline,
        steps=settings.steps or None,
        max_steps=settings.max_steps,
        batch_size=case.batch_size,
    )


def smooth_run(kind: str) -> Run:
    def run(case: Case) -> Attribution:
        shared = case.once("smooth gradients", lambda: _smooth_gradient(case, "smoothgrad"))
        mean, variance = shared.map, shared.extras["variance"]
        count = case.settings.samples
        squares = variance * (count - 1) / count + mean.square()
        chosen = {"smoothgrad": mean, "smoothgrad_squared": squares, "vargrad": variance}[kind]
        unit = shared.unit if kind == "smoothgrad" else "squared change per input unit"
        return replace(shared, map=chosen, unit=unit)

    return run


def _smooth_gradient(case: Case, kind: str) -> Attribution:
    return gradient.smooth_gradient(
        case.forward(),
        case.inputs,
        samples=case.settings.samples,
        noise=case.settings.noise,
        seed=case.seed,
        batch_size=case.batch_size,
        kind=kind,
    )


def gradient_shap_run(case: Case) -> Attribution:
    return gradient.gradient_shap(
        case.forward(),
        case.inputs,
        case.shap_baselines(),
        samples=case.settings.samples,
        seed=case.seed,
        batch_size=case.batch_size,
    )


def cam_run(name: str) -> Run:
    """All class activation maps that need gradients come from one pass, whichever is asked for first."""

    def run(case: Case) -> Attribution:
        layers = {layer: find_layer(case.network, layer) for layer in case.layers}
        case.deepest  # noqa: B018 - raises when there is none
        forward = case.forward()
        call = _OutputForward(forward)
        if name in ("cam", "scorecam"):
            deepest = {case.deepest: layers[case.deepest]}
            maps = cam_maps(call, deepest, case.inputs, case.target, (name,), batch_size=case.batch_size)
        else:
            methods = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam")
            maps = case.once("cams", lambda: cam_maps(call, layers, case.inputs, case.target, methods))
        extras = {
            layer: placed(maps[name, layer], case.cells(layer), case.voxels)[:, None]
            for layer in case.layers
            if (name, layer) in maps
        }
        main = extras.pop(case.deepest)
        return Attribution(main, unit="weighted activation", extras=extras)

    return run


class _OutputForward:
    """The model's output through the counted forward; ``network`` lets CAM find the last linear layer."""

    def __init__(self, forward: object) -> None:
        self._forward = forward
        self.network = forward.network

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        return self._forward.output(inputs)


def layer_run(name: str) -> Run:
    def run(case: Case) -> Attribution:
        settings = LayerSettings(case.settings.layer_steps, case.settings.samples, case.batch_size, case.seed)
        layer = case.deepest
        found = layer_attribution(
            name, case.forward(), layer, find_layer(case.network, layer), case.inputs, case.baseline, settings
        )
        cells = case.cells(layer)
        voxels = placed(found.map[:, 0], cells, case.voxels)[:, None]
        share = torch.tensor(found.map[0, 0].numel() / voxels[0, 0].numel())
        return replace(found, map=voxels * share.to(voxels), unit="change per voxel")

    return run


def occlusion_run(case: Case) -> Attribution:
    size, stride = case.occlusion_block()
    return perturbation.occlusion(
        case.forward(),
        case.inputs,
        case.baseline,
        block_voxels(size, case.spacing, case.voxels),
        block_voxels(stride, case.spacing, case.voxels),
        roi=case.settings.roi,
        coarse_to_fine=case.settings.coarse_to_fine,
        batch_size=case.batch_size,
    )


def occlusion_passes(case: Case) -> float:
    size, stride = case.occlusion_block()
    block = block_voxels(size, case.spacing, case.voxels)
    count = len(positions(case.voxels, block, block_voxels(stride, case.spacing, case.voxels)))
    part = case.settings.coarse_to_fine
    if part:
        shares = [part**level / factor ** len(case.voxels) for level, factor in enumerate((*COARSE_FACTORS, 1))]
        count = count * sum(shares)
    return case.samples * count


def rise_run(case: Case) -> Attribution:
    return perturbation.rise(
        case.forward(),
        case.inputs,
        case.baseline,
        masks=case.settings.masks,
        cells=case.settings.mask_cells,
        seed=case.seed,
        batch_size=case.batch_size,
    )


def regions_run(call: Callable[[coalitions.RegionGame, Case], Attribution]) -> Run:
    def run(case: Case) -> Attribution:
        forward = case.forward()
        parts = []
        for sample in range(case.samples):
            row = slice(sample, sample + 1)
            game = coalitions.RegionGame(
                forward, case.inputs[row], case.baseline[row], case.labels(sample), case.batch_size
            )
            parts.append(call(game, case))
        worst = {
            key: (min if key == "fit_r2" else max)(part.convergence[key] for part in parts)
            for key in parts[0].convergence
        }
        return replace(parts[0], map=torch.cat([part.map for part in parts]), convergence=worst)

    return run


def gradient_passes(case: Case) -> float:
    return 3.0 * case.samples


def bottleneck_passes(case: Case) -> float:
    """Two noisy copies a step through the layers after the bottleneck, which are about half of the network."""
    steps = 10 if case.settings.schedule == "reference" else 30
    return 0.5 * 3.0 * case.samples * 2 * steps
