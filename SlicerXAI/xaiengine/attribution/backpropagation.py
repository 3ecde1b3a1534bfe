"""Methods that change how gradients flow back, through captum, refused where they would change nothing.

captum replaces the backward rule of modules that it knows. In a network whose activations it does not know, or
that calls them as functions, its guided backpropagation *is* the plain gradient and its DeepLift *is* input times
gradient, without a word. Here such a result is an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from captum.attr import Deconvolution, DeepLift, DeepLiftShap, GuidedBackprop
from torch import nn

from ..core.errors import ModelError
from .forward import Attribution, TargetForward, completeness_error, out_of_place

DEEPLIFT_KNOWS = (
    nn.ReLU,
    nn.ELU,
    nn.LeakyReLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Softmax,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
)
DEEPLIFT_TOLERANCE = 0.05


def guided_backpropagation(forward: TargetForward, inputs: torch.Tensor) -> Attribution:
    """Only positive gradients pass back through active ReLUs (Springenberg 2015). Fails the sanity check."""
    return _with_relu_rule(GuidedBackprop, "Guided backpropagation", forward, inputs)


def deconvolution(forward: TargetForward, inputs: torch.Tensor) -> Attribution:
    """Only positive gradients pass back through every ReLU (Zeiler and Fergus 2014). Fails the sanity check."""
    return _with_relu_rule(Deconvolution, "Deconvolution", forward, inputs)


def _with_relu_rule(method: type, title: str, forward: TargetForward, inputs: torch.Tensor) -> Attribution:
    if not any(isinstance(module, nn.ReLU) for module in forward.network.modules()):
        raise ModelError(
            f"{title} cannot be applied to this model: it has no ReLU modules, only {activation_names(forward)}; the "
            "result would be the plain gradient under another name.",
            "Choose saliency or integrated gradients.",
        )
    with quiet_captum(), out_of_place(forward.network):
        attribution = method(forward).attribute(inputs.detach().requires_grad_()).detach()
    if torch.allclose(attribution, forward.gradient(inputs), rtol=1e-4, atol=1e-12):
        raise ModelError(
            f"{title} changes nothing in this model: its ReLU modules are not on the path to the explained number.",
            "Choose saliency or integrated gradients.",
        )
    return Attribution(
        attribution,
        unit="modified gradient",
        notes=(f"{title} shows edges of the image whatever the model has learned; do not rely on it alone.",),
    )


def deep_lift(forward: TargetForward, inputs: torch.Tensor, baseline: torch.Tensor) -> Attribution:
    """Differences to the baseline handed back by the rescale rule (Shrikumar 2017)."""
    with quiet_captum(), out_of_place(forward.network):
        attribution = _deep_lift_call(DeepLift(forward), inputs, baseline)
    return _checked_deep_lift("DeepLift", forward, inputs, forward.values(baseline), attribution)


def deep_lift_shap(forward: TargetForward, inputs: torch.Tensor, baselines: torch.Tensor) -> Attribution:
    """DeepLift averaged over several baselines (B, C, spatial...), B ≥ 2 (Lundberg and Lee 2017)."""
    with quiet_captum(), out_of_place(forward.network):
        attribution = _deep_lift_call(DeepLiftShap(forward), inputs, baselines)
    return _checked_deep_lift("DeepLiftShap", forward, inputs, forward.values(baselines).mean(), attribution)


def _deep_lift_call(method: DeepLift, inputs: torch.Tensor, baselines: torch.Tensor) -> torch.Tensor:
    try:
        return method.attribute(inputs.detach().requires_grad_(), baselines=baselines).detach()
    except (RuntimeError, AssertionError, AttributeError) as error:
        raise ModelError(
            f"DeepLift cannot follow this model: {error}.",
            "Choose integrated gradients; DeepLift needs every activation to be a module that is used once.",
        ) from error


def _checked_deep_lift(
    title: str, forward: TargetForward, inputs: torch.Tensor, reference: torch.Tensor, attribution: torch.Tensor
) -> Attribution:
    error = completeness_error(attribution, forward.values(inputs) - reference)
    if error > DEEPLIFT_TOLERANCE:
        unknown = activation_names(forward, unknown_only=True)
        raise ModelError(
            f"{title} does not fit this model: its map misses the change of the prediction by {error:.0%}, because "
            f"it has activations that DeepLift has no rule for ({unknown}).",
            "Choose integrated gradients, which is complete for every differentiable model.",
        )
    return Attribution(attribution, convergence={"completeness_error": error})


def activation_names(forward: TargetForward, unknown_only: bool = False) -> str:
    """The kinds of activation modules of the network, in words."""
    found = {
        type(module).__name__
        for module in forward.network.modules()
        if type(module).__module__.startswith(("torch.nn.modules.activation", "monai.networks.blocks.activation"))
        and not (unknown_only and isinstance(module, DEEPLIFT_KNOWS))
    }
    return ", ".join(sorted(found)) or "activations called as functions"


@contextmanager
def quiet_captum() -> Iterator[None]:
    """captum's advice to callers (hooks are set, gradients were required) says nothing to users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
