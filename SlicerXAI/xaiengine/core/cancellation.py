"""Long calls that count no work: a cancel is answered while they last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")

_LOOK_SECONDS = 0.05


def interruptibly(check: Callable[[], None], function: Callable[..., Value], *arguments: Any, **more: Any) -> Value:
    """Return what the function returns, or raise what it or ``check`` raises.

    The function runs in a thread while this one calls ``check`` (``Progress.check``) 20 times a second. Where that
    raises, the thread is left to end by itself and its value is dropped: only for functions that touch nothing that
    others use (no model, no file that is written).
    """
    outcome: dict[str, Any] = {}
    ended = threading.Event()

    def work() -> None:
        try:
            outcome["value"] = function(*arguments, **more)
        except BaseException as error:
            outcome["error"] = error
        finally:
            ended.set()

    check()
    threading.Thread(target=work, daemon=True).start()
    while not ended.wait(_LOOK_SECONDS):
        check()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
