"""Every method by name: what it needs, what it costs, and how much its maps can be relied on."""

from __future__ import annotations

import difflib

from ..core.errors import OptionError
from . import backpropagation, coalitions, gradient
from .bottleneck.information import information, multilayer_information
from .bottleneck.input_bottleneck import InputBottleneckSettings, input_information
from .layer import LAYER_METHODS
from .method import Method
from .method_runs import (
    bottleneck_passes,
    cam_run,
    gradient_passes,
    gradient_shap_run,
    integrated_run,
    layer_run,
    occlusion_passes,
    occlusion_run,
    regions_run,
    rise_run,
    smooth_run,
)

_EDGES = "It shows edges of the image whatever the model has learned."
_RESIDUE = "Its map stays partly the same when the model's weights are random; do not rely on it alone."
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
            bottleneck_passes,
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
        lambda case: len(case.bottleneck_layers) * bottleneck_passes(case),
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
        lambda case: bottleneck_passes(case) + 3.0 * case.samples * 60 * 4,
        needs=_INSIDE,
        signed=False,
    )
)
for _entry in (
    Method(
        "saliency",
        "Saliency",
        "gradient",
        lambda case: gradient.saliency(case.forward(), case.inputs),
        gradient_passes,
        per_input_unit=True,
    ),
    Method(
        "input_x_gradient",
        "Input x gradient",
        "gradient",
        lambda case: gradient.input_x_gradient(case.forward(), case.inputs, case.baseline),
        gradient_passes,
    ),
    Method(
        "integrated_gradients",
        "Integrated gradients",
        "gradient",
        integrated_run,
        lambda case: 3.0 * case.samples * (case.settings.steps or 48),
    ),
    Method(
        "smoothgrad",
        "SmoothGrad",
        "gradient",
        smooth_run("smoothgrad"),
        lambda case: 3.0 * case.samples * case.settings.samples,
        per_input_unit=True,
    ),
    Method(
        "smoothgrad_squared",
        "SmoothGrad squared",
        "gradient",
        smooth_run("smoothgrad_squared"),
        lambda case: 3.0 * case.samples * case.settings.samples,
        signed=False,
        sane=False,
        caution=_RESIDUE,
    ),
    Method(
        "vargrad",
        "VarGrad",
        "gradient",
        smooth_run("vargrad"),
        lambda case: 3.0 * case.samples * case.settings.samples,
        signed=False,
        sane=False,
        caution=_RESIDUE,
    ),
    Method(
        "gradient_shap",
        "GradientShap",
        "gradient",
        gradient_shap_run,
        lambda case: 3.0 * case.samples * case.settings.samples,
    ),
    Method(
        "deep_lift",
        "DeepLift",
        "gradient",
        lambda case: backpropagation.deep_lift(case.forward(), case.inputs, case.baseline),
        lambda case: 8.0 * case.samples,
        needs=_INSIDE,
    ),
    Method(
        "deep_lift_shap",
        "DeepLiftShap",
        "gradient",
        lambda case: backpropagation.deep_lift_shap(case.forward(), case.inputs, case.shap_baselines()),
        lambda case: 8.0 * case.samples * case.settings.shap_baselines,
        needs=_INSIDE,
    ),
    Method(
        "guided_backpropagation",
        "Guided backpropagation",
        "gradient",
        lambda case: backpropagation.guided_backpropagation(case.forward(), case.inputs),
        lambda case: 6.0 * case.samples,
        needs=_INSIDE,
        sane=False,
        caution=_EDGES,
        per_input_unit=True,
    ),
    Method(
        "deconvolution",
        "Deconvolution",
        "gradient",
        lambda case: backpropagation.deconvolution(case.forward(), case.inputs),
        lambda case: 6.0 * case.samples,
        needs=_INSIDE,
        sane=False,
        caution=_EDGES,
        per_input_unit=True,
    ),
):
    _enter(_entry)
for _name, _title in (
    ("cam", "CAM"),
    ("gradcam", "Grad-CAM"),
    ("gradcam++", "Grad-CAM++"),
    ("hirescam", "HiResCAM"),
    ("layercam", "LayerCAM"),
    ("xgradcam", "XGrad-CAM"),
):
    _enter(Method(_name, _title, "cam", cam_run(_name), gradient_passes, needs=_INSIDE, sane_on_values=False))
_enter(
    Method(
        "scorecam",
        "Score-CAM",
        "cam",
        cam_run("scorecam"),
        lambda case: 64.0 * case.samples,
        needs=("layers", "free_batch"),
        sane_on_values=False,
    )
)
for _name in LAYER_METHODS:
    _many = _name in ("layer_conductance", "internal_influence", "layer_integrated_gradients")
    _enter(
        Method(
            _name,
            _name.replace("_", " ").capitalize(),
            "layer",
            layer_run(_name),
            lambda case, many=_many: 3.0 * case.samples * (case.settings.layer_steps if many else 4),
            needs=("layers", "free_batch") if _name == "layer_activation" else _INSIDE,
            sane=_name != "layer_activation",
            caution="It does not depend on the target." if _name == "layer_activation" else "",
            sane_on_values=_name == "internal_influence",
        )
    )
for _entry in (
    Method("occlusion", "Occlusion", "perturbation", occlusion_run, occlusion_passes, needs=(), sane_on_values=False),
    Method(
        "feature_ablation",
        "Ablation of regions",
        "perturbation",
        regions_run(lambda game, case: coalitions.feature_ablation(game)),
        lambda case: case.samples * case.settings.regions,
        needs=(),
    ),
    Method(
        "shapley_sampling",
        "Shapley value sampling",
        "perturbation",
        regions_run(lambda game, case: coalitions.shapley_sampling(game, case.settings.permutations, case.seed)),
        lambda case: case.samples * case.settings.regions * case.settings.permutations,
        needs=(),
        sane_on_values=False,
    ),
    Method(
        "kernel_shap",
        "KernelShap",
        "perturbation",
        regions_run(lambda game, case: coalitions.kernel_shap(game, case.settings.coalitions, case.seed)),
        lambda case: case.samples * case.settings.coalitions,
        needs=(),
    ),
    Method(
        "lime",
        "LIME",
        "perturbation",
        regions_run(lambda game, case: coalitions.lime(game, case.settings.coalitions, case.seed)),
        lambda case: case.samples * case.settings.coalitions,
        needs=(),
    ),
    Method(
        "rise",
        "RISE",
        "perturbation",
        rise_run,
        lambda case: case.samples * case.settings.masks,
        needs=(),
        sane_on_values=False,
    ),
):
    _enter(_entry)
