"""Runs methods on a case: with progress, and with less memory when there is not enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..core.device import is_out_of_memory
from ..core.errors import ModelError, OptionError
from .case import Case
from .estimate import Estimate, estimate
from .feature_maps import explainable
from .forward import Attribution
from .registry import AttributionMethod
from .whole_case import WholeCase


@dataclass(frozen=True)
class Finished:
    """A method's result, how long it took, and on which device."""

    method: AttributionMethod
    attribution: Attribution
    seconds: float
    device: str


def run_methods(
    case: Case,
    methods: Sequence[AttributionMethod],
    *,
    expected: Estimate | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Finished]:
    """Run every method, the results in the order given.

    When memory runs out, fewer inputs (or windows) run at a time; a method that does not fit at one at a time runs on
    the CPU where that is possible. A method that the model refuses raises ModelError, unless other methods were asked
    for too: then it is left out with a warning.
    """
    case.check(methods)
    expected = expected or estimate(case, methods)
    if isinstance(case, WholeCase):
        case.batch_size = expected.batch_size
    finished: list[Finished] = []
    refusals: list[ModelError | OptionError] = []
    with explainable(case.network):
        for method in methods:
            if case.progress is not None:
                case.progress.stage(method.title, max(1, round(expected.passes[method.name].forward)))
            started = time.perf_counter()
            try:
                attribution = run_method(case, method, warn)
            except (ModelError, OptionError) as error:
                refusals.append(error)
                if len(methods) > 1:
                    warn(f"{method.title} was left out. {error}")
                continue
            finished.append(Finished(method, attribution, time.perf_counter() - started, str(case.device)))
    if not finished:
        raise refusals[0]
    return finished


def run_method(case: Case, method: AttributionMethod, warn: Callable[[str], None] = lambda text: None) -> Attribution:
    """One method, again with less memory where that runs out.

    Raises:
        ResourceError: it does not fit one input at a time.
        ModelError: the model refuses the method, or its values are not numbers.
    """
    while True:
        try:
            with case.reporting(method.family == "information"), explainable(case.network):
                found = method.run(case)
            check_finite(method, found)
            return found
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            problem = error.with_traceback(None)  # the frames hold the tensors that took the memory
        case.smaller(method.title, warn, problem)


def check_finite(method: AttributionMethod, found: Attribution) -> None:
    if not bool(torch.isfinite(found.map).all()):
        raise ModelError(
            f"{method.title} gives values that are not numbers for this scan.",
            "Choose another baseline or another method.",
        )
