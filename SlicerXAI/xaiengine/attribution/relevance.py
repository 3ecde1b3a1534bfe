"""Layer-wise relevance propagation as a changed backward pass, for convolutions and for attention.

The relevance of a value is the value times a changed derivative, so operations without a rule of their own, sums,
concatenations, reshaping, average and max pooling keep their derivative: sums split by contribution, max pooling
gives to the winner. Linear operations follow a rule (Bach 2015; Montavon 2019), batch normalization is folded into
the convolution before it, and attention follows AttnLRP (Achtibat et al., ICML 2024): half of the relevance to each
factor of a product, constant denominators in normalizations, activations pass relevance on unchanged.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from .forward import Attribution, TargetForward, out_of_place

STABILIZER = 1e-6


@dataclass(frozen=True)
class Rules:
    """One rule each for dense layers, convolutions, and whatever meets the input first.

    ``epsilon`` is relative to the layer's mean absolute output; ``low`` and ``high`` bound the input of the z-box rule
    (the input's own range where None).
    """

    dense: str = "epsilon"
    convolution: str = "gamma"
    first: str = ""
    epsilon: float = 1e-3
    gamma: float = 0.25
    low: float | None = None
    high: float | None = None


COMPOSITES: dict[str, Rules] = {
    "epsilon": Rules(convolution="epsilon"),
    "gamma": Rules(),
    "plus_flat": Rules(convolution="plus", first="flat"),
    "alpha_beta_flat": Rules(convolution="alpha_beta", first="flat"),
    "gamma_box": Rules(first="box"),
}


def relevance(forward: TargetForward, inputs: Tensor, rules: Rules) -> Attribution:
    """Relevance (N, C, spatial...) of each input value for the explained number.

    ``conserved_share`` is the smallest share of that number that the map's sum holds; the rest is in biases.
    """
    with torch.enable_grad(), out_of_place(forward.network):
        leaf = inputs.detach().clone().requires_grad_()
        mode = _Relevance(rules, leaf)
        with mode:
            values = forward(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
    found = mode.at_input if gradient is None else mode.at_input + leaf.detach() * gradient
    sums = found.flatten(1).sum(1)
    share = sums / torch.where(values.abs() > 1e-12, values.detach(), torch.ones_like(values))
    return Attribution(found.detach(), unit="relevance", convergence={"conserved_share": float(share.min())})


class _Linear(torch.autograd.Function):
    """Hands the output on, and its relevance back to the input by a rule."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, output: Tensor, back: Callable) -> Tensor:
        ctx.back = back
        ctx.save_for_backward(values, output)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple:
        values, output = ctx.saved_tensors
        return ctx.back(values, output, gradients[0]), None, None


_CONVOLUTIONS = {
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
}
_TRANSPOSED = {torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d}
_GATES = {functional.gelu, functional.silu, functional.mish, functional.hardswish, functional.elu}
_GATES |= {functional.softplus, torch.tanh, Tensor.tanh, torch.sigmoid, Tensor.sigmoid, functional.hardsigmoid}
_GATES |= {functional.sigmoid, functional.tanh, torch._C._nn.gelu, functional.leaky_relu}
_PRODUCTS = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm, torch.mul, Tensor.mul}
_PRODUCTS |= {Tensor.__mul__}
_QUOTIENTS = {torch.div, Tensor.div, Tensor.__truediv__}
_FUSED = functional.scaled_dot_product_attention
_MULTI_HEAD = inspect.signature(functional.multi_head_attention_forward)


class _Relevance(TorchFunctionMode):
    def __init__(self, rules: Rules, leaf: Tensor) -> None:
        super().__init__()
        self.rules, self.leaf = rules, leaf
        self.at_input = torch.zeros_like(leaf)
        self.linear: dict[int, tuple[Tensor, Tensor, Tensor, Tensor | None, Callable, Any]] = {}

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if func in _CONVOLUTIONS or func is functional.linear:
            return self._linear(func, *args, **kwargs)
        if func is functional.batch_norm:
            return self._batch_norm(func, args, kwargs)
        if func is functional.multi_head_attention_forward:
            with self:
                return _multi_head(*args, **kwargs)
        if func is _FUSED:
            with self:
                return plain_attention(*args, **kwargs)
        if func in (functional.layer_norm, functional.group_norm, functional.instance_norm):
            return _constant_spread(func, args, kwargs)
        if func in _GATES and args and _follows(args[0]):
            output = func(args[0].detach().clone(), *args[1:], **kwargs)
            values = args[0].detach()
            safe = torch.where(values.abs() > STABILIZER, values, torch.full_like(values, STABILIZER))
            return args[0] * (output / safe) + (output - values * (output / safe))
        if func is torch.einsum and len(args) == 3 and _follows(args[1]) and _follows(args[2]):
            return _halves(lambda one, other: func(args[0], one, other), args[1], args[2])
        if func in _PRODUCTS and len(args) == 2 and _follows(args[0]) and _follows(args[1]):
            return _halves(func, args[0], args[1])
        if func in _QUOTIENTS and len(args) > 1 and _follows(args[0]) and _follows(args[1]):
            return func(args[0], args[1].detach(), *args[2:], **kwargs)
        return func(*args, **kwargs)

    def _linear(self, func: Any, values: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kw: Any):
        output = func(values, weight, bias, *args, **kw)
        if not _follows(values) or (weight.requires_grad and not weight.is_leaf):
            return output

        def apply(inputs: Tensor, weights: Tensor, biases: Tensor | None) -> Tensor:
            return func(inputs, weights, biases, *args, **kw)

        return self._ruled(func, values, weight, bias, apply, output.detach())

    def _ruled(self, func: Any, values: Tensor, weight: Tensor, bias: Tensor | None, apply: Callable, output: Tensor):
        rule = self.rules.dense if func is functional.linear else self.rules.convolution
        first = bool(self.rules.first) and values.shape == self.leaf.shape and _is_raw(values)

        def back(inputs: Tensor, result: Tensor, gradient: Tensor) -> Tensor:
            amount = gradient * result
            if first:
                self.at_input += self._first(inputs, weight, bias, apply, amount)
                return torch.zeros_like(inputs)
            return self._back(rule, inputs, weight, bias, apply, result, amount)

        ruled = _Linear.apply(values, output, back)
        self.linear[id(ruled)] = (ruled, values, weight, bias, apply, func)
        return ruled

    def _batch_norm(self, func: Any, args: tuple, kwargs: dict) -> Tensor:
        output = func(*args, **kwargs)
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = dict(zip(names, args)) | kwargs
        known = self.linear.get(id(given["input"]))
        if known is None or given.get("training") or given.get("running_var") is None:
            return output
        _, values, weight, bias, apply, func = known
        axis = 1 if func in _TRANSPOSED else 0
        if weight.shape[axis] != len(given["running_var"]):
            return output
        scale = (given["running_var"] + given.get("eps", 1e-5)).rsqrt()
        scale = scale * given["weight"] if given.get("weight") is not None else scale
        shift = -given["running_mean"] * scale + (given["bias"] if given.get("bias") is not None else 0)
        shape = [-1 if number == axis else 1 for number in range(weight.ndim)]
        folded = shift if bias is None else bias * scale + shift
        return self._ruled(func, values, weight * scale.reshape(shape), folded, apply, output.detach())

    def _back(
        self, rule: str, x: Tensor, weight: Tensor, bias: Tensor | None, apply: Callable, z: Tensor, amount: Tensor
    ) -> Tensor:
        """The changed derivative that times the input is the relevance of the input."""
        epsilon = self.rules.epsilon * z.abs().mean().clamp_min(STABILIZER)
        if rule == "epsilon":
            return _transposed(apply, x, weight, amount / _away(z, epsilon))
        up, down = weight.clamp_min(0), weight.clamp_max(0)
        above, below = x.clamp_min(0), x.clamp_max(0)
        plus = apply(above, up, None if bias is None else bias.clamp_min(0)) + apply(below, down, None)
        minus = apply(above, down, None if bias is None else bias.clamp_max(0)) + apply(below, up, None)
        if rule == "gamma":
            ratio = amount / _away(z + self.rules.gamma * torch.where(z >= 0, plus, minus), STABILIZER)
            found = _transposed(apply, x, weight, ratio)
            for_plus, for_minus = self.rules.gamma * ratio * (z >= 0), self.rules.gamma * ratio * (z < 0)
        else:
            alpha, beta = (2.0, 1.0) if rule == "alpha_beta" else (1.0, 0.0)
            found = torch.zeros_like(x)
            for_plus, for_minus = alpha * amount / _away(plus, STABILIZER), -beta * amount / _away(minus, STABILIZER)
        positive = _transposed(apply, x, up, for_plus) + _transposed(apply, x, down, for_minus)
        negative = _transposed(apply, x, down, for_plus) + _transposed(apply, x, up, for_minus)
        return found + torch.where(x >= 0, positive, negative)

    def _first(self, x: Tensor, weight: Tensor, bias: Tensor | None, apply: Callable, amount: Tensor) -> Tensor:
        """The relevance of the network's input by the flat or the z-box rule."""
        if self.rules.first == "flat":
            ones = torch.ones_like(weight)
            count = apply(torch.ones_like(x), ones, None)
            return _transposed(apply, x, ones, amount / _away(count, STABILIZER))
        low = torch.full_like(x, float(x.min()) if self.rules.low is None else self.rules.low)
        high = torch.full_like(x, float(x.max()) if self.rules.high is None else self.rules.high)
        up, down = weight.clamp_min(0), weight.clamp_max(0)
        z = apply(x, weight, None) - apply(low, up, None) - apply(high, down, None)
        ratio = amount / _away(z, STABILIZER)
        found = x * _transposed(apply, x, weight, ratio)
        return found - low * _transposed(apply, x, up, ratio) - high * _transposed(apply, x, down, ratio)


def _follows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _is_raw(values: Tensor) -> bool:
    """Whether no linear operation with a rule lies between the network's input and these values."""
    waiting, seen = [values.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if type(node).__name__.startswith("_Linear"):
            return False
        seen.add(node)
        waiting += [parent for parent, _ in node.next_functions]
    return True


def _away(values: Tensor, step: Tensor | float) -> Tensor:
    """Moved away from zero."""
    return values + torch.where(values >= 0, 1.0, -1.0) * step


def _transposed(apply: Callable, x: Tensor, weight: Tensor, amount: Tensor) -> Tensor:
    with torch.enable_grad():
        probe = torch.zeros_like(x).requires_grad_()
        (found,) = torch.autograd.grad(apply(probe, weight.detach(), None), probe, amount)
    return found


def _halves(product: Callable, one: Tensor, other: Tensor) -> Tensor:
    return 0.5 * (product(one, other.detach()) + product(one.detach(), other))


def _constant_spread(func: Callable, args: tuple, kwargs: dict) -> Tensor:
    """A normalization whose standard deviation is a constant: only its mean follows the input."""
    values = args[0]
    if not _follows(values):
        return func(*args, **kwargs)
    with torch.enable_grad():
        fixed = values.detach()
        output = func(fixed, *args[1:], **kwargs)
        centered = _centered(func, values, args, kwargs)
        fixed_centered = _centered(func, fixed, args, kwargs)
        ratio = _scale(func, fixed, args, kwargs)
    return output + (centered - fixed_centered) * ratio


def _axes(func: Callable, values: Tensor, args: tuple, kwargs: dict) -> tuple[Tensor, list[int]]:
    if func is functional.layer_norm:
        shape = kwargs["normalized_shape"] if "normalized_shape" in kwargs else args[1]
        return values, list(range(values.ndim - len(shape), values.ndim))
    if func is functional.instance_norm:
        return values, list(range(2, values.ndim))
    groups = kwargs.get("num_groups", args[1] if len(args) > 1 else 1)
    return values.reshape(len(values), groups, -1), [2]


def _centered(func: Callable, values: Tensor, args: tuple, kwargs: dict) -> Tensor:
    shaped, axes = _axes(func, values, args, kwargs)
    return (shaped - shaped.mean(axes, keepdim=True)).reshape(values.shape)


def _scale(func: Callable, values: Tensor, args: tuple, kwargs: dict) -> Tensor:
    shaped, axes = _axes(func, values, args, kwargs)
    given = dict(zip(inspect.signature(func).parameters, args)) | kwargs
    spread = (shaped.var(axes, unbiased=False, keepdim=True) + given.get("eps", 1e-5)).rsqrt()
    scale = spread.expand_as(shaped).reshape(values.shape)
    weight = given.get("weight")
    if weight is None:
        return scale
    return scale * (weight if func is functional.layer_norm else weight.reshape(1, -1, *[1] * (values.ndim - 2)))


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled dot-product attention step by step, so that its matrix can be seen."""
    scores = (query @ key.transpose(-2, -1)) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return scores.softmax(-1) @ value


def _multi_head(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    """Multi-head attention (tokens, N, C) step by step (torch's own hides its parts)."""
    call = _MULTI_HEAD.bind(*args, **kwargs).arguments
    width, heads = call["embed_dim_to_check"], call["num_heads"]
    if call.get("use_separate_proj_weight"):
        weights = [call["q_proj_weight"], call["k_proj_weight"], call["v_proj_weight"]]
    else:
        weights = list(call["in_proj_weight"].chunk(3))
    biases = [None] * 3 if call.get("in_proj_bias") is None else list(call["in_proj_bias"].chunk(3))
    parts = []
    for values, weight, bias in zip((call["query"], call["key"], call["value"]), weights, biases):
        projected = functional.linear(values, weight, bias)
        parts.append(projected.reshape(*projected.shape[:2], heads, width // heads).permute(1, 2, 0, 3))
    mask = call.get("attn_mask")
    mask = mask if mask is None or mask.dtype != torch.bool else ~mask
    if mask is not None and mask.ndim == 3:
        mask = mask.unflatten(0, (-1, heads))
    query, key, value = parts
    mixed = plain_attention(query, key, value, attn_mask=mask).permute(2, 0, 1, 3).flatten(2)
    return functional.linear(mixed, call["out_proj_weight"], call["out_proj_bias"]), None
