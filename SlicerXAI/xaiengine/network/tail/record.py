"""One forward pass, recorded up to a layer: everything that a later pass need not compute again.

A stack of open module calls is kept. A call that ends before the layer fires collapses to one event in its
caller; torch functions called directly by a still-open module are events too. When the layer fires, the
events of the open calls, root to leaf, are all the work that must not be repeated. Their tensors are held
only if something of the running forward still holds them: nothing else can reach the layers that follow.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from ...core.errors import ModelError

# Functions that hand a number or a truth value to Python: their answer steers the forward, so it is replayed.
_VALUE_FUNCTIONS = {
    Tensor.item,
    Tensor.tolist,
    Tensor.__bool__,
    Tensor.__int__,
    Tensor.__float__,
    Tensor.__index__,
    Tensor.numpy,
    Tensor.__contains__,
    torch.equal,
    torch.allclose,
}


class ReplayError(RuntimeError):
    """The recorded pass and this one do not do the same things before the layer."""


class StopForward(BaseException):
    """Ends a forward at the layer; not an Exception, so that no model's own handler swallows it."""


class TensorRef:
    """A tensor made before the layer: its shape always, the tensor itself only if something still holds it."""

    __slots__ = ("_weak", "tensor", "shape", "dtype", "device")

    def __init__(self, tensor: Tensor, hold: bool = False) -> None:
        self._weak = weakref.ref(tensor)
        self.tensor: Tensor | None = tensor if hold else None
        self.shape, self.dtype, self.device = tuple(tensor.shape), tensor.dtype, tensor.device

    def resolve(self) -> None:
        self.tensor = self._weak()


def is_ref(value: Any) -> bool:
    return isinstance(value, TensorRef)


def refs_of(output: Any) -> list[TensorRef]:
    return [leaf for leaf in tree_leaves(output, is_leaf=is_ref) if is_ref(leaf)]


def _to_refs(output: Any, hold: bool = False) -> Any:
    return tree_map(lambda leaf: TensorRef(leaf, hold) if isinstance(leaf, Tensor) else leaf, output)


def _has_tensor(output: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(output))


@dataclass(frozen=True)
class Event:
    """What a finished module or function of an open call gave back (tensors as TensorRef)."""

    source: Any
    output: Any

    @property
    def is_module(self) -> bool:
        return isinstance(self.source, nn.Module)


@dataclass
class Prefix:
    """All that precedes the layer, and what the layer itself gave back."""

    events: list[Event] = field(default_factory=list)
    structure: Any = None
    """The layer's own output (tensors as TensorRef); its first floating tensor is the activation."""
    activation: Tensor | None = None
    activation_place: int = 0
    """Its number among the leaves of the layer's output."""
    activation_index: int = 0
    """Its number among the tensors of the layer's output."""
    output: Any = None
    overwritten: set[int] = field(default_factory=set)
    """``id`` of held tensors that the layers after the layer write into: handed out as clones."""
    activation_overwritten: bool = False

    def outputs(self) -> list[Any]:
        """What each event gave back, the layer itself last."""
        return [*(event.output for event in self.events), self.structure]

    def refs(self) -> list[TensorRef]:
        return [ref for output in self.outputs() for ref in refs_of(output)]

    @property
    def cached_bytes(self) -> int:
        held = [ref.tensor for ref in self.refs()]
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for tensor in held
            if tensor is not None
        }
        return sum(storages.values())


@contextmanager
def patched_forwards(modules: Sequence[nn.Module], make: Callable[[nn.Module, Callable], Callable]) -> Iterator[None]:
    """Replace ``forward`` on the instances; always undone."""
    saved = []
    try:
        for module in modules:
            saved.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = make(module, module.forward)
        yield
    finally:
        for module, old in reversed(saved):
            if old is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = old


class _Recorder(TorchFunctionMode):
    def __init__(self, layer: nn.Module, call: int, stop: bool) -> None:
        super().__init__()
        self.layer, self.call, self.stop = layer, call, stop
        self.frames: list[list[Event]] = [[]]
        self.calls = 0
        self.fired = False
        self.prefix = Prefix()
        self._versions: list[tuple[Tensor, int]] = []
        self._raw_activation: tuple[Tensor, int] | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if not self.fired and (output is None or func in _VALUE_FUNCTIONS or _has_tensor(output)):
            self.frames[-1].append(Event(func, _to_refs(output)))
        return output

    def wrap(self, module: nn.Module, forward: Callable) -> Callable:
        def recorded(*args, **kwargs):
            if self.fired:
                return forward(*args, **kwargs)
            self.frames.append([])
            output = forward(*args, **kwargs)
            if self.fired:  # this call was open when the layer fired: its events stay
                return output
            self.frames.pop()
            if module is not self.layer or self.calls != self.call:
                self.frames[-1].append(Event(module, _to_refs(output)))
            return output

        return recorded

    def layer_hook(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.fired:
            if self.calls == self.call:
                with torch._C.DisableTorchFunction():
                    self._fire(output)
                if self.stop:
                    raise StopForward
            self.calls += 1

    def _fire(self, output: Any) -> None:
        self.fired = True
        prefix = self.prefix
        place, activation = _activation_of(output)
        prefix.events = [event for frame in self.frames for event in frame]
        refs = [ref for event in prefix.events for ref in refs_of(event.output)]
        for ref in refs:
            ref.resolve()
        prefix.structure = _to_refs(output, hold=True)
        refs += refs_of(prefix.structure)
        self._versions = [(ref.tensor, ref.tensor._version) for ref in refs if ref.tensor is not None]
        self._raw_activation = (activation, activation._version)
        leaves = tree_leaves(output)
        prefix.activation_place = place
        prefix.activation_index = sum(isinstance(leaf, Tensor) for leaf in leaves[:place])
        prefix.activation = activation.detach().clone()

    def finish(self, output: Any) -> Prefix:
        self.prefix.output = output
        self.prefix.overwritten = {id(tensor) for tensor, version in self._versions if tensor._version != version}
        tensor, version = self._raw_activation
        self.prefix.activation_overwritten = tensor._version != version
        return self.prefix


def _activation_of(output: Any) -> tuple[int, Tensor]:
    """Place among the output's leaves, and the first floating tensor there."""
    for place, leaf in enumerate(tree_leaves(output)):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return place, leaf
    raise ModelError(
        f"The layer gives no tensor of real numbers (found: {type(output).__name__}).", "Choose another layer."
    )


def _record_once(model: nn.Module, layer: nn.Module, call: int, args: tuple, kwargs: dict, stop: bool) -> Prefix:
    recorder = _Recorder(layer, call, stop)
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    output = None
    handle = layer.register_forward_hook(recorder.layer_hook)
    try:
        with torch.no_grad(), patched_forwards(modules, recorder.wrap), recorder:
            output = model(*args, **kwargs)
    except StopForward:
        pass
    finally:
        handle.remove()
    if not recorder.fired:
        raise ModelError(
            f"The layer ran {recorder.calls} times in this forward, and its call number {call} was asked for."
            if recorder.calls
            else "The layer does not run when the model is applied to this input.",
            "Choose another layer: this one is unused, called by its weights alone, or part of compiled code."
            if not recorder.calls
            else f"Choose a call from 0 to {recorder.calls - 1}.",
        )
    return recorder.finish(output)


def record_prefix(
    model: nn.Module, layer: nn.Module, call: int, args: tuple, kwargs: dict, stop: bool = False
) -> Prefix:
    """One forward under ``no_grad``; two when the layers after the layer write into recorded tensors.

    ``stop`` ends the pass at the layer (no model output). The model must be in evaluation mode.
    """
    prefix = _record_once(model, layer, call, args, kwargs, stop)
    if stop or not prefix.overwritten:
        return prefix
    # The tail has already spoiled the tensors just held: take them in a pass that ends before it can.
    fresh = _record_once(model, layer, call, args, kwargs, stop=True)
    if len(fresh.events) != len(prefix.events):
        raise ReplayError("two passes over the same input did different things")
    spoiled = [ref.tensor is not None and id(ref.tensor) in prefix.overwritten for ref in prefix.refs()]
    for ref, was_spoiled in zip(fresh.refs(), spoiled):
        if was_spoiled and ref.tensor is not None:
            fresh.overwritten.add(id(ref.tensor))
    fresh.output, fresh.activation_overwritten = prefix.output, prefix.activation_overwritten
    return fresh
