"""Progress and messages for people who look at a terminal or at its log file."""

from __future__ import annotations

import sys
from typing import IO

from .progress import ProgressEvent


def say(text: str) -> None:
    """Print one line for the user; never on stdout, which belongs to data."""
    print(text, file=sys.stderr, flush=True)


class ConsoleProgress:
    """One line that is rewritten on a terminal; one line for each tenth of the way in a log file."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._width = 0
        self._said = ("", -1)

    def __call__(self, event: ProgressEvent) -> None:
        text = f"{event.fraction:4.0%}  {event.stage}"
        if event.total:
            text += f"  {event.done}/{event.total}"
        if event.seconds_left is not None:
            text += f"  about {duration(event.seconds_left)} left"
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            step = (event.stage, int(event.fraction * 10))
            if step == self._said:
                return
            self._said = step
            self._stream.write(text + "\n")
        self._stream.flush()

    def log(self, text: str) -> None:
        self.close()
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the rewritten line standing."""
        if self._terminal and self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0


def duration(seconds: float) -> str:
    """``8 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
