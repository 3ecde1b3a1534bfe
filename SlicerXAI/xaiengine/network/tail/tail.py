"""Run any eager model from one layer on: the cheap, repeated half of an attribution.

    tail = Tail(model, "features.transition2")
    record = tail.record(images)                  # one forward; images (N, C, ...)
    output = record.run(z)                        # z (K*N, ...): K copies of each sample, copy by copy
    gradient, = torch.autograd.grad(loss(output), z)

What precedes the layer is answered from memory (tail_record.py, tail_replay.py). The first record of each
input shape is verified against whole passes with a hook that replaces the layer's output; where the two
differ, the whole passes are used instead (mode "full") and ``note`` says why.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ...core.errors import ModelError
from ..layers import evaluation_mode, find_layer, frozen_parameters, layer_name, without_checkpointing
from .batch import BatchAxis, BatchRules, default_rules, probe_rules, repeat_rows
from .record import Prefix, ReplayError, record_prefix, refs_of
from .replay import Replay, put_activation
from .verify import graph_bytes, leaks_past, verify_record

__all__ = ["ReplayError", "Tail", "TailRecord", "find_layer", "frozen_parameters", "leaks_past"]


@dataclass
class _Shape:
    """What has been learned about one shape of input: rules of the batch axis, and whether replay is right."""

    rules: BatchRules | None = None
    mode: str = "replay"
    note: str = ""
    verified: bool = False
    bytes_per_row: int | None = None


# What holds for a model's layer holds for every Tail of it: verified once as long as the model lives.
_LEARNT: weakref.WeakKeyDictionary[nn.Module, dict] = weakref.WeakKeyDictionary()


@dataclass
class TailRecord:
    """One recorded forward over N samples, ready to be continued from the layer."""

    activation: Tensor
    """(N, ...): the layer's output, samples first."""
    output: Any
    """The model's output for the unchanged activation."""
    tail: Tail = field(repr=False)
    _args: tuple = field(repr=False)
    _kwargs: dict = field(repr=False)
    _prefix: Prefix = field(repr=False)
    _axis: BatchAxis = field(repr=False)
    _shape: _Shape = field(repr=False)
    _replay: Replay | None = field(repr=False)

    @property
    def samples(self) -> int:
        return self.activation.shape[0]

    @property
    def mode(self) -> str:
        """ "replay": only the layers after the layer run; "full": the whole model runs each time."""
        return self._shape.mode

    @property
    def note(self) -> str:
        """Why the whole model runs each time; empty in mode "replay"."""
        return self._shape.note

    @property
    def cached_bytes(self) -> int:
        return self._prefix.cached_bytes + self.activation.nbytes

    def run(self, z: Tensor, rows: Sequence[int] | None = None) -> Any:
        """The model's output when the layer gives ``z``.

        ``z`` (K*n, ...) holds K copies of n samples, copy by copy, each of the shape of a row of
        ``activation``; ``rows`` names the n recorded samples (None: all N, in order). Differentiable in z.
        Raises ModelError when z does not fit.
        """
        count = self.samples if rows is None else len(rows)
        if z.shape[1:] != self.activation.shape[1:] or count == 0 or z.shape[0] % count:
            raise ModelError(
                f"The new activation has the shape {tuple(z.shape)}; expected (copies x {count}, "
                f"{', '.join(map(str, self.activation.shape[1:]))})."
            )
        copies = z.shape[0] // count
        if rows is not None and list(rows) == list(range(self.samples)):
            rows = None
        if self._prefix.activation_overwritten or not self._prefix.events:
            z = z.clone()  # the next layer works in place, which a leaf forbids
        merged = self._axis.merge(z)
        with self.tail.ready():
            if self.mode == "replay":
                try:
                    return self._run_replay(merged, rows, copies)
                except ReplayError as error:
                    self._fall_back(str(error))
            return self._run_full(merged, rows, copies)

    def _inputs(self, rows: Sequence[int] | None, copies: int) -> tuple[tuple, dict]:
        index = None if rows is None else torch.as_tensor(list(rows))

        def repeat(value: Any) -> Any:
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == self.samples:
                chosen = None if index is None else index.to(value.device)
                return repeat_rows(value, BatchAxis(), self.samples, chosen, copies)
            return value

        return tree_map(repeat, self._args), tree_map(repeat, self._kwargs)

    def _run_replay(self, merged: Tensor, rows: Sequence[int] | None, copies: int) -> Any:
        return self._replay.run(merged, *self._inputs(rows, copies), rows, copies)

    def _run_full(self, merged: Tensor, rows: Sequence[int] | None, copies: int) -> Any:
        args, kwargs = self._inputs(rows, copies)
        return self.tail._replaced(merged, self._prefix.activation_place, args, kwargs)

    def _fall_back(self, reason: str) -> None:
        self._shape.mode = "full"
        self._shape.note = (
            f"The layers after {self.tail.name!r} could not be run on their own ({reason}): "
            "the whole model was run each time, which is slower but the same."
        )

    def verify(self) -> bool:
        """Compare outputs and gradients with whole passes for the first sample; falls back where they differ.

        Returns whether replay is in use afterwards. Raises ModelError if even a whole pass does not
        reproduce the recorded output: then the model is not deterministic.
        """
        verify_record(self)
        return self.mode == "replay"

    def bytes_per_row(self) -> int:
        """Memory that one row's graph keeps between forward and backward (measured once per input shape)."""
        if self._shape.bytes_per_row is None:
            self._shape.bytes_per_row = graph_bytes(self)
        return self._shape.bytes_per_row


class Tail:
    """The part of ``model`` that follows a layer.

    ``layer`` is a name as ``model.named_modules()`` spells it, or one of its modules; ``call`` picks the n-th
    time that the layer runs in one forward, from 0. Not for use by several threads at once: the model's
    modules are patched while a pass runs, and restored after it, also when it raises.

    Raises ModelError (with near names) when there is no such layer.
    """

    def __init__(self, model: nn.Module, layer: str | nn.Module, call: int = 0) -> None:
        self.model = model
        self.layer = find_layer(model, layer) if isinstance(layer, str) else layer
        self.name = layer_name(model, self.layer)
        self.call = call
        self._is_ready = False
        self._shapes = _LEARNT.setdefault(model, {}).setdefault((self.name, call), {})

    def record(self, *args: Any, verify: bool = True, **kwargs: Any) -> TailRecord:
        """One forward without gradients over N samples (axis 0 of the first tensor), kept up to the layer.

        ``verify`` compares with whole passes the first time that an input shape is seen. Raises ModelError
        when the layer does not run or gives no finite real numbers.
        """
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not tensors or not tensors[0].ndim:
            raise ModelError("The model was given no tensor with a batch axis.", "Pass (N, C, ...) tensors.")
        samples = tensors[0].shape[0]
        with self.ready(), torch.inference_mode(False):
            # A tensor made under inference_mode counts no writes, and writes must be noticed.
            args, kwargs = tree_map(_detached, args), tree_map(_detached, kwargs)
            prefix = record_prefix(self.model, self.layer, self.call, args, kwargs)
            if not torch.isfinite(prefix.activation).all():
                raise ModelError(
                    f"The layer {self.name!r} gives values that are not finite.", "Check the weights and input."
                )
            key = tuple((tuple(t.shape[1:]), t.dtype, t.device.type) for t in tensors)
            shape = self._shapes.setdefault(key, _Shape())
            record = self._bind(args, kwargs, prefix, samples, shape)
            if verify and not shape.verified:
                record.verify()
                shape.verified = True
            return record

    def _bind(self, args: tuple, kwargs: dict, prefix: Prefix, samples: int, shape: _Shape) -> TailRecord:
        rules = shape.rules or default_rules(prefix, samples)
        if rules is None or not _fits(rules, prefix, samples):
            rules = shape.rules = self._probe(args, kwargs, samples)
            if not _fits(rules, prefix, samples):
                raise ModelError(
                    f"The samples of a batch cannot be told apart at the layer {self.name!r}.",
                    "Explain one sample at a time, or choose another layer.",
                )
        axis = rules[-1][prefix.activation_index]
        refs_of(prefix.structure)[prefix.activation_index].tensor = None  # kept once, as ``activation``
        replay = Replay(self.model, self.layer, prefix, rules, samples)
        return TailRecord(
            axis.rows(prefix.activation, samples), prefix.output, self, args, kwargs, prefix, axis, shape, replay
        )

    def _probe(self, args: tuple, kwargs: dict, samples: int) -> BatchRules:
        def first(value: Any) -> Any:
            return value[:1] if _is_batch(value, samples) else value

        def first_and_other(value: Any) -> Any:
            if not _is_batch(value, samples):
                return value
            other = value[:1].flip(-1) + 0.1 if value.is_floating_point() else value[:1]
            return torch.cat([value[:1], other])

        one = (tree_map(first, args), tree_map(first, kwargs))
        two = (tree_map(first_and_other, args), tree_map(first_and_other, kwargs))
        try:
            return probe_rules(self.model, self.layer, self.call, one, two)
        except ReplayError as error:
            raise ModelError(
                f"The samples of a batch cannot be told apart at the layer {self.name!r}: {error}.",
                "Choose another layer.",
            ) from error

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Evaluation mode, no gradients for weights, no checkpointing; undone on leaving.

        Each pass does this by itself; around many passes it saves walking through the model for each.
        """
        if self._is_ready:
            yield
            return
        with evaluation_mode(self.model), frozen_parameters(self.model), without_checkpointing():
            self._is_ready = True
            try:
                yield
            finally:
                self._is_ready = False

    def _replaced(self, merged: Tensor, place: int, args: tuple, kwargs: dict) -> Any:
        """A whole pass in which the layer's output is replaced; nothing before the layer makes a graph."""
        calls = 0

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            return put_activation(output, place, merged) if calls - 1 == self.call else None

        handle = self.layer.register_forward_hook(hook)
        try:
            return self.model(*args, **kwargs)
        finally:
            handle.remove()


def _is_batch(value: Any, samples: int) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == samples


def _detached(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.clone() if value.is_inference() else value.detach()


def _fits(rules: BatchRules, prefix: Prefix, samples: int) -> bool:
    """Whether each recorded tensor holds ``samples`` shares along its batch axis, the activation among them."""
    outputs = prefix.outputs()
    if len(outputs) != len(rules) or rules[-1][prefix.activation_index] is None:
        return False
    return all(
        rule is None or (len(ref.shape) > rule.axis and ref.shape[rule.axis] == rule.share * samples)
        for output, row in zip(outputs, rules)
        for ref, rule in zip(refs_of(output), row)
    )
