"""Every method by name: what it needs, what it costs, and how much its maps can be relied on."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ..errors import OptionError
from ..layers import find_layer
from ..targets import RegressionTarget, Target
from . import backpropagation, coalitions, gradient, perturbation
from .cam import cam_maps
from .case import Case
from .forward import Attribution
from .information import information, multilayer_information
from .input_bottleneck import InputBottleneckSettings, input_information
from .layer import LAYER_METHODS, LayerSettings, layer_attribution
from .perturbation import COARSE_FACTORS, block_voxels, positions
from .placement import placed

Family = Literal["information", "gradient", "cam", "layer", "perturbation"]
Run = Callable[[Case], Attribution]


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    ``run`` gives a map (N, C or 1, spatial...) on the input's voxels. ``passes`` estimates the forward passes per
    job, a backward pass counted as two. ``signed`` maps have evidence against the target below 0. ``sane`` is False
    for methods that fail the randomisation check; ``caution`` says why. ``sane_on_values`` is False for those that
    fail it on regression models (planted scans, rank correlation above 0.2).
    """

    name: str
    title: str
    family: Family
    run: Run
    passes: Callable[[Case], float]
    needs: tuple[str, ...] = ("differentiable",)
    signed: bool = True
    sane: bool = True
    caution: str = ""
    per_input_unit: bool = False
    sane_on_values: bool = True

    @property
    def uses_layers(self) -> bool:
        return self.family in ("cam", "layer") or "layers" in self.needs

    def caution_for(self, target: Target) -> str:
        """What to say beside its maps; empty when they passed the check for this kind of target."""
        if not self.caution and not self.sane_on_values and isinstance(target, RegressionTarget):
            return _ON_VALUES
        return self.caution


_EDGES = "It shows edges of the image whatever the model has learned."
_RESIDUE = "Its map stays partly the same when the model's weights are random; do not rely on it alone."
_ON_VALUES = (
    "On regression models its map stays partly the same when the weights are random; do not rely on it alone."
)

METHODS: dict[str, Method] = {}
_INSIDE = ("differentiable", "layers", "free_batch")
"""Needs of methods that look into the network."""


def _enter(method: Method) -> None:
    METHODS[method.name] = method


def find_method(name: str) -> Method:
    """The method of this name; hyphens and capitals do not matter. Raises OptionError with near names."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    plain = {"grad_cam": "gradcam", "grad_cam++": "gradcam++", "ig": "integrated_gradients"}.get(plain, plain)
    if plain in METHODS:
        return METHODS[plain]
    near = difflib.get_close_matches(plain, METHODS, n=3, cutoff=0.4) or sorted(METHODS)
    raise OptionError(f"There is no method called {name!r}.", f"Did you mean {', '.join(near)}?")


def _integrated(case: Case) -> Attribution:
    settings = case.settings
    return gradient.integrated_gradients(
        case.forward(),
        case.inputs,
        case.baseline,
        steps=settings.steps or None,
        max_steps=settings.max_steps,
        batch_size=case.batch_size,
    )


def _smooth(kind: str) -> Run:
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


def _gradient_shap(case: Case) -> Attribution:
    return gradient.gradient_shap(
        case.forward(),
        case.inputs,
        case.shap_baselines(),
        samples=case.settings.samples,
        seed=case.seed,
        batch_size=case.batch_size,
    )


def _cam(name: str) -> Run:
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


def _layer(name: str) -> Run:
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


def _occlusion(case: Case) -> Attribution:
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


def _occlusion_passes(case: Case) -> float:
    size, stride = case.occlusion_block()
    block = block_voxels(size, case.spacing, case.voxels)
    count = len(positions(case.voxels, block, block_voxels(stride, case.spacing, case.voxels)))
    part = case.settings.coarse_to_fine
    if part:
        shares = [part**level / factor ** len(case.voxels) for level, factor in enumerate((*COARSE_FACTORS, 1))]
        count = count * sum(shares)
    return case.samples * count


def _rise(case: Case) -> Attribution:
    return perturbation.rise(
        case.forward(),
        case.inputs,
        case.baseline,
        masks=case.settings.masks,
        cells=case.settings.mask_cells,
        seed=case.seed,
        batch_size=case.batch_size,
    )


def _on_regions(call: Callable[[coalitions.RegionGame, Case], Attribution]) -> Run:
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


def _gradient_passes(case: Case) -> float:
    return 3.0 * case.samples


def _bottleneck_passes(case: Case) -> float:
    """Two noisy copies a step through the layers after the bottleneck, which are about half of the network."""
    steps = 10 if case.settings.schedule == "reference" else 30
    return 0.5 * 3.0 * case.samples * 2 * steps


for _kind, _title in (("iba", "Information bottleneck"), ("inverse_iba", "Inverse information bottleneck")):
    _direction = "keep" if _kind == "iba" else "destroy"
    _enter(
        Method(
            _kind,
            _title,
            "information",
            lambda case, direction=_direction: information(
                case.information_request(direction), case.earliest, case.inputs
            ),
            _bottleneck_passes,
            needs=_INSIDE,
            signed=False,
        )
    )
_enter(
    Method(
        "multilayer_iba",
        "Multi-layer information bottleneck",
        "information",
        lambda case: multilayer_information(
            case.information_request(),
            case.bottleneck_layers,
            case.inputs,
            gate=case.settings.gate,
            part=case.settings.gate_part,
        ),
        lambda case: len(case.bottleneck_layers) * _bottleneck_passes(case),
        needs=_INSIDE,
        signed=False,
    )
)
_enter(
    Method(
        "input_iba",
        "Input information bottleneck",
        "information",
        lambda case: input_information(
            case.information_request(),
            case.earliest,
            case.inputs,
            InputBottleneckSettings(seed=case.seed),
        ),
        lambda case: _bottleneck_passes(case) + 3.0 * case.samples * 60 * 4,
        needs=_INSIDE,
        signed=False,
    )
)
for _entry in (
    Method("saliency", "Saliency", "gradient", lambda case: gradient.saliency(case.forward(), case.inputs),
           _gradient_passes, per_input_unit=True),
    Method("input_x_gradient", "Input x gradient", "gradient",
           lambda case: gradient.input_x_gradient(case.forward(), case.inputs, case.baseline), _gradient_passes),
    Method("integrated_gradients", "Integrated gradients", "gradient", _integrated,
           lambda case: 3.0 * case.samples * (case.settings.steps or 48)),
    Method("smoothgrad", "SmoothGrad", "gradient", _smooth("smoothgrad"),
           lambda case: 3.0 * case.samples * case.settings.samples, per_input_unit=True),
    Method("smoothgrad_squared", "SmoothGrad squared", "gradient", _smooth("smoothgrad_squared"),
           lambda case: 3.0 * case.samples * case.settings.samples, signed=False, sane=False, caution=_RESIDUE),
    Method("vargrad", "VarGrad", "gradient", _smooth("vargrad"),
           lambda case: 3.0 * case.samples * case.settings.samples, signed=False, sane=False, caution=_RESIDUE),
    Method("gradient_shap", "GradientShap", "gradient", _gradient_shap,
           lambda case: 3.0 * case.samples * case.settings.samples),
    Method("deep_lift", "DeepLift", "gradient",
           lambda case: backpropagation.deep_lift(case.forward(), case.inputs, case.baseline),
           lambda case: 8.0 * case.samples, needs=_INSIDE),
    Method("deep_lift_shap", "DeepLiftShap", "gradient",
           lambda case: backpropagation.deep_lift_shap(case.forward(), case.inputs, case.shap_baselines()),
           lambda case: 8.0 * case.samples * case.settings.shap_baselines,
           needs=_INSIDE),
    Method("guided_backpropagation", "Guided backpropagation", "gradient",
           lambda case: backpropagation.guided_backpropagation(case.forward(), case.inputs),
           lambda case: 6.0 * case.samples, needs=_INSIDE, sane=False, caution=_EDGES,
           per_input_unit=True),
    Method("deconvolution", "Deconvolution", "gradient",
           lambda case: backpropagation.deconvolution(case.forward(), case.inputs),
           lambda case: 6.0 * case.samples, needs=_INSIDE, sane=False, caution=_EDGES,
           per_input_unit=True),
):  # fmt: skip
    _enter(_entry)
for _name, _title in (
    ("cam", "CAM"),
    ("gradcam", "Grad-CAM"),
    ("gradcam++", "Grad-CAM++"),
    ("hirescam", "HiResCAM"),
    ("layercam", "LayerCAM"),
    ("xgradcam", "XGrad-CAM"),
):
    _enter(Method(_name, _title, "cam", _cam(_name), _gradient_passes, needs=_INSIDE, sane_on_values=False))
_enter(Method("scorecam", "Score-CAM", "cam", _cam("scorecam"), lambda case: 64.0 * case.samples,
              needs=("layers", "free_batch"), sane_on_values=False))  # fmt: skip
for _name in LAYER_METHODS:
    _many = _name in ("layer_conductance", "internal_influence", "layer_integrated_gradients")
    _enter(
        Method(
            _name,
            _name.replace("_", " ").capitalize(),
            "layer",
            _layer(_name),
            lambda case, many=_many: 3.0 * case.samples * (case.settings.layer_steps if many else 4),
            needs=("layers", "free_batch") if _name == "layer_activation" else _INSIDE,
            sane=_name != "layer_activation",
            caution="It does not depend on the target." if _name == "layer_activation" else "",
            sane_on_values=_name == "internal_influence",
        )
    )
for _entry in (
    Method("occlusion", "Occlusion", "perturbation", _occlusion, _occlusion_passes, needs=(),
           sane_on_values=False),
    Method("feature_ablation", "Ablation of regions", "perturbation",
           _on_regions(lambda game, case: coalitions.feature_ablation(game)),
           lambda case: case.samples * case.settings.regions, needs=()),
    Method("shapley_sampling", "Shapley value sampling", "perturbation",
           _on_regions(lambda game, case: coalitions.shapley_sampling(game, case.settings.permutations, case.seed)),
           lambda case: case.samples * case.settings.regions * case.settings.permutations, needs=(),
           sane_on_values=False),
    Method("kernel_shap", "KernelShap", "perturbation",
           _on_regions(lambda game, case: coalitions.kernel_shap(game, case.settings.coalitions, case.seed)),
           lambda case: case.samples * case.settings.coalitions, needs=()),
    Method("lime", "LIME", "perturbation",
           _on_regions(lambda game, case: coalitions.lime(game, case.settings.coalitions, case.seed)),
           lambda case: case.samples * case.settings.coalitions, needs=()),
    Method("rise", "RISE", "perturbation", _rise, lambda case: case.samples * case.settings.masks, needs=(),
           sane_on_values=False),
):  # fmt: skip
    _enter(_entry)
