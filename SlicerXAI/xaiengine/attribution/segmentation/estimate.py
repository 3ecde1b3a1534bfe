"""What an explanation takes, said before it starts: measured on one window, counted for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from ...core.console import duration
from ...core.device import available_memory, used_memory
from ...network.tail.tail import Tail
from ..bottleneck.settings import BottleneckSettings
from .explaining import Explaining
from .method_list import Method
from .passes import count_passes


@dataclass(frozen=True)
class Estimate:
    """Window passes and seconds of all methods together, and the memory at the peak in bytes."""

    forward: int
    backward: int
    seconds: float
    memory: int
    per_method: dict[str, float]

    def sentence(self) -> str:
        return (
            f"About {self.forward} window passes, {self.backward} of them also back: {duration(self.seconds)}, at "
            f"most {self.memory / 2**30:.1f} GB."
        )


@dataclass(frozen=True)
class WindowCost:
    """Measured on one window: seconds forward without and with a graph and back, and the bytes the graph holds.

    ``tail``: seconds forward and back from the bottleneck's layer on; None where no bottleneck is asked for.
    """

    forward: float
    both: float
    graph_bytes: int
    tail: float | None = None


def measure_cost(
    job: Explaining, methods: Sequence[Method], clock: Callable[[], float] = time.perf_counter
) -> WindowCost:
    """Time what the methods do with one window."""
    cost = measure_window(job, any(method.differentiates for method in methods), clock)
    if not any(method.family == "bottleneck" for method in methods):
        return cost
    return replace(cost, tail=_measure_tail(job, clock))


def _measure_tail(job: Explaining, clock: Callable[[], float]) -> float:
    """Seconds per row of the second of two passes from the bottleneck's layer on and back.

    As many rows as noisy copies are run at once: a single row can take other, slower kernels.
    """
    copies = BottleneckSettings().copies
    record = Tail(job.scan.module, f"network.{job.bottleneck}").record(job.sample[:1])
    rows = torch.zeros(copies, dtype=torch.long)
    seconds = 0.0
    for _ in range(2):
        leaf = record.activation.detach().expand(copies, *record.activation.shape[1:]).clone().requires_grad_()
        start = clock()
        with torch.enable_grad():
            torch.autograd.grad(record.run(leaf, rows).float().sum(), leaf)
        seconds = clock() - start
    return seconds / copies


def measure_window(
    job: Explaining, differentiable: bool, clock: Callable[[], float] = time.perf_counter
) -> WindowCost:
    """Time one window; the first pass has been made before, so that nothing is prepared within."""
    windows = job.scan.windows
    batch = job.sample
    start = clock()
    with torch.no_grad():
        windows.run(batch)
    forward = clock() - start
    if not differentiable:
        return WindowCost(forward, 2 * forward, 0)
    held: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    start = clock()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        leaf = batch.detach().requires_grad_()
        output = windows.run(leaf)
        if output.requires_grad:
            torch.autograd.grad(output.sum(), leaf)
    return WindowCost(forward, clock() - start, sum(held.values()))


def estimate(job: Explaining, methods: Sequence[Method], cost: WindowCost) -> Estimate:
    """Forward and backward passes of every method, times what one took."""
    forward, backward, per_method = 0, 0, {}
    for method in methods:
        ahead, back = count_passes(job, method)
        forward, backward = forward + ahead, backward + back
        both = cost.tail if method.family == "bottleneck" and cost.tail is not None else cost.both
        per_method[method.name] = (ahead - back) * cost.forward + back * both
    scan = job.scan
    image, output = scan.image.nbytes, scan.output.nbytes
    maps = image * (len(job.targets) + 1) * 3
    held = used_memory(scan.image.device)
    memory = int(cost.graph_bytes * scan.windows.batch_size * 1.5 + 2 * output + 3 * image + maps + held)
    return Estimate(forward, backward, sum(per_method.values()), memory, per_method)


def memory_warning(expected: Estimate, job: Explaining) -> str:
    """Said when the explanation may not fit; empty otherwise."""
    free = available_memory(job.scan.image.device)
    if expected.memory - used_memory(job.scan.image.device) < free:
        return ""
    return (
        f"The explanation may need {expected.memory / 2**30:.1f} GB; {free / 2**30:.1f} GB are free. Crop the scan, "
        "or explain a component or segment instead of the whole class."
    )
