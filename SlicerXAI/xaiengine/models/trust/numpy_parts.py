"""Stands in for NumPy where a pickle of weights holds its numbers, arrays and types.

NumPy's own functions of that purpose take sizes, flags and states on trust: they allocate what a file asks for and
keep flags of types for the whole process. Here a type is one of a few kinds of numbers and text, and an array has
exactly the bytes that the file holds for it.
"""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np

_KINDS = re.compile(r"[<>=|]?(\?|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,4})", re.ASCII)
_ORDERS = ("<", ">", "=", "|")


class DataType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, kind: Any, *_flags: Any) -> None:
        if not isinstance(kind, str) or not _KINDS.fullmatch(kind):
            raise pickle.UnpicklingError(f"values of the type {str(kind)[:60]!r}")
        self.kind = np.dtype(kind)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in _ORDERS:
            raise pickle.UnpicklingError("a type of numbers without an order of bytes")
        if state[1] != "|":
            self.kind = self.kind.newbyteorder(state[1])


class ArrayType:
    """Stands in for the class ``numpy.ndarray``, which files name and never call."""

    def __new__(cls, *_: Any) -> ArrayType:
        raise pickle.UnpicklingError("an array without values")


class Array(np.ndarray):
    """An array whose shape, type and bytes come together."""

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, is_fortran, content = state
        if not isinstance(kind, DataType) or not isinstance(content, bytes) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array of objects")
        whole: Any = (1, shape, kind.kind, bool(is_fortran), content)
        super().__setstate__(whole)  # refuses another number of bytes


def reconstruct(_cls: Any, _shape: Any, _code: Any) -> Array:
    """The empty array that a state fills."""
    return np.ndarray.__new__(Array, (0,), "b")


def scalar(kind: Any, content: Any = None) -> Any:
    """One number from its bytes."""
    if not isinstance(kind, DataType) or not isinstance(content, bytes) or len(content) != kind.kind.itemsize:
        raise pickle.UnpicklingError("a number whose bytes do not fit its type")
    return np.frombuffer(content, kind.kind, 1)[0]
