"""A list of callbacks, so that code without Qt can announce what happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Callbacks that are called in the order in which they were connected."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[..., Any]] = []

    def connect(self, callback: Callable[..., Any]) -> None:
        if callback not in self._callbacks:
            self._callbacks.append(callback)

    def disconnect(self, callback: Callable[..., Any]) -> None:
        if callback in self._callbacks:
            self._callbacks.remove(callback)

    def emit(self, *arguments: Any) -> None:
        for callback in list(self._callbacks):
            callback(*arguments)
