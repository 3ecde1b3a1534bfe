"""A second device without a graphics card: tensors on it live in the CPU's memory and may not meet the CPU's.

It is registered where torch expects backends of other makers (PrivateUse1), so that ``tensor.to("far")``,
``torch.zeros(3, device="far")``, modules, autograd and hooks treat it as they treat CUDA. As on CUDA, an operator
whose tensors lie on two devices is an error, but for CPU scalars and for CPU indices into a far tensor, and a far
tensor has no ``numpy()``. What runs here runs without tensors on the wrong device; how fast, and whether CUDA's
kernels round alike, only a card tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "far"
ATEN = torch.ops.aten
INDEXING = ("aten::index", "aten::index_put", "aten::_index_put_impl", "aten::_unsafe_index")
SIZED_LATE = (
    "arange",
    "arange.start",
    "arange.start_step",
    "linspace",
    "logspace",
    "eye",
    "eye.m",
    "randperm",
    "randperm.generator",
    "tril_indices",
    "triu_indices",
)
"""Makers that torch composes of an empty tensor and a change of its size, of which a wrapper does not learn."""
COPYING = ("aten::copy_", "aten::_copy_from", "aten::_copy_from_and_resize", "aten::_to_copy")


class WrongDevice(RuntimeError):
    """An operator was given tensors of two devices."""


class FarTensor(Tensor):
    """A tensor whose values are ``near``, on the CPU."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> FarTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )
        made.near = near
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return run_far(operator, *args, **(kwargs or {}))

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"far({self.near!r})"

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.near.untyped_storage()

    def data_ptr(self) -> int:
        return self.near.data_ptr()

    def __getitem__(self, index: Any) -> Tensor:
        basic, advanced = _parted(index)
        base = super().__getitem__(basic) if basic else self
        return ATEN.index.Tensor(base, advanced) if advanced else base

    def __setitem__(self, index: Any, value: Any) -> None:
        basic, advanced = _parted(index)
        if not advanced:
            super().__setitem__(basic, value)
            return
        base = super().__getitem__(basic) if basic else self
        given = value if isinstance(value, Tensor) else torch.full((), value, dtype=self.dtype, device=self.device)
        ATEN.index_put_.default(base, advanced, given)

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a far tensor to numpy; copy it to the CPU first")


def _parted(index: Any) -> tuple[tuple, list]:
    """An index as slices and numbers (``()`` for none) and, behind them, as tensors; torch looks at both at once."""
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(torch.as_tensor(part) if isinstance(part, (np.ndarray, list)) else part for part in parts)
    if not any(isinstance(part, Tensor) for part in parts):
        return parts, []
    if Ellipsis in [part for part in parts if not isinstance(part, Tensor)]:
        raise NotImplementedError("an index with tensors and an ellipsis")
    basic = tuple(slice(None) if isinstance(part, Tensor) else part for part in parts)
    left = [part for part in parts if not isinstance(part, int)]
    advanced = [part if isinstance(part, Tensor) else None for part in left]
    return (basic if any(part != slice(None) for part in basic) else ()), advanced


def run_far(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """What every operator does on this device: the same on the values, after its tensors were checked."""
    name = operator._schema.name
    leaves = pytree.tree_leaves((args, kwargs))
    tensors = [item for item in leaves if isinstance(item, Tensor)]
    far = [item for item in tensors if isinstance(item, FarTensor)]
    if name not in COPYING:
        _check(name, tensors, far)
    target = kwargs.get("device")
    to_far = torch.device(target).type == NAME if target is not None else bool(far)
    if name == "aten::copy_" and far and not isinstance(args[0], FarTensor):
        args[0].copy_(args[1].near)
        return args[0]
    if name in ("aten::_copy_from", "aten::_copy_from_and_resize"):
        _near(args[1]).copy_(_near(args[0]))
        return args[1]
    near_args, near_kwargs = pytree.tree_map(_near, (args, kwargs))
    if target is not None:
        near_kwargs["device"] = torch.device("cpu")
    result = _replacement(operator)(*near_args, **near_kwargs)
    return _outputs(operator, args, kwargs, result, to_far)


def _check(name: str, tensors: list[Tensor], far: list[Tensor]) -> None:
    strangers = [item for item in tensors if not isinstance(item, FarTensor) and item.device.type == "cpu"]
    if not far or not strangers:
        return
    if name.startswith(INDEXING) and isinstance(tensors[0], FarTensor):
        strangers = [
            item for item in strangers if item.dtype not in (torch.int64, torch.int32, torch.bool, torch.uint8)
        ]
    if any(item.dim() > 0 for item in strangers):
        shapes = [tuple(item.shape) for item in strangers]
        raise WrongDevice(f"Expected all tensors to be on the same device: {name} met CPU tensors of shape {shapes}.")


def _near(item: Any) -> Any:
    if isinstance(item, FarTensor):
        return item.near
    if isinstance(item, torch.device) and item.type == NAME:
        return torch.device("cpu")
    return item


def _replacement(operator: Any) -> Any:
    """Operators that torch gives to backends of other makers only, as the CPU's."""
    name = operator._schema.name
    if name == "aten::convolution_overrideable":
        return ATEN.convolution.default
    if name == "aten::convolution_backward_overrideable":
        return _convolution_backward
    return operator


def _convolution_backward(
    gradient: Tensor,
    value: Tensor,
    weight: Tensor,
    stride,
    padding,
    dilation,
    transposed,
    output_padding,
    groups,
    mask,
) -> Any:
    return ATEN.convolution_backward.default(
        gradient,
        value,
        weight,
        [weight.shape[1] * groups if transposed else weight.shape[0]],
        stride,
        padding,
        dilation,
        transposed,
        output_padding,
        groups,
        mask,
    )


def _outputs(operator: Any, args: tuple, kwargs: dict, result: Any, to_far: bool) -> Any:
    """Far results; what an operator wrote into its argument is that argument."""
    schema = operator._schema
    written = [
        _argument(argument.name, place, args, kwargs)
        for place, argument in enumerate(schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if written and schema.returns and all(item.alias_info is not None for item in schema.returns):
        return written[0] if len(schema.returns) == 1 else tuple(written)
    if not to_far:
        return result
    return pytree.tree_map(lambda item: FarTensor(item) if type(item) is Tensor else item, result)


def _argument(name: str, place: int, args: tuple, kwargs: dict) -> Any:
    return kwargs[name] if name in kwargs else args[place]


class FarGenerator(torch.Generator):
    """A generator for the device; torch makes none for a device without a kernel of its own."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        asked = torch.device(device)
        return super().__new__(cls, device="cpu" if asked.type == NAME else asked)


class FarModule(_DummyBackendModule):
    """What torch asks the module of a device: one device, the precisions of the CPU, the CPU's random state."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: Any = NAME) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = NAME) -> None:
        torch.set_rng_state(state)

    def manual_seed_all(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)


_library: torch.library.Library | None = None
_makers: torch.library.Library | None = None


def _made_far(packet: Any, overload: str) -> Callable[..., Tensor]:
    operator = getattr(packet, overload or "default")

    def made(*args: Any, **kwargs: Any) -> Tensor:
        return run_far(operator, *args, **{**kwargs, "device": torch.device(NAME)})

    return made


def _through_the_cpu(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Numbers become tensors of the CPU first: torch copies them where Python is not asked."""

    def made(data: Any, *, device: Any = None, **more: Any) -> Tensor:
        if device is None or torch.device(device).type != NAME:
            return make(data, device=device, **more)
        return data.to(device) if isinstance(data, FarTensor) else make(data, **more).to(device)

    return made


def register() -> torch.device:
    """Make the device known to torch, once in a process, and return it."""
    global _library, _makers
    if _library is None:
        _setup_privateuseone_for_python_backend(NAME, FarModule())
        _library = torch.library.Library("_", "IMPL")
        _library.fallback(run_far, "PrivateUse1")
        _library.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
        _makers = torch.library.Library("aten", "IMPL")
        for name in SIZED_LATE:
            _makers.impl(name, _made_far(getattr(ATEN, name.partition(".")[0]), name.partition(".")[2]), "PrivateUse1")
        torch.Generator = FarGenerator
        torch.tensor, torch.as_tensor = _through_the_cpu(torch.tensor), _through_the_cpu(torch.as_tensor)
    return torch.device(NAME, 0)
