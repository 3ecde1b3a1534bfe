"""Attributions to the units of an inner layer, through captum, summed over channels on the layer's own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr import (
    InternalInfluence,
    LayerActivation,
    LayerConductance,
    LayerDeepLift,
    LayerGradientShap,
    LayerGradientXActivation,
    LayerIntegratedGradients,
)
from torch import nn

from ..core.errors import ModelError
from .backpropagation import DEEPLIFT_TOLERANCE, activation_names, quiet_captum
from .feature_maps import check_spatial
from .forward import Attribution, TargetForward, completeness_error, out_of_place, seeded_globally


@dataclass(frozen=True)
class LayerSettings:
    """``steps`` of the path integrals, ``samples`` of GradientShap, rows per pass."""

    steps: int = 32
    samples: int = 16
    batch_size: int = 8
    seed: int = 0


LayerCall = Callable[[TargetForward, nn.Module, torch.Tensor, torch.Tensor, LayerSettings], torch.Tensor]


def _activation(
    forward: TargetForward, layer: nn.Module, inputs: torch.Tensor, baseline: torch.Tensor, settings: LayerSettings
) -> torch.Tensor:
    with torch.no_grad():
        return LayerActivation(forward, layer).attribute(inputs)


def _gradient_x_activation(
    forward: TargetForward, layer: nn.Module, inputs: torch.Tensor, baseline: torch.Tensor, settings: LayerSettings
) -> torch.Tensor:
    return LayerGradientXActivation(forward, layer).attribute(inputs)


def _path_method(method: type) -> LayerCall:
    def call(
        forward: TargetForward, layer: nn.Module, inputs: torch.Tensor, baseline: torch.Tensor, settings: LayerSettings
    ) -> torch.Tensor:
        return method(forward, layer).attribute(
            inputs,
            baselines=baseline,
            n_steps=settings.steps,
            method="gausslegendre",
            internal_batch_size=max(settings.batch_size, len(inputs)),
        )

    return call


def _gradient_shap(
    forward: TargetForward, layer: nn.Module, inputs: torch.Tensor, baseline: torch.Tensor, settings: LayerSettings
) -> torch.Tensor:
    with seeded_globally(settings.seed):
        return LayerGradientShap(forward, layer).attribute(inputs, baselines=baseline, n_samples=settings.samples)


def _deep_lift(
    forward: TargetForward, layer: nn.Module, inputs: torch.Tensor, baseline: torch.Tensor, settings: LayerSettings
) -> torch.Tensor:
    try:
        # the graph must begin at the input: parameters are frozen
        return LayerDeepLift(forward, layer).attribute(inputs.detach().requires_grad_(), baselines=baseline)
    except (RuntimeError, AssertionError, AttributeError) as error:
        raise ModelError(
            f"Layer DeepLift cannot follow this model: {error}.", "Choose layer integrated gradients."
        ) from error


LAYER_METHODS: dict[str, LayerCall] = {
    "layer_activation": _activation,
    "layer_gradient_x_activation": _gradient_x_activation,
    "layer_conductance": _path_method(LayerConductance),  # Dhamdhere 2018
    "internal_influence": _path_method(InternalInfluence),  # Leino 2018
    "layer_integrated_gradients": _path_method(LayerIntegratedGradients),
    "layer_gradient_shap": _gradient_shap,
    "layer_deep_lift": _deep_lift,
}
COMPLETE = {"layer_conductance", "layer_integrated_gradients", "layer_gradient_shap", "layer_deep_lift"}
"""Methods whose map sums to f(x) - f(baseline) when the layer cuts every path and the quadrature is fine enough."""


def layer_attribution(
    method: str,
    forward: TargetForward,
    layer_name: str,
    layer: nn.Module,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    settings: LayerSettings = LayerSettings(),
) -> Attribution:
    """The map (N, 1, cells...) of one of :data:`LAYER_METHODS` at a layer.

    Raises ModelError for a layer without feature map and for DeepLift where the model has activations that it has
    no rule for.
    """
    with quiet_captum(), out_of_place(forward.network):
        units = LAYER_METHODS[method](forward, layer, inputs.detach(), baseline, settings)
    if not isinstance(units, torch.Tensor):
        raise ModelError(f"The layer {layer_name} gives several tensors.", "Choose a layer inside it.")
    units = units.detach().float()
    check_spatial(layer_name, units, inputs.ndim - 2)
    convergence = {}
    if method in COMPLETE:
        difference = forward.values(inputs) - forward.values(baseline)
        convergence["completeness_error"] = completeness_error(units, difference)
        if method == "layer_deep_lift" and convergence["completeness_error"] > DEEPLIFT_TOLERANCE:
            unknown = activation_names(forward, unknown_only=True)
            raise ModelError(
                f"Layer DeepLift does not fit this model: its map misses the change of the prediction by "
                f"{convergence['completeness_error']:.0%} (activations without a rule: {unknown}).",
                "Choose layer integrated gradients.",
            )
    return Attribution(units.sum(1, keepdim=True), convergence=convergence)
