"""Maps from a transformer's attention: rollout, gradient-weighted attention, LeGrad.

Attention matrices are seen wherever a softmax makes them, whether the network calls it, torch's multi-head attention
or its fused kernels, which are taken step by step for the pass. Their keys are put on the grid of the layer in which
they were made; attention within shifted windows and to pooled keys is read for what it heeds only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..core.errors import ModelError
from ..network.feature_grid import FeatureGrid
from ..network.layer_maps import layer_maps
from ..network.layouts import Layout, strides
from .feature_maps import explainable
from .forward import Attribution, TargetForward, out_of_place
from .placement import placed
from .relevance import _multi_head, plain_attention

AttentionKind = Literal["rollout", "gradient_attention", "legrad"]
_SOFTMAX = {torch.softmax, Tensor.softmax, functional.softmax}


@dataclass
class _Matrix:
    """One attention matrix (rows, heads, queries, keys), and the places of its keys."""

    weights: Tensor
    layout: Layout


@dataclass
class _Watch(TorchFunctionMode):
    layouts: dict[str, Layout]
    open: list[str] = field(default_factory=list)
    found: list[_Matrix] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            with self:
                return _multi_head(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            with self:
                return plain_attention(*args, **kwargs)
        output = func(*args, **kwargs)
        if func in _SOFTMAX and isinstance(output, Tensor) and output.ndim >= 3 and output.requires_grad:
            layout = self._places(output)
            if layout is not None:
                self.found.append(_Matrix(output, layout))
        return output

    def _places(self, weights: Tensor) -> Layout | None:
        """The layout of the innermost open module, or of one around it, that the keys fit."""
        for name in (*reversed(self.open), ""):  # the network itself has no name
            inside = name + "." if name else ""
            for known in (name, *[other for other in self.layouts if other.startswith(inside)]):
                layout = self.layouts.get(known)
                if layout is not None and _fits(layout, weights):
                    return layout
        return None


def _fits(layout: Layout, weights: Tensor) -> bool:
    count = 1
    for size in layout.window or layout.cells:
        count *= size
    if layout.kind == "windows":
        return weights.shape[-1] == count and weights.shape[-2] == count
    return layout.kind not in ("first", "last") and weights.shape[-1] == count + layout.leading


def attention_map(forward: TargetForward, inputs: Tensor, kind: AttentionKind) -> Attribution:
    """The map (N, 1, spatial...) of one kind.

    Raises ModelError when the network has no attention over tokens with places.
    """
    network = forward.network
    layouts = layer_maps(network, inputs[:1])
    watch = _Watch(layouts)
    with torch.enable_grad(), out_of_place(network), explainable(network), _opened(network, watch.open), _slow():
        leaf = inputs.detach().clone().requires_grad_()
        with watch:
            values = forward(leaf)
        if not watch.found:
            raise ModelError(
                "The model has no attention between tokens that have a place in the image.",
                "This method is for vision transformers; choose Grad-CAM, integrated gradients or a bottleneck.",
            )
        gradients = torch.autograd.grad(values.sum(), [item.weights for item in watch.found], allow_unused=True)
    sizes = tuple(inputs.shape[2:])
    notes: tuple[str, ...] = ()
    if kind == "legrad":
        total = _local(watch.found, gradients, sizes, lambda a, g: g.clamp_min(0))
    else:
        total, notes = _propagated(watch.found, gradients, sizes, kind)
    return Attribution(total[:, None].detach(), unit="attention", notes=notes)


def _local(found: list[_Matrix], gradients: Any, sizes: tuple[int, ...], weigh: Callable) -> Tensor:
    total: Tensor | None = None
    for item, gradient in zip(found, gradients):
        if gradient is None:
            continue
        matrix = weigh(item.weights.detach().float(), gradient.float())
        heeded = matrix.reshape(len(matrix), -1, *matrix.shape[-2:]).mean((1, 2))
        map_ = _on_voxels(heeded, item.layout, sizes)
        total = map_ if total is None else total + map_
    assert total is not None
    return total


def _propagated(found: list[_Matrix], gradients: Any, sizes: tuple, kind: str) -> tuple[Tensor, tuple[str, ...]]:
    """Products over the blocks of attention among all tokens; sums where tokens meet in windows only."""
    whole = [item.layout.kind != "windows" and item.weights.shape[-1] == item.weights.shape[-2] for item in found]
    same = len({(item.layout.cells, item.layout.leading) for item in found}) == 1

    def weigh(weights: Tensor, gradient: Tensor) -> Tensor:
        return weights if kind == "rollout" else (weights * gradient).clamp_min(0)

    if not (all(whole) and same):
        filled = [torch.zeros_like(item.weights) if g is None else g for item, g in zip(found, gradients)]
        text = "Tokens meet in windows or in pooled groups: the blocks' attention was added up, not multiplied."
        return _local(found, filled, sizes, weigh), (text,)
    result: Tensor | None = None
    for item, gradient in zip(found, gradients):
        weights = item.weights.detach().float()
        gradient = torch.zeros_like(weights) if gradient is None else gradient.float()
        step = weigh(weights, gradient)
        step = step.reshape(len(step), -1, *step.shape[-2:]).mean(1)  # over heads, where there are any
        eye = torch.eye(step.shape[-1], device=step.device).expand_as(step)
        if kind == "rollout":
            step = 0.5 * (step + eye)
            result = step if result is None else step @ result
        else:
            result = eye + step if result is None else result + step @ result
    assert result is not None
    layout = found[0].layout
    rows = result[:, 0] if layout.leading else result.mean(1)
    if kind != "rollout" and not layout.leading:
        rows = (result - torch.eye(result.shape[-1], device=result.device)).mean(1)
    notes: tuple[str, ...] = ()
    if layout.leading:
        share = float(rows[:, : layout.leading].sum() / rows.sum().clamp_min(1e-30))
        notes = (f"The class token itself holds {share:.0%} of the relevance; it has no place in the map.",)
    return _on_voxels(rows, layout, sizes), notes


def _on_voxels(keys: Tensor, layout: Layout, sizes: tuple[int, ...]) -> Tensor:
    """Values of keys (rows or windows, tokens) on the input's voxels (N, spatial...)."""
    output = keys[:, :, None]
    if layout.kind == "sequence":
        output = output.transpose(0, 1)
    elif layout.kind == "channel_tokens":
        output = output.transpose(1, 2)
    cells = layout.to_map(output)[:, 0]
    stride = strides(sizes, layout.cells)
    grid = FeatureGrid(layout.cells, stride, tuple((step - 1) / 2 for step in stride), measured=True)
    return placed(cells, grid, sizes)


@contextmanager
def _slow() -> Iterator[None]:
    """torch's fused encoder layers off."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _opened(network: nn.Module, names: list[str]) -> Iterator[None]:
    """Keeps the names of the modules that are running, outermost first."""
    with ExitStack() as stack:
        for name, module in network.named_modules():
            if name and not isinstance(module, torch.jit.ScriptModule):
                stack.callback(module.register_forward_pre_hook(lambda *call, n=name: names.append(n)).remove)
                stack.callback(module.register_forward_hook(lambda *call: names.pop() and None).remove)
        yield
