"""What methods take, known before they run: one measured pass, times what each method counts of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ..core.console import duration
from ..core.device import available_memory, is_out_of_memory, used_memory
from ..network.tail.tail import Tail
from .bottleneck.settings import BottleneckSettings
from .case import Case
from .feature_maps import explainable
from .registry import AttributionMethod, Passes
from .whole_case import SAMPLE_ROWS, WholeCase
from .window_case import WindowCase

LARGEST_BATCH = 16
FEATURES_GUESSED = 64
"""Feature maps of a network that cannot be differentiated, as a multiple of its input."""
TAIL_SHARE = 0.5
"""Of a pass that lies behind a bottleneck, where that cannot be measured."""


@dataclass(frozen=True)
class PassCost:
    """Measured on one sample (or window): seconds forward, seconds forward with a graph and back, bytes of the graph.

    ``tail``: seconds forward and back from the bottleneck's layer on.
    """

    forward: float
    both: float
    graph_bytes: int
    tail: float

    def seconds(self, passes: Passes) -> float:
        forward_only = max(0.0, passes.forward - passes.backward)
        return forward_only * self.forward + passes.backward * self.both + passes.tail * self.tail


@dataclass(frozen=True)
class Estimate:
    """Expected seconds and passes of each method (by name), bytes at the peak, and inputs (or windows) per pass."""

    seconds: dict[str, float]
    passes: dict[str, Passes]
    bytes: int
    batch_size: int
    unit: str = "input"

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def forward(self) -> int:
        """Passes forward, those of parts of the network included."""
        return round(sum(passes.forward + passes.tail for passes in self.passes.values()))

    @property
    def backward(self) -> int:
        return round(sum(passes.backward + passes.tail for passes in self.passes.values()))

    def describe(self) -> str:
        size = f"{self.bytes / 2**30:.1f} GB" if self.bytes > 2**29 else f"{max(1, round(self.bytes / 2**20))} MB"
        plural = "" if self.forward == 1 else "es"
        return (
            f"About {duration(self.total)}: {self.forward} {self.unit} pass{plural}, {self.backward} of them also "
            f"back, {self.batch_size} at a time, at most {size}."
        )


def estimate(
    case: Case, methods: Sequence[AttributionMethod], clock: Callable[[], float] = time.perf_counter
) -> Estimate:
    """Time and memory of methods on a case, at the batch size that they will use."""
    with explainable(case.network):
        cost = measure_cost(case, methods, clock)
        passes = {method.name: method.passes(case) for method in methods}
    seconds = {name: cost.seconds(counted) for name, counted in passes.items()}
    if isinstance(case, WindowCase):
        return Estimate(seconds, passes, _window_bytes(case, cost), case.scan.windows.batch_size, "window")
    row = case.sample
    per_row = cost.graph_bytes + 4 * row.nbytes
    fits = int(0.5 * available_memory(case.device) / max(1, per_row))
    batch = max(1, min(LARGEST_BATCH, fits, case.batch_size or LARGEST_BATCH))
    return Estimate(seconds, passes, per_row * batch, batch)


def _window_bytes(case: WindowCase, cost: PassCost) -> int:
    image, output = case.image.nbytes, case.scan.output.nbytes
    maps = image * (len(case.chosen) + 1) * 3
    held = used_memory(case.device)
    return int(cost.graph_bytes * case.scan.windows.batch_size * 1.5 + 2 * output + 3 * image + maps + held)


def memory_warning(expected: Estimate, case: Case) -> str:
    """Said when the explanation may not fit; empty otherwise."""
    free = available_memory(case.device)
    needed = expected.bytes - (used_memory(case.device) if isinstance(case, WindowCase) else 0)
    if needed < free:
        return ""
    return (
        f"The explanation may need {expected.bytes / 2**30:.1f} GB; {free / 2**30:.1f} GB are free. Crop the scan, "
        "or explain a component or segment instead of the whole class."
    )


def measure_cost(
    case: Case, methods: Sequence[AttributionMethod], clock: Callable[[], float] = time.perf_counter
) -> PassCost:
    """Time what the methods do with one sample or window. The first pass of whole inputs is not timed."""
    batch = case.sample
    rows = batch
    with torch.no_grad():
        if isinstance(case, WholeCase):
            case.evaluate(batch)
            count = min(case.batch_size or SAMPLE_ROWS, SAMPLE_ROWS)
            rows = batch.expand(count, *batch.shape[1:]).contiguous()
        start = clock()
        case.evaluate(rows)
        forward = (clock() - start) / len(rows)
    cost = PassCost(forward, 3 * forward, FEATURES_GUESSED * batch.nbytes, TAIL_SHARE * 3 * forward)
    if any("differentiable" in method.needs for method in methods):
        cost = _measure_back(case, cost, clock)
    if any(method.family == "information" for method in methods) and case.bottleneck_layers:
        cost = replace(cost, tail=_measure_tail(case, clock))
    return cost


def _measure_back(case: Case, cost: PassCost, clock: Callable[[], float]) -> PassCost:
    weights = {parameter.untyped_storage().data_ptr() for parameter in case.network.parameters()}
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            held[place] = tensor.untyped_storage().nbytes()
        return tensor

    start = clock()
    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            leaf = case.sample.detach().requires_grad_()
            output = case.evaluate(leaf)
            if output.requires_grad:
                torch.autograd.grad(output.float().sum(), leaf)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return replace(cost, graph_bytes=available_memory(case.device))
    return replace(
        cost, both=clock() - start, graph_bytes=max(sum(held.values()), cost.graph_bytes // FEATURES_GUESSED)
    )


def _measure_tail(case: Case, clock: Callable[[], float]) -> float:
    """Seconds per row of the second of two passes from the bottleneck's layer on and back.

    As many rows as noisy copies are run at once: a single row can take other, slower kernels.
    """
    copies = BottleneckSettings().copies
    record = Tail(*case.tail()).record(case.sample[:1])
    rows = [0] * copies
    seconds = 0.0
    for _ in range(2):
        leaf = record.activation.detach().expand(copies, *record.activation.shape[1:]).clone().requires_grad_()
        start = clock()
        with torch.enable_grad():
            output = record.run(leaf, rows)
            torch.autograd.grad(case.select(output).float().sum(), leaf)
        seconds = clock() - start
    return seconds / copies
