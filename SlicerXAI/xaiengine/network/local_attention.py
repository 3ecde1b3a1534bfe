"""Attention in which every token heeds itself alone: then a token's place can be read off what changes it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_SOFTMAX = {torch.softmax, Tensor.softmax, functional.softmax}
_FUSED = torch._C._nn.scaled_dot_product_attention


class _LocalAttention(TorchFunctionMode):
    """Replaces square attention matrices by the identity; all other computations stay."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.multi_head_attention_forward:
            local = _own_values(*args, **kwargs)
            if local is not None:
                return local
        if func is _FUSED or func is functional.scaled_dot_product_attention:
            query, key, value = (args + (None, None, None))[:3]
            query, key = kwargs.get("query", query), kwargs.get("key", key)
            value = kwargs.get("value", value)
            if query.shape[-2] == key.shape[-2] == value.shape[-2] and query.shape[:-2] == value.shape[:-2]:
                return value.clone()
        output = func(*args, **kwargs)
        if func in _SOFTMAX and isinstance(output, Tensor) and output.ndim >= 3:
            rows, columns = output.shape[-2:]
            if rows == columns and rows > 1:
                return torch.eye(rows, dtype=output.dtype, device=output.device).expand_as(output).clone()
        return output


_MULTI_HEAD = inspect.signature(functional.multi_head_attention_forward)


def _own_values(*args: Any, **kwargs: Any) -> tuple[Tensor, None] | None:
    """What multi-head self-attention (tokens, N, C) gives if every token heeds itself alone; None for other kinds."""
    call = _MULTI_HEAD.bind(*args, **kwargs).arguments
    query, key, value = call["query"], call["key"], call["value"]
    if query.shape[0] != key.shape[0] or call.get("bias_k") is not None or call.get("add_zero_attn"):
        return None
    bias, width = call.get("in_proj_bias"), call["embed_dim_to_check"]
    separate = call.get("use_separate_proj_weight")
    weight = call["v_proj_weight"] if separate else call["in_proj_weight"][2 * width :]
    own = functional.linear(value, weight, None if bias is None else bias[2 * width :])
    return functional.linear(own, call["out_proj_weight"], call["out_proj_bias"]), None


@contextmanager
def local_attention() -> Iterator[None]:
    """Within the block, self-attention passes each token's own value on.

    Cross-attention and attention to pooled keys (not square) are computed as they are.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _LocalAttention():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
