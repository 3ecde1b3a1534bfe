"""Runs methods on a case: in order of cost, with progress, with less memory when there is not enough."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..core.device import available_memory
from ..core.errors import ModelError, OptionError, ResourceError
from ..models.explained_model import Capabilities
from .case import Case
from .feature_maps import explainable
from .forward import Attribution
from .method import Method

LARGEST_BATCH = 16
FEATURES_GUESSED = 64
BACKWARD_FACTOR = 3.0
"""Bytes that a differentiated pass holds, as a multiple of its feature maps."""


@dataclass(frozen=True)
class Finished:
    """A method's result, how long it took, and on which device."""

    method: Method
    attribution: Attribution
    seconds: float
    device: str


@dataclass(frozen=True)
class Estimate:
    """Expected seconds of each method (by name), and bytes at the chosen batch size."""

    seconds: dict[str, float]
    bytes: int
    batch_size: int

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def describe(self) -> str:
        return f"About {_duration(self.total)} and {self.bytes / 2**20:.0f} MB at {self.batch_size} inputs per pass."


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def check_needs(methods: Sequence[Method], capabilities: Capabilities) -> None:
    """Refuse the first method whose needs the model does not meet, before anything is run."""
    for method in methods:
        for need in method.needs:
            capabilities.require(need, method.title)


def estimate(case: Case, methods: Sequence[Method]) -> Estimate:
    """Time and memory from one measured forward pass, at the batch size that the methods will use."""
    row = case.inputs[:1]
    held = _feature_bytes(case, row)
    per_row = int(BACKWARD_FACTOR * held) + row.nbytes * 4
    fits = int(0.5 * available_memory(case.inputs.device) / max(1, per_row))
    batch = max(1, min(LARGEST_BATCH, fits, case.batch_size or LARGEST_BATCH))
    rows = row.expand(min(batch, 4), *row.shape[1:]).contiguous()
    with torch.no_grad(), explainable(case.network):
        started = time.perf_counter()
        case.select_output(case.network(rows))
        seconds = (time.perf_counter() - started) / len(rows)
    times = {method.name: method.passes(case) * seconds for method in methods}
    return Estimate(times, per_row * batch, batch)


def _feature_bytes(case: Case, row: torch.Tensor) -> int:
    """Bytes of all feature maps of one sample; a guess where a network lets no one look."""
    total = [FEATURES_GUESSED * row.nbytes]

    def count(module: torch.nn.Module, arguments: tuple, output: object) -> None:
        if isinstance(output, torch.Tensor):
            total[0] += output.nbytes

    leaves = [module for module in case.network.modules() if not any(module.children())]
    if any(isinstance(leaf, torch.jit.ScriptModule) for leaf in leaves):
        return total[0]
    total[0] = 0
    handles = [leaf.register_forward_hook(count) for leaf in leaves]
    try:
        with torch.no_grad(), explainable(case.network):
            case.network(row)
    finally:
        for handle in handles:
            handle.remove()
    return total[0]


def run_methods(
    case: Case,
    methods: Sequence[Method],
    *,
    expected: Estimate | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Finished]:
    """Run every method, the results in the order given.

    On memory exhaustion the batch halves; at one input per pass the method is run on the CPU, and both are said. A
    method that the model refuses raises ModelError, unless other methods were asked for too: then it is left out
    with a warning.
    """
    expected = expected or estimate(case, methods)
    case.batch_size = expected.batch_size
    finished, refusals = [], []
    with explainable(case.network):
        for method in methods:
            if case.progress is not None:
                case.progress.stage(method.title, max(1, round(_counted_passes(method, case))))
            started = time.perf_counter()
            try:
                attribution, device = _with_less_memory(method, case, warn)
            except (ModelError, OptionError) as error:
                refusals.append(error)
                if len(methods) > 1:
                    warn(f"{method.title} was left out. {error}")
                continue
            check_finite(method, attribution)
            finished.append(Finished(method, attribution, time.perf_counter() - started, device))
    if not finished:
        raise refusals[0]
    return finished


def _counted_passes(method: Method, case: Case) -> float:
    """Rows that the counted forward will see: a backward pass is counted with its forward pass."""
    return method.passes(case) / (1.0 if method.family == "perturbation" else 3.0)


def check_finite(method: Method, attribution: Attribution) -> None:
    if not bool(torch.isfinite(attribution.map).all()):
        raise ModelError(
            f"{method.title} gives values that are not numbers for this scan.",
            "Choose another baseline or another method.",
        )


def _with_less_memory(method: Method, case: Case, warn: Callable[[str], None]) -> tuple[Attribution, str]:
    current, first = case, case.batch_size
    while True:
        try:
            attribution = method.run(current)
            if current.batch_size < first:
                warn(f"{method.title} ran {current.batch_size} inputs per pass, because memory was short.")
            case.batch_size = current.batch_size
            return attribution, str(current.inputs.device)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            current = _smaller(current, method, warn, error)


def _is_memory(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in text


def _smaller(case: Case, method: Method, warn: Callable[[str], None], error: Exception) -> Case:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if case.batch_size > 1:
        return case.with_(batch_size=math.ceil(case.batch_size / 2))
    if case.inputs.device.type == "cpu":
        raise ResourceError(
            f"The memory is not enough for {method.title} at one input per pass.",
            "Crop the scan to the region of interest, or choose a method without gradients.",
        ) from error
    warn(f"{method.title} did not fit into the memory of {case.inputs.device}; it ran on the CPU.")
    case.network.cpu()
    return case.with_(inputs=case.inputs.cpu(), baseline=case.baseline.cpu())
