"""Hands over what the engine says while the application's event loop turns, for callers that do not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .TaskRun import TaskRun

_MILLISECONDS = 50
# While a scan or a result is on its way, every call does a piece of the work.
_MOVING_MILLISECONDS = 0


class EventPump:
    """Calls ``processEvents`` 20 times a second until the task has ended.

    Without Qt (a script outside the application) there is no event loop: the caller calls the logic's
    ``processEvents`` then.
    """

    def __init__(self, processEvents: Callable[[], Any], run: TaskRun) -> None:
        try:
            import qt
        except ImportError:
            return
        self._processEvents, self._run = processEvents, run
        self._timer = qt.QTimer()
        self._timer.setInterval(_MILLISECONDS)
        self._timer.connect("timeout()", self._onTimeout)
        # The signals hold this object, and with it the timer, for as long as the task runs.
        run.finished.connect(self._stop)
        run.failed.connect(self._stop)
        self._timer.start()

    def _onTimeout(self) -> None:
        self._processEvents()
        self._timer.setInterval(_MOVING_MILLISECONDS if self._run.isMoving else _MILLISECONDS)

    def _stop(self, _outcome: Any) -> None:
        self._timer.stop()


def callSoon(function: Callable[[], Any]) -> None:
    """Call a function in the next turn of the event loop; at once where there is none (outside the application)."""
    try:
        import qt
    except ImportError:
        function()
        return
    qt.QTimer.singleShot(0, function)
