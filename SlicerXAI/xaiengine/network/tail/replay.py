"""Run what follows a layer: the same forward again, its recorded part answered from memory.

Every event before the layer returns its recorded tensor, repeated for each copy of each sample; a tensor that
no one held any more when the layer fired is answered by NaN of the right shape and no memory, so that a
missed dependency cannot pass unnoticed. At the layer the new activation is put in and the rest runs
untouched.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from .batch import BatchAxis, BatchRules, repeat_rows
from .record import Event, Prefix, ReplayError, TensorRef, is_ref, patched_forwards

# Questions about a tensor that its stand-in answers correctly, so they are never events.
_SHAPE_FUNCTIONS = {
    Tensor.shape.__get__,
    Tensor.dtype.__get__,
    Tensor.device.__get__,
    Tensor.ndim.__get__,
    Tensor.size,
    Tensor.dim,
    Tensor.is_floating_point,
    Tensor.numel,
    Tensor.stride,
    Tensor.is_contiguous,
}


class _Serve:
    """A tensor to hand out, as a clone where later layers write into it."""

    __slots__ = ("tensor", "clone")

    def __init__(self, tensor: Tensor, clone: bool) -> None:
        self.tensor, self.clone = tensor, clone


class Replay:
    """Runs the layers after the recorded one on new activations, for any choice of the recorded samples."""

    def __init__(self, model: nn.Module, layer: nn.Module, prefix: Prefix, rules: BatchRules, samples: int) -> None:
        self.model, self.layer = model, layer
        # Earlier calls inside modules that are answered from memory do not happen again: not counted.
        self.call = sum(event.source is layer for event in prefix.events)
        self.prefix, self.rules, self.samples = prefix, rules, samples
        modules = {id(event.source): event.source for event in prefix.events if event.is_module}
        self._modules = [*modules.values()]
        if id(layer) not in modules and not isinstance(layer, torch.jit.ScriptModule):
            self._modules.append(layer)
        self._needs_mode = any(not event.is_module for event in prefix.events)
        self._served: OrderedDict[Any, list[Event]] = OrderedDict()

    def run(self, activation: Tensor, args: tuple, kwargs: dict, rows: Sequence[int] | None, copies: int) -> Any:
        """Model output when the layer gives ``activation`` (its own layout, copies x rows samples)."""
        events = self._serve(rows, copies)
        return _Pass(self, events[:-1], events[-1].output, activation).run(args, kwargs)

    def _serve(self, rows: Sequence[int] | None, copies: int) -> list[Event]:
        key = (None if rows is None else tuple(rows), copies)
        if key in self._served:
            self._served.move_to_end(key)
            return self._served[key]
        held: dict[int, _Serve] = {}
        chosen = None if rows is None else torch.as_tensor(list(rows))
        count = (self.samples if rows is None else len(rows)) * copies
        outputs = [*self.prefix.events, Event(None, self.prefix.structure)]
        result = []
        for event, rules in zip(outputs, self.rules):
            rule_iterator = iter(rules)

            def stand_in(ref: Any, rule_iterator=rule_iterator) -> Any:
                if not is_ref(ref):
                    return ref
                rule = next(rule_iterator)
                if ref.tensor is None:
                    return _missing(ref, rule, count)
                if id(ref.tensor) not in held:
                    tensor = ref.tensor
                    if rule is not None:
                        index = None if chosen is None else chosen.to(tensor.device)
                        tensor = repeat_rows(tensor, rule, self.samples, index, copies)
                    held[id(ref.tensor)] = _Serve(tensor, id(ref.tensor) in self.prefix.overwritten)
                return held[id(ref.tensor)]

            result.append(Event(event.source, tree_map(stand_in, event.output, is_leaf=is_ref)))
        self._served[key] = result
        while len(self._served) > 2:  # full and last chunk; more would hold too much memory
            self._served.popitem(last=False)
        return result


def _missing(ref: TensorRef, rule: BatchAxis | None, count: int) -> Tensor:
    shape = list(ref.shape)
    if rule is not None:
        shape[rule.axis] = rule.share * count
    value = float("nan") if ref.dtype.is_floating_point or ref.dtype.is_complex else 0
    return torch.full((), value, dtype=ref.dtype, device=ref.device).expand(shape)


class _Pass(TorchFunctionMode):
    """One replayed forward. Active as a function mode only until the layer: the tail runs at full speed."""

    def __init__(self, replay: Replay, events: list[Event], structure: Any, activation: Tensor) -> None:
        super().__init__()
        self.replay, self.events, self.structure, self.activation = replay, events, structure, activation
        self.position = self.calls = 0
        self.active = False
        self._clones: dict[int, Tensor] = {}

    def run(self, args: tuple, kwargs: dict) -> Any:
        handle = self.replay.layer.register_forward_hook(self._layer_hook)
        try:
            with patched_forwards(self.replay._modules, self._wrap):
                if self.replay._needs_mode:
                    self.__enter__()
                    self.active = True
                output = self.replay.model(*args, **kwargs)
        finally:
            self._leave()
            handle.remove()
        if self.calls <= self.replay.call:
            raise ReplayError("the layer did not run")
        return output

    def _leave(self) -> None:
        if self.active:
            self.active = False
            self.__exit__(None, None, None)

    def _next(self) -> Event | None:
        return self.events[self.position] if self.position < len(self.events) else None

    def _answer(self, event: Event) -> Any:
        self.position += 1
        return self._hand_out(event.output)

    def _hand_out(self, output: Any) -> Any:
        def give(leaf: Any) -> Any:
            if not isinstance(leaf, _Serve):
                return leaf
            if not leaf.clone:
                return leaf.tensor
            if id(leaf.tensor) not in self._clones:
                self._clones[id(leaf.tensor)] = leaf.tensor.clone()
            return self._clones[id(leaf.tensor)]

        with torch._C.DisableTorchFunction():  # or our own clones would look like the model's calls
            return tree_map(give, output, is_leaf=lambda leaf: isinstance(leaf, _Serve))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        event = self._next()
        if event is not None and not event.is_module and event.source == func:
            return self._answer(event)
        output = func(*args, **(kwargs or {}))
        if event is not None and func not in _SHAPE_FUNCTIONS:
            if output is None or any(isinstance(leaf, Tensor) for leaf in tree_leaves(output)):
                name = getattr(func, "__name__", func)
                raise ReplayError(f"{name} was called before the layer, unlike when recorded")
        return output

    def _wrap(self, module: nn.Module, forward: Callable) -> Callable:
        def replayed(*args, **kwargs):
            event = self._next()
            if event is not None:
                if event.source is not module:
                    raise ReplayError(f"{type(module).__name__} ran before the layer, unlike when recorded")
                return self._answer(event)
            if module is self.replay.layer and self.calls == self.replay.call:
                return self._hand_out(self.structure)
            return forward(*args, **kwargs)

        return replayed

    def _layer_hook(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.calls += 1
        if self.calls - 1 != self.replay.call:
            return None
        if self._next() is not None:
            raise ReplayError("the layer ran earlier than when recorded")
        self._leave()
        return put_activation(output, self.replay.prefix.activation_place, self.activation)


def put_activation(output: Any, place: int, activation: Tensor) -> Any:
    """The layer's output with its activation (leaf number ``place``) replaced."""
    if isinstance(output, Tensor):
        return activation
    count = -1

    def replace(leaf: Any) -> Any:
        nonlocal count
        count += 1
        return activation if count == place else leaf

    return tree_map(replace, output)
