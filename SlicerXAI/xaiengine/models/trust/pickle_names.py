"""Finds, without running it, every object that a pickle would look up.

The opcodes are interpreted as the unpickler does, with its stack and memo, on values of which only texts are known.
A name that cannot be computed so (fetched from a place that is not a text) makes the pickle malicious: no program
that saves weights writes one.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import Any

from ...core.errors import ModelError, TrustError

MOST_STEPS = 600_000
"""Opcodes of one file; the checkpoints of long trainings have about 100,000."""

LONGEST_PICKLE = 256 * 2**20
_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_OLD_PARTS = 5
_REMEDY = "Save the weights alone: torch.save(network.state_dict(), ...), or better as .safetensors."

_LATIN = ("latin1", "latin-1", "iso-8859-1")
_UNINITIALIZED = re.compile(r"torch (Tensor|\w*Storage)|torch\.storage \w+|numpy ndarray")
"""Called with a size, these give whatever lies in memory; files of weights name them, and never call them."""

_UNKNOWN = object()
_MARK = object()
_CALLS = {"REDUCE", "NEWOBJ"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TEXTS = set("STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8".split())
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}


def names_of(content: bytes, name: str) -> set[str]:
    """``module name`` of every object that unpickling these bytes would look up.

    In torch's older format five pickles follow one another, then raw numbers; otherwise the first pickle is all
    that is ever read.

    Raises:
        TrustError: a name cannot be resolved, or the pickle is out of proportion.
        ModelError: it is no pickle.
    """
    found: set[str] = set()
    stream = io.BytesIO(content)
    steps = MOST_STEPS
    parts = 1
    done = 0
    while done < parts:
        machine = _Machine(found, name)
        steps = machine.run(stream, steps)
        if done == 0 and machine.result == _TORCH_MAGIC:
            parts = _OLD_PARTS
        done += 1
    return found


class _Global:
    """An object that was looked up by name."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Machine:
    """The unpickler's stack and memo, holding texts, whole numbers, looked-up names and short tuples of these."""

    def __init__(self, found: set[str], name: str) -> None:
        self.result: Any = None
        self._found = found
        self._name = name
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: io.BytesIO, steps: int) -> int:
        """Interpret one pickle; the steps that are left of ``steps``."""
        try:
            for opcode, argument, _position in pickletools.genops(stream):
                steps -= 1
                if steps < 0:
                    raise TrustError(
                        f"{self._name} takes more than {MOST_STEPS} steps to be read, which no weights do.", _REMEDY
                    )
                self._step(opcode, argument)
        except (TrustError, ModelError):
            raise
        except RecursionError:
            raise TrustError(f"{self._name} is nested too deeply to be read.", _REMEDY) from None
        except Exception as error:  # pickletools raises many kinds for damaged files
            raise ModelError(f"{self._name} is not a file of torch.save: {str(error)[:200]}.", _REMEDY) from None
        return steps

    def _step(self, opcode: Any, argument: Any) -> None:
        kind = opcode.name
        stack = self._stack
        if kind in _TEXTS:
            stack.append(argument)
        elif kind in _PUTS:
            self._memo[int(argument)] = stack[-1]
        elif kind == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif kind in _GETS:
            stack.append(self._memo[int(argument)])
        elif kind == "MARK":
            stack.append(_MARK)
        elif kind == "DUP":
            stack.append(stack[-1])
        elif kind == "STOP":
            self.result = stack[-1] if stack else None
        elif kind in ("GLOBAL", "INST"):
            self._found.add(_checked(argument, self._name))
            if kind == "INST":
                self._to_mark()
                self._check_call(_Global(str(argument)), None)
            stack.append(_Global(str(argument)) if kind == "GLOBAL" else _UNKNOWN)
        elif kind == "STACK_GLOBAL":
            self._stack_global()
        elif kind in _TUPLES:
            count = _TUPLES[kind]
            items = tuple(stack[len(stack) - count :])
            if len(items) < count or _MARK in items:
                raise ValueError("too few values for a tuple")
            del stack[len(stack) - count :]
            stack.append(items)
        elif kind == "TUPLE":
            items = self._to_mark()
            stack.append(items if len(items) <= 3 else _UNKNOWN)
        elif kind in _CALLS:
            arguments, function = stack.pop(), stack.pop()
            self._check_call(function, arguments if isinstance(arguments, tuple) else None)
            stack.append(_UNKNOWN)
        elif kind == "OBJ":
            items = self._to_mark()
            self._check_call(items[0] if items else None, None)
            stack.append(_UNKNOWN)
        elif kind in ("EXT1", "EXT2", "EXT4"):
            self._found.add(f"copyreg extension_{argument}")
            stack.append(_UNKNOWN)
        else:
            self._other(opcode, argument)

    def _stack_global(self) -> None:
        attribute, module = self._stack.pop(), self._stack.pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise TrustError(
                f"{self._name} would call an object whose name is computed when it is read, which no weights do.",
                _REMEDY,
            )
        self._found.add(_checked(f"{module} {attribute}", self._name))
        self._stack.append(_Global(f"{module} {attribute}"))

    def _check_call(self, function: Any, arguments: tuple[Any, ...] | None) -> None:
        """Refuse calls of harmless names that take memory without measure or show what lies there.

        Protocol 2 writes bytes as text in Latin 1, which :func:`codecs.encode` turns back; other codecs double their
        input at each call.
        """
        if not isinstance(function, _Global):
            return
        if function.name == "_codecs encode":
            text, codec = (*(arguments or ()), None, None)[:2]
            if len(arguments or ()) != 2 or not isinstance(text, str) or codec not in _LATIN:
                raise TrustError(f"{self._name} would recode text when it is read, which no weights do.", _REMEDY)
        elif _UNINITIALIZED.fullmatch(function.name):
            raise TrustError(
                f"{self._name} would call {function.name.replace(' ', '.')} for a tensor without values.", _REMEDY
            )

    def _other(self, opcode: Any, argument: Any) -> None:
        """An opcode that only moves values: as many taken and put as its description says."""
        before = opcode.stack_before
        if pickletools.markobject in before or pickletools.stackslice in before:
            self._to_mark()
            for _ in range(before.index(pickletools.markobject)):
                self._stack.pop()
        else:
            for _ in before:
                if self._stack.pop() is _MARK:
                    raise ValueError("a mark is taken for a value")
        for _ in opcode.stack_after:
            self._stack.append(argument if isinstance(argument, int) and not before else _UNKNOWN)

    def _to_mark(self) -> tuple[Any, ...]:
        """Take the values above the topmost mark, and the mark."""
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return tuple(reversed(items))


def _checked(found: Any, name: str) -> str:
    text = str(found)
    module, _, attribute = text.partition(" ")
    if not module or not attribute or " " in attribute or not text.isascii():
        raise TrustError(f"{name} would call {text[:100]!r} when it is read.", _REMEDY)
    return text
