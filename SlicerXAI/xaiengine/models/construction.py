"""Builds a network from an untrusted description without letting it take more memory than its weights justify."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..core.errors import ModelError, TrustError
from .trust.allowed import instantiate, network_class
from .trust.expressions import TRUST_REMEDY
from .trust.safe_config import Component

if TYPE_CHECKING:
    from torch import nn

LARGEST_ARGUMENT = 2**24
SPARE_BYTES = 256 * 2**20
MOST_MODULES = 20_000
"""Modules of a network; the largest of MONAI have about 2,000."""

SPARE_FACTOR = 6
"""Bytes made while building per byte of weights: half precision doubles, initialisation makes copies."""

_MAKERS = {"empty", "zeros", "ones", "full", "rand", "randn", "randint", "new_empty", "new_zeros", "new_ones", "eye"}
_MAKERS |= {"new_full", "empty_strided", "new_empty_strided", "randperm", "arange", "linspace", "repeat", "expand"}


class _Allowance(TorchDispatchMode):
    """Counts the bytes of tensors before they are made and stops at a limit."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit
        self.used = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function._schema.name.split("::")[1]
        if name in _MAKERS:
            self.used += 4 * _elements(name, args)
            if self.used > self.limit:
                raise TrustError(
                    f"The network would take more than {self.limit // 2**20} MB, far more than its weights have.",
                    TRUST_REMEDY,
                )
        return function(*args, **(kwargs or {}))


def _elements(name: str, args: tuple[Any, ...]) -> int:
    if name == "arange":
        return int(max((abs(item) for item in args if isinstance(item, (int, float))), default=0))
    if name in ("linspace", "randperm"):
        return int(args[-1] if isinstance(args[-1], int) else 0)
    sizes = next((item for item in args if isinstance(item, (list, tuple))), args[:2])
    count = math.prod(int(item) for item in sizes if isinstance(item, int))
    if name == "repeat":
        count *= args[0].numel()
    return 0 if name == "expand" else count


@contextlib.contextmanager
def limited(weight_bytes: int) -> Iterator[None]:
    """Building within the block may make tensors in proportion to the weights; the random state is kept.

    Modules are counted too: a network of a million layers without weights takes memory and time as well.
    """
    with torch.random.fork_rng(devices=[]), _Allowance(SPARE_BYTES + SPARE_FACTOR * weight_bytes), _counted_modules():
        yield


@contextlib.contextmanager
def _counted_modules() -> Iterator[None]:
    builder = threading.get_ident()
    original = torch.nn.Module.__init__
    count = 0

    def counting(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        nonlocal count
        if threading.get_ident() == builder:
            count += 1
            if count > MOST_MODULES:
                raise TrustError(f"The network would have more than {MOST_MODULES} modules.", TRUST_REMEDY)
        original(module, *args, **kwargs)

    torch.nn.Module.__init__ = counting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.Module.__init__ = original  # type: ignore[method-assign]


def build_network(component: Component, weight_bytes: int) -> nn.Module:
    """The network of a ``_target_`` entry, with random weights.

    Raises:
        TrustError: it, or something in its arguments, is not on the list of allowed classes.
        ModelError: its arguments do not fit.
    """
    with limited(weight_bytes):
        network = _build(component)
    if not isinstance(network, torch.nn.Module):
        raise ModelError(f"{component.target} at {component.where} is not a network.", "Name a network of MONAI.")
    return network


def _build(component: Component) -> Any:
    cls = network_class(component.target, component.where)
    arguments = {name: _argument(value, component) for name, value in component.arguments.items()}
    positional = arguments.pop("args", arguments.pop("_args_", ())) if _takes_parts(cls) else ()
    return instantiate(cls, arguments, component.where, positional)


def _takes_parts(cls: Any) -> bool:
    """Whether a class takes its parts by position (``torch.nn.Sequential``), written as the list ``args``."""
    import inspect

    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in inspect.signature(cls).parameters.values())


def _argument(value: Any, owner: Component) -> Any:
    if isinstance(value, Component):
        return _build(value)
    if isinstance(value, dict):
        return {key: _argument(item, owner) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_argument(item, owner) for item in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) > LARGEST_ARGUMENT:
        raise TrustError(f"The number {value:g} among the arguments of {owner.target} is too large.", TRUST_REMEDY)
    return value
