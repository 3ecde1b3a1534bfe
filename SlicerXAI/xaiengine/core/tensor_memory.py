"""How much memory the tensors of a computation take at its peak, measured while it runs, on any device."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorMemory(TorchDispatchMode):
    """Counts, while it is entered, the bytes of the tensors that are made and not yet freed; ``peak`` at most.

    What was there before (weights, inputs) does not count, nor do the work spaces within one operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._held = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for storage in _storages((args, kwargs)):
            self._known.add(storage)
        result = function(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage not in self._known:
                self._hold(storage)
        return result

    def _hold(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._known.add(storage)
        self._held += size
        self.peak = max(self.peak, self._held)
        weakref.finalize(storage, self._release, size).atexit = False

    def _release(self, size: int) -> None:
        self._held -= size


def _storages(values: Any) -> Iterator[torch.UntypedStorage]:
    for value in tree_leaves(values):
        if isinstance(value, torch.Tensor) and value.layout is torch.strided:
            yield value.untyped_storage()
