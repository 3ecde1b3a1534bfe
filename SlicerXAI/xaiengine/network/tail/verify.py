"""Proof that a replayed tail is the model: outputs and gradients against whole passes with a replacing hook."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ...core.device import is_out_of_memory
from ...core.errors import ModelError
from .batch import BatchAxis
from .record import Prefix, ReplayError


class VerifiedTail(Protocol):
    """What the proof uses of :class:`xaiengine.network.tail.tail.Tail`."""

    model: nn.Module
    name: str

    def record(self, *args: Any, verify: bool = True, **kwargs: Any) -> VerifiedRecord: ...

    def ready(self) -> AbstractContextManager[None]: ...

    def _replaced(self, value: Tensor, place: Any, args: tuple, kwargs: dict) -> Any: ...


class VerifiedRecord(Protocol):
    """What the proof uses of :class:`xaiengine.network.tail.tail.TailRecord`."""

    activation: Tensor
    output: Any
    tail: Any
    mode: str
    samples: int
    _axis: BatchAxis
    _prefix: Prefix

    def run(self, z: Tensor, rows: Any = None) -> Any: ...

    def _run_full(self, z: Tensor, rows: Any) -> Any: ...

    def _run_replay(self, z: Tensor, rows: Any) -> Any: ...

    def _fall_back(self, reason: str) -> None: ...


def verify_record(record: VerifiedRecord) -> None:
    """For the first sample and a disturbed copy of it: same outputs and gradients, in one batch and apart.

    Falls back to whole passes where replay differs. Raises ModelError when a whole pass does not reproduce
    the recorded output.
    """
    first = record.activation[:1]
    pair = torch.cat([first, _disturbed(first, seed=0)])
    expected = _output_and_gradient(record, pair, full=True)
    if not _close(_rows(expected[0], 0), _rows(record.output, 0), pair):
        raise ModelError(
            "The model gives another answer to the same input the second time.",
            "Explanations need a deterministic model: check for randomness outside of dropout.",
        )
    if record.mode == "full":
        return
    reason = _difference(record, pair, expected)
    if reason:
        record._fall_back(reason)


def _difference(record: VerifiedRecord, pair: Tensor, expected: tuple[list[Tensor], Tensor | None]) -> str:
    try:
        output, gradient = _output_and_gradient(record, pair, full=False)
        if not _close(output, expected[0], pair):
            return "the output differed from that of a whole pass"
        if gradient is not None and not _close([gradient], [expected[1]], pair, 10.0):
            if not _gradients_agree_elsewhere(record):
                return "the gradient differed from that of a whole pass"
        for row in (0, 1):
            with torch.no_grad():
                single = _floating(record.run(pair[row : row + 1], rows=[0]))
            if not _close(single, _rows(expected[0], row), pair):
                return "the rows of a batch influenced each other"
        with torch.no_grad():
            if not _close(_floating(record.run(record.activation)), _floating(record.output), pair):
                return "the recorded output was not reproduced"
    except ReplayError as error:
        return str(error)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        # Stand-ins can break code that the recording could not see; the whole pass serves such models.
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def _disturbed(row: Tensor, seed: int) -> Tensor:
    noise = torch.randn(row.shape, generator=torch.Generator().manual_seed(seed)).to(row)
    return row * 0.9 + noise * row.std().nan_to_num(0.0).clamp_min(1e-3) * 0.5


def _gradients_agree_elsewhere(record: VerifiedRecord) -> bool:
    """Rounding can tip a unit over the kink of a ReLU, and its gradient with it; a wrong tail is wrong everywhere."""
    first = record.activation[:1]
    for seed in (1, 3, 5):
        pair = torch.cat([_disturbed(first, seed), _disturbed(first, seed + 1)])
        (_, ours), (_, theirs) = (_output_and_gradient(record, pair, full) for full in (False, True))
        if _close([ours], [theirs], pair, 10.0):
            return True
    return False


def _output_and_gradient(record: VerifiedRecord, pair: Tensor, full: bool) -> tuple[list[Tensor], Tensor | None]:
    z = pair.clone().requires_grad_(True)
    with torch.enable_grad(), record.tail.ready():
        merged = record._axis.merge(z.clone())
        run = record._run_full if full else record._run_replay
        output = _floating(run(merged, [0], 2))
        generator = torch.Generator().manual_seed(1)
        scalar = sum(
            (leaf.float() * torch.randn(leaf.shape, generator=generator).to(leaf.device)).sum()
            for leaf in output
            if leaf.requires_grad
        )
        gradient = torch.autograd.grad(scalar, z)[0] if isinstance(scalar, Tensor) else None
    return [leaf.detach() for leaf in output], gradient


def _floating(output: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _rows(output: Any, row: int) -> list[Tensor]:
    return [leaf[row : row + 1] for leaf in _floating(output)]


def _close(found: list[Tensor], expected: list[Tensor], like: Tensor, factor: float = 1.0) -> bool:
    """Largest difference against the largest value; TF32 and half precision round coarsely."""
    exact = like.dtype in (torch.float32, torch.float64) and like.device.type == "cpu"
    tolerance = (2e-4 if exact else 2e-2) * factor
    if len(found) != len(expected):
        return False
    for a, b in zip(found, expected):
        if a.shape != b.shape:
            return False
        a, b = a.cpu().double(), b.cpu().double()  # MPS has no float64
        if not bool((a - b).abs().max() <= tolerance * b.abs().max() + 1e-6):
            return False
    return True


def graph_bytes(record: VerifiedRecord) -> int:
    """Bytes that autograd keeps for one row of the tail, parameters aside."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in record.tail.model.parameters()}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    z = record.activation[:1].clone().requires_grad_(True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = record.run(z, rows=[0])
    del output
    return sum(storages.values()) + 4 * z.nbytes


def leaks_past(tail: VerifiedTail, *args: Any, **kwargs: Any) -> str:
    """A warning when the input reaches the output by ways around the layer (skip connections); else "".

    The layer's output is set to the same noise for the input and for a changed copy of it. If the outputs
    differ, what the bottleneck removes is not all that the model sees, whatever the map says.
    """
    record = tail.record(*args, verify=False, **kwargs)
    samples = record.samples

    def with_changed_copy(value: Any) -> Any:
        if not (isinstance(value, Tensor) and value.ndim and value.shape[0] == samples):
            return value
        if not value.is_floating_point():
            return value[:1].expand(2, *value.shape[1:])
        generator = torch.Generator().manual_seed(2)
        one = value[:1]
        spread = one.std().nan_to_num(0.0).clamp_min(1e-3)
        noise = torch.randn(one.shape, generator=generator).to(one) * spread
        return torch.cat([one, one.flip(-1) + noise])

    both = tree_map(with_changed_copy, args), tree_map(with_changed_copy, kwargs)
    with tail.ready(), torch.no_grad():
        plain = _floating(tail.model(*both[0], **both[1]))
        row = record.activation[:1]
        generator = torch.Generator().manual_seed(3)
        scale = row.std().nan_to_num(0.0).clamp_min(1e-3)
        noise = torch.randn(row.shape, generator=generator).to(row) * scale + row.mean()
        merged = record._axis.merge(noise.expand(2, *row.shape[1:]).clone())
        replaced = _floating(tail._replaced(merged, record._prefix.activation_place, *both))
    share = _spread(replaced) / max(_spread(plain), 1e-12)
    if share < 1e-3:
        return ""
    return (
        f"Information passes the layer {tail.name!r} by (skip connections): with the layer replaced by noise, "
        f"{min(share, 1.0):.0%} of the output's response to a changed input remains. The map shows only what "
        "passes through the layer; a layer that every path crosses would show all."
    )


def _spread(outputs: list[Tensor]) -> float:
    return float(sum((leaf[0].double() - leaf[1].double()).abs().sum() for leaf in outputs))
