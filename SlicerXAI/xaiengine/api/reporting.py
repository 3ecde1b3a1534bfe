"""Progress and warnings of the Python API. Light to import."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from ..core.console import duration
from ..core.progress import Progress, ProgressEvent

Reporter = Callable[[str], None] | Progress | None


class ExplanationWarning(UserWarning):
    """What the reader of a map must know: what was assumed, left out, or is not reliable."""


def as_progress(progress: Reporter) -> Progress:
    """A progress from ``print``, another function that takes a line of text, a :class:`Progress`, or nothing."""
    if isinstance(progress, Progress):
        return progress
    return Progress() if progress is None else Progress(_Lines(progress))


class _Lines:
    """A line for each stage, and for each tenth of the whole."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last = ("", -1)

    def __call__(self, event: ProgressEvent) -> None:
        now = (event.stage, int(event.fraction * 10))
        if now == self._last or not event.stage:
            return
        self._last = now
        left = f", about {duration(event.seconds_left)} left" if event.seconds_left else ""
        self._write(f"{event.fraction:4.0%} {event.stage}{left}")


class Notes:
    """Collects what must be known, each text once, and warns of it."""

    def __init__(self, progress: Reporter = None, level: int = 3) -> None:
        self.texts: list[str] = []
        self._level = level

    def __call__(self, text: str) -> None:
        if text and text not in self.texts:
            self.texts.append(text)

    def warn(self) -> None:
        """Say all of it through Python's warnings, at the caller of the API."""
        for text in self.texts:
            warnings.warn(text, ExplanationWarning, stacklevel=self._level)
