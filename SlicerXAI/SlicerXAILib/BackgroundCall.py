"""Work that touches no node, done by a thread while the application's event loop turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Value = TypeVar("Value")

# A turn of the event loop lends the thread this much time, in which it need not fight for Python's lock.
_TURN_SECONDS = 0.005


class BackgroundCall:
    """Calls a function in a thread at once; the function gets ``isStopped`` as its first argument."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._function, self._arguments = function, arguments
        self._stop = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="SlicerXAI reading", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after at most so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Ask it to end, and wait for that: it may hold a file open."""
        self._stop.set()
        self._thread.join()

    def value(self) -> Any:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._function(self._stop.is_set, *self._arguments)
        except BaseException as error:  # told to who asks for the value
            self._error = error


def inBackground(function: Callable[..., Value], *arguments: Any) -> Generator[None, None, Value]:
    """Yield until a function has ended in a thread, and return what it returned.

    Where the generator is closed before, the function is stopped first.
    """
    call = BackgroundCall(function, *arguments)
    try:
        while not call.wait(_TURN_SECONDS):
            yield
    finally:
        call.stop()
    return call.value()
