"""Progress with time left, and clean cancellation.

A task plans its stages with a rough cost each, then counts the work of the running stage. Every report may
raise :class:`~xaiengine.core.errors.CancelledError`; whoever holds hooks or files releases them on the way out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from .errors import CancelledError


@dataclass(frozen=True)
class ProgressEvent:
    """What is known at one moment. ``fraction`` is of the whole job; ``seconds_left`` is None until known."""

    stage: str
    stage_fraction: float
    fraction: float
    done: int
    total: int
    seconds: float
    seconds_left: float | None

    def as_dict(self) -> dict:
        return asdict(self)


Sink = Callable[[ProgressEvent], None]


class Progress:
    """Counts done work against planned work and tells ``sink`` at most every ``interval`` seconds."""

    def __init__(
        self,
        sink: Sink | None = None,
        cancelled: Callable[[], bool] | None = None,
        interval: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._cancelled = cancelled or (lambda: False)
        self._interval = interval
        self._clock = clock
        self._start = clock()
        self._last = -float("inf")
        self._weights: dict[str, float] = {}
        self._finished = 0.0
        self._stage = ""
        self._stage_start = self._start
        self._done = 0
        self._total = 0

    def plan(self, stages: Sequence[tuple[str, float]]) -> None:
        """Declare the stages, each with its expected share of the time (any unit)."""
        total = sum(weight for _, weight in stages) or 1.0
        self._weights = {name: weight / total for name, weight in stages}

    def stage(self, name: str, total: int = 0) -> None:
        """Begin a stage of ``total`` counted pieces of work; the stage before counts as finished."""
        self._finished += self._weights.get(self._stage, 0.0)
        self._stage, self._done, self._total = name, 0, total
        self._stage_start = self._clock()
        self._report(force=True)

    def advance(self, pieces: int = 1) -> None:
        self.update(self._done + pieces, self._total)

    def update(self, done: int, total: int | None = None) -> None:
        """Say that ``done`` of ``total`` pieces of the stage are done. Raises CancelledError on request."""
        self._done = done
        if total is not None:
            self._total = total
        self._report()

    def check(self) -> None:
        """Raise CancelledError if the user asked to stop."""
        if self._cancelled():
            raise CancelledError()

    def finish(self) -> None:
        self._finished, self._weights, self._done, self._total = 1.0, {}, 1, 1
        self._report(force=True)

    def _report(self, force: bool = False) -> None:
        self.check()
        now = self._clock()
        if self._sink is None or (not force and now - self._last < self._interval and self._done != self._total):
            return
        self._last = now
        self._sink(self._event(now))

    def _event(self, now: float) -> ProgressEvent:
        within = min(1.0, self._done / self._total) if self._total else 0.0
        weight = self._weights.get(self._stage, 0.0)
        fraction = min(1.0, self._finished + weight * within)
        return ProgressEvent(
            stage=self._stage,
            stage_fraction=within,
            fraction=fraction,
            done=self._done,
            total=self._total,
            seconds=now - self._start,
            seconds_left=self._left(now, within, weight, fraction),
        )

    def _left(self, now: float, within: float, weight: float, fraction: float) -> float | None:
        """The running stage is extrapolated from its own pace, later ones from the pace of the plan."""
        if fraction >= 1.0:
            return 0.0
        if fraction <= 0.0 or now - self._start < 0.5:
            return None
        pace = (now - self._start) / fraction
        later = max(0.0, 1.0 - self._finished - weight) * pace
        if within > 0:
            return (now - self._stage_start) * (1 - within) / within + later
        return weight * pace + later


class RepeatedProgress(Progress):
    """Progress of work that is done ``times`` over within one stage of ``outer``, which never runs backwards."""

    def __init__(self, outer: Progress, times: int) -> None:
        super().__init__(interval=0.0)
        self._outer, self._times, self._begun = outer, max(1, times), 0

    def repeat(self) -> None:
        """Begin the next repetition."""
        self._begun += 1
        self._done = self._total = 0
        self._tell(0.0)

    def stage(self, name: str, total: int = 0) -> None:
        self._done, self._total = 0, total

    def update(self, done: int, total: int | None = None) -> None:
        super().update(done, total)
        self._tell(min(1.0, done / self._total) if self._total else 0.0)

    def check(self) -> None:
        self._outer.check()

    def _tell(self, part: float) -> None:
        share = min(1.0, (max(0, self._begun - 1) + part) / self._times)
        self._outer.update(max(self._outer._done, round(1000 * share)), 1000)
