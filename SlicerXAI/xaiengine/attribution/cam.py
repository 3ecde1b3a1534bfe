"""Class activation maps in one, two and three dimensions, of several layers at once, from one pass.

Every map is a weighted sum of a layer's feature maps A (N, K, cells...), see :data:`WEIGHTS`; g is the derivative
of the explained number with respect to A. Maps are raw: not scaled to 0..1, so that samples can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from ..core.errors import ModelError
from ..targets.targets import Target
from .feature_maps import check_spatial, recorded

CamMethod = Literal["cam", "gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "scorecam"]
CAM_METHODS: tuple[CamMethod, ...] = ("cam", "gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "scorecam")

INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _mean_gradient(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    return gradient.mean(_cells(gradient), keepdim=True)


def _plus_plus(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Σ α relu(g), α = g² / (2 g² + ΣA g³), zero where g is zero (eq. 19 and 10 of the paper)."""
    square = gradient.square()
    cube_term = square * gradient * activation.sum(_cells(activation), keepdim=True)
    denominator = 2 * square + cube_term
    alpha = torch.where(denominator != 0, square / denominator.where(denominator != 0, 1.0), 0.0)
    return (alpha * gradient.relu()).sum(_cells(gradient), keepdim=True)


def _axiom_based(activation: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Σ g A / Σ A: sensitivity and conservation hold as nearly as channel weights allow."""
    total = activation.sum(_cells(activation), keepdim=True)
    weighted = (gradient * activation).sum(_cells(activation), keepdim=True)
    return torch.where(total.abs() > 1e-8, weighted / total.where(total.abs() > 1e-8, 1.0), 0.0)


WEIGHTS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "gradcam": _mean_gradient,  # Selvaraju 2017
    "gradcam++": _plus_plus,  # Chattopadhay 2018
    "hirescam": lambda activation, gradient: gradient,  # Draelos and Carin 2020
    "layercam": lambda activation, gradient: gradient.relu(),  # Jiang 2021
    "xgradcam": _axiom_based,  # Fu 2020
}
RECTIFIED = {"gradcam", "gradcam++", "layercam", "scorecam"}
"""Methods whose papers keep the positive part only; CAM, HiResCAM and XGrad-CAM are signed."""


def cam_maps(
    model_forward: Callable[[torch.Tensor], torch.Tensor],
    layers: Mapping[str, nn.Module],
    inputs: torch.Tensor,
    target: Target,
    methods: Sequence[CamMethod] = ("gradcam",),
    *,
    rectify: bool | None = None,
    batch_size: int = 16,
) -> dict[tuple[str, str], torch.Tensor]:
    """Maps of every method at every layer.

    Args:
        model_forward: the network (with frozen parameters, in evaluation mode): (N, C, spatial...) to its output.
        layers: the layers to explain, by name, as modules of that network.
        inputs: samples (N, C, spatial...); each gets maps of its own.
        target: what is explained; its value is taken per sample.
        methods: one forward and one backward pass serve all but ``scorecam``, which takes one forward pass per
            channel of each layer, ``batch_size`` masked inputs at a time.
        rectify: keep positive parts only (True), keep signs (False), or as each paper does (None).

    Returns:
        ``{(method, layer): map}`` with maps (N, cells...) on the layer's own grid, float32.

    Raises:
        ModelError: a layer without a feature map, a target that does not depend on a layer, or, for ``cam``, a
            network that does not end in global average pooling and one linear layer.
    """
    wanted = any(method in WEIGHTS for method in methods)
    activations, gradients, output = record_layers(model_forward, layers, inputs, target, wanted)
    maps: dict[tuple[str, str], torch.Tensor] = {}
    for name in layers:
        activation = activations[name].detach().float()
        for method in methods:
            if method == "cam":
                raw = original_cam(model_forward, layers[name], name, activation, output.detach(), target)
            elif method == "scorecam":
                weights = _scorecam_weights(model_forward, inputs, activation, target, batch_size)
                raw = (weights * scaled(activation)).sum(1)
            else:
                raw = (WEIGHTS[method](activation, gradients[name]) * activation).sum(1)
            keep_positive = method in RECTIFIED if rectify is None else rectify
            maps[method, name] = raw.relu() if keep_positive else raw
    return maps


def record_layers(
    model_forward: Callable[[torch.Tensor], torch.Tensor],
    layers: Mapping[str, nn.Module],
    inputs: torch.Tensor,
    target: Target,
    differentiable: bool = True,
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], torch.Tensor]:
    """Activations (N, K, cells...) of layers, the target's derivatives with respect to them, and the output.

    One forward and one backward pass serve all layers; without ``differentiable`` there are no derivatives.

    Raises:
        ModelError: a layer without a feature map, or a target that does not depend on one.
    """
    with recorded(layers, differentiable=differentiable) as activations, torch.set_grad_enabled(differentiable):
        output = model_forward(inputs)
        missing = [name for name in layers if name not in activations]
        if missing:
            raise ModelError(f"The layer {missing[0]} takes no part in the prediction.", "Choose another layer.")
        for name, activation in activations.items():
            check_spatial(name, activation, inputs.ndim - 2)
        gradients = _gradients(target.value(output), activations) if differentiable else {}
    return activations, gradients, output


def upsample(maps: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Maps (N, cells...) on the voxels of the input (N, spatial...), linearly, edge to edge."""
    size = tuple(shape)
    if tuple(maps.shape[1:]) == size:
        return maps
    mode = INTERPOLATION[len(size)]
    return functional.interpolate(maps[:, None].float(), size=size, mode=mode, align_corners=False)[:, 0]


def _cells(tensor: torch.Tensor) -> list[int]:
    return list(range(2, tensor.ndim))


def _gradients(values: torch.Tensor, activations: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = torch.autograd.grad(values.sum(), list(activations.values()), allow_unused=True)
    gradients = dict(zip(activations, found))
    for name, gradient in gradients.items():
        if gradient is None:
            raise ModelError(
                f"The explained number does not depend on the layer {name}.", "Choose a layer before the output."
            )
    return {name: gradient.float() for name, gradient in gradients.items()}


def scaled(activation: torch.Tensor) -> torch.Tensor:
    """Each feature map scaled to 0..1; constant maps become 0."""
    low = activation.amin(_cells(activation), keepdim=True)
    return (activation - low) / (activation.amax(_cells(activation), keepdim=True) - low + 1e-8)


@torch.no_grad()
def _scorecam_weights(
    model_forward: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    activation: torch.Tensor,
    target: Target,
    batch_size: int,
) -> torch.Tensor:
    """Softmax over channels of how much each feature map, as a mask of the input, keeps (Wang 2020), (N, K, 1...)."""
    masks = scaled(activation)
    samples, channels = masks.shape[:2]
    reference = target.value(model_forward(inputs))
    scores = torch.empty(samples, channels, device=inputs.device)
    for sample in range(samples):
        for start in range(0, channels, batch_size):
            chunk = upsample(masks[sample, start : start + batch_size], inputs.shape[2:])
            masked = inputs[sample : sample + 1] * chunk[:, None].to(inputs.dtype)
            scores[sample, start : start + len(chunk)] = target.value(model_forward(masked)) - reference[sample]
    return scores.softmax(1).reshape(samples, channels, *[1] * (activation.ndim - 2))


def original_cam(
    model_forward: Callable[[torch.Tensor], torch.Tensor],
    layer: nn.Module,
    name: str,
    activation: torch.Tensor,
    output: torch.Tensor,
    target: Target,
) -> torch.Tensor:
    """Zhou 2016: the feature maps weighted as the last linear layer weighs their means."""
    head = _pooled_head(model_forward, activation, output)
    if head is None:
        raise ModelError(
            f"CAM needs a network that ends in global average pooling of {name} and one linear layer; this one does "
            "something else after that layer.",
            "Choose the last convolutional layer, or use Grad-CAM, which equals CAM where CAM exists.",
        )
    weights = target.cotangent(output).float() @ head.weight.detach().float().flatten(1)
    return (weights.reshape(*weights.shape, *[1] * (activation.ndim - 2)) * activation).sum(1)


def _pooled_head(
    model_forward: Callable[[torch.Tensor], torch.Tensor], activation: torch.Tensor, output: torch.Tensor
) -> nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """The linear layer that turns pooled activations into the output, found by doing just that."""
    network = model_forward if isinstance(model_forward, nn.Module) else getattr(model_forward, "network", None)
    if network is None:
        return None
    pooled = activation.mean(_cells(activation))
    for module in network.modules():
        if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            continue
        weight = module.weight
        if weight.shape[1] != pooled.shape[1] or weight[0, 0].numel() != 1 or weight.shape[0] != output.shape[1]:
            continue
        guess = functional.linear(pooled, weight.float().flatten(1), module.bias)
        if torch.allclose(guess, output.float().reshape(guess.shape), rtol=1e-3, atol=1e-4):
            return module
    return None
