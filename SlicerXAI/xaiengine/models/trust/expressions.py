"""The small expression language that an untrusted configuration may use.

MONAI evaluates every ``$`` string of a bundle as Python. Here such a string is parsed, not run: a walk over its
syntax tree computes literals, arithmetic, comparisons, indexing, a few built-in functions and
``torch.device(...)``; whatever else it holds is refused by name.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from ...core.errors import ModelError, TrustError

LONGEST_EXPRESSION = 2000
LONGEST_VALUE = 10_000
MOST_STEPS = 200_000
"""Parts of an expression that are computed, counted with what built-in functions go through."""

LARGEST_NUMBER = 2**53
CORRECT_REMEDY = "Correct the entry in the model's configuration."
TRUST_REMEDY = (
    "If you know who made this model and trust them, say so (--trust-model, or Trust this model in the panel)."
)

_REFERENCE = re.compile(r"@(\w*(?:(?:::|#)+\w+)*)")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}


def _range(*limits: int) -> list[int]:
    numbers = range(*limits)
    if len(numbers) > LONGEST_VALUE:
        raise ModelError(
            f"range{limits} has {len(numbers)} items; at most {LONGEST_VALUE} are allowed.", CORRECT_REMEDY
        )
    return list(numbers)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "float": float,
    "int": int,
    "len": len,
    "list": list,
    "max": max,
    "min": min,
    "range": _range,
    "round": round,
    "sorted": sorted,
    "str": str,
    "sum": sum,
    "tuple": tuple,
}
_TORCH_CONSTANTS: tuple[str, ...] = (
    "bfloat16",
    "bool",
    "double",
    "float",
    "float16",
    "float32",
    "float64",
    "half",
    "int",
    "int16",
)
_TORCH_CONSTANTS += ("int32", "int64", "long", "uint8")
_COMMON_KEYS = {
    "IMAGE": "image",
    "LABEL": "label",
    "PRED": "pred",
    "LOSS": "loss",
    "LATENT": "latent",
    "METADATA": "metadata",
}
"""MONAI's names of the entries of a batch (``monai.utils.CommonKeys``)."""
_NUMPY_CONSTANTS = ("float16", "float32", "float64", "int16", "int32", "int64", "uint8")


def is_expression(value: Any) -> bool:
    """Whether MONAI would evaluate this value of a configuration."""
    return isinstance(value, str) and value.startswith("$")


def evaluate(
    text: str,
    reference: Callable[[str], Any],
    class_named: Callable[[str], Any] = lambda name: None,
    where: str = "",
    read_tensors: Callable[[str], Any] | None = None,
) -> Any:
    """The value of an expression (with its leading ``$``).

    ``reference`` gives the value of an ``@id``; ``class_named`` gives an allowed class by its dotted name, or None.
    ``where`` says which entry it is, for messages; ``read_tensors`` reads a file of the model for ``torch.load``.

    Raises:
        TrustError: the expression would need code to be run.
        ModelError: it is not Python, or cannot be computed.
    """
    place = f" (in {where})" if where else ""
    source = text[1:].strip()
    if len(source) > LONGEST_EXPRESSION:
        raise TrustError(f"An expression of {len(source)} characters is not read{place}.", TRUST_REMEDY)
    names: dict[str, str] = {}

    def placeholder(match: re.Match[str]) -> str:
        name = f"reference_{len(names)}_"
        names[name] = match[1].replace("#", "::")
        return name

    try:
        tree = ast.parse(_REFERENCE.sub(placeholder, source), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if _is_statement(source):
            raise TrustError(f"The statement {_short(text)} would run code{place}.", TRUST_REMEDY) from None
        raise ModelError(f"The expression {_short(text)} is not readable{place}: {error}.", CORRECT_REMEDY) from None
    try:
        return _Evaluator(names, reference, class_named, text, place, read_tensors).value(tree.body)
    except (TrustError, ModelError):
        raise
    except Exception as error:
        raise ModelError(
            f"The expression {_short(text)} cannot be computed{place}: {error}.", CORRECT_REMEDY
        ) from error


def _is_statement(source: str) -> bool:
    try:
        ast.parse(_REFERENCE.sub("reference", source), mode="exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:117] + "...")


class _Evaluator:
    """Computes one syntax tree; a node type without a method here does not exist in the language."""

    def __init__(
        self,
        names: Mapping[str, str],
        reference: Callable[[str], Any],
        class_named: Callable[[str], Any],
        text: str,
        place: str,
        read_tensors: Callable[[str], Any] | None = None,
    ) -> None:
        self._read_tensors = read_tensors
        self._variables: dict[str, Any] = {}
        self._steps = MOST_STEPS
        self._names = names
        self._reference = reference
        self._class_named = class_named
        self._text = text
        self._place = place

    def value(self, node: ast.expr) -> Any:
        compute = getattr(self, f"_{type(node).__name__.lower()}", None)
        if compute is None:
            raise self._refusal(f"{type(node).__name__} is not part of what an untrusted model may write")
        self._spend(1)
        value = self._bounded(compute(node))
        if isinstance(node, (ast.BinOp, ast.Call, ast.Subscript)) and isinstance(value, (str, list, tuple, dict)):
            self._spend(len(value))  # it was made here, and may be made again in a loop
        return value

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise self._refusal(f"it takes more than {MOST_STEPS} steps to compute")

    def _spend_size(self, *values: Any) -> None:
        """Pay for what a function or comparison goes through: all items of its arguments, nested ones too."""
        pending = list(values)
        while pending:
            value = pending.pop()
            if isinstance(value, (list, tuple, dict)):
                self._spend(len(value) + 1)
                pending.extend(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, str):
                self._spend(len(value) // 16 + 1)

    def _refusal(self, reason: str) -> TrustError:
        return TrustError(f"The expression {_short(self._text)} is refused{self._place}: {reason}.", TRUST_REMEDY)

    def _bounded(self, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise self._refusal("it makes a number beyond 2**53")
        if isinstance(value, (str, list, tuple, dict)) and len(value) > LONGEST_VALUE:
            raise self._refusal(f"it makes a value of {len(value)} items")
        return value

    def _constant(self, node: ast.Constant) -> Any:
        if node.value is None or isinstance(node.value, (bool, int, float, str)):
            return node.value
        raise self._refusal(f"a {type(node.value).__name__} is not a value that it may hold")

    def _list(self, node: ast.List) -> list[Any]:
        return [self.value(item) for item in node.elts]

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(item) for item in node.elts)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        if None in node.keys:
            raise self._refusal("** is not allowed")
        return {self.value(key): self.value(item) for key, item in zip(node.keys, node.values)}

    def _name(self, node: ast.Name) -> Any:
        if node.id in self._variables:
            return self._variables[node.id]
        if node.id in self._names:
            return self._reference(self._names[node.id])
        raise self._refusal(f"it uses {node.id}")

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if type(node.op) not in _UNARY:
            raise self._refusal(f"the operator {type(node.op).__name__} is not allowed")
        return _UNARY[type(node.op)](self._plain(node.operand))

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self._plain(node.left), self._plain(node.right)
        if isinstance(node.op, ast.Pow):
            return self._power(left, right)
        if type(node.op) not in _BINARY:
            raise self._refusal(f"the operator {type(node.op).__name__} is not allowed")
        if isinstance(node.op, ast.Mult):
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, (str, list, tuple)) and len(sequence) * max(int(times), 0) > LONGEST_VALUE:
                    raise self._refusal("it repeats a value too often")
        self._spend_size(left, right)
        if isinstance(node.op, ast.Mod) and isinstance(left, str):
            raise self._refusal("text formatting is not allowed")
        return _BINARY[type(node.op)](left, right)

    def _power(self, base: Any, exponent: Any) -> Any:
        if not all(isinstance(item, (int, float)) for item in (base, exponent)):
            raise self._refusal("a power of something that is no number")
        if abs(exponent) > 64 or abs(base) > 2**20:
            raise self._refusal("the power is too large")
        return base**exponent

    def _boolop(self, node: ast.BoolOp) -> Any:
        stop_at = isinstance(node.op, ast.Or)
        value: Any = None
        for item in node.values:
            value = self.value(item)
            if bool(value) == stop_at:
                break
        return value

    def _compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for sign, item in zip(node.ops, node.comparators):
            right = self.value(item)
            self._spend_size(left, right)
            if not _COMPARE[type(sign)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        container = self._plain(node.value)
        if not isinstance(container, (str, list, tuple, dict)):
            raise self._refusal(f"a {type(container).__name__} cannot be indexed")
        if isinstance(node.slice, ast.Slice):
            limits = [None if part is None else self.value(part) for part in _slice_parts(node.slice)]
            return container[slice(*limits)]
        return container[self.value(node.slice)]

    def _listcomp(self, node: ast.ListComp) -> list[Any]:
        loop = node.generators[0]
        if len(node.generators) > 1 or not isinstance(loop.target, ast.Name) or loop.is_async:
            raise self._refusal("only simple list comprehensions are allowed")
        made = []
        for item in self._plain(loop.iter):
            self._variables[loop.target.id] = item
            if all(self.value(test) for test in loop.ifs):
                made.append(self.value(node.elt))
        self._variables.pop(loop.target.id, None)
        return made

    def _attribute(self, node: ast.Attribute) -> Any:
        name = _dotted(node)
        if name is None:
            raise self._refusal(f"the attribute {node.attr} is not allowed")
        package, _, constant = name.rpartition(".")
        if package in ("monai.utils.CommonKeys", "monai.utils.enums.CommonKeys", "CommonKeys"):
            if constant in _COMMON_KEYS:
                return _COMMON_KEYS[constant]
        if package == "torch" and constant in _TORCH_CONSTANTS:
            import torch

            return getattr(torch, constant)
        if package in ("np", "numpy") and constant in _NUMPY_CONSTANTS:
            import numpy

            return getattr(numpy, constant)
        if package in ("np", "numpy", "math") and constant == "pi":
            return 3.141592653589793
        found = self._class_named(name)
        if found is None:
            raise self._refusal(f"it uses {name}")
        return found

    def _call(self, node: ast.Call) -> Any:
        name = _dotted(node.func)
        if name is None:
            raise self._refusal("it calls something that is no plain function name")
        if name == "torch.cuda.is_available" and not node.args and not node.keywords:
            import torch

            return torch.cuda.is_available()
        if name == "torch.device":
            return self._torch_device(node)
        if name == "torch.load" and self._read_tensors is not None and node.args:
            found = self._read_tensors(str(self._plain(node.args[0])))
            return dict(found) if isinstance(found, Mapping) else found
        if name in ("torch.from_numpy", "torch.tensor", "torch.as_tensor") and len(node.args) == 1:
            return self._tensor(node)
        if name not in _FUNCTIONS or any(keyword.arg is None for keyword in node.keywords):
            raise self._refusal(f"it calls {name}")
        arguments = [self._plain(item) for item in node.args]
        keywords = {keyword.arg: self._plain(keyword.value) for keyword in node.keywords}
        if "key" in keywords:
            raise self._refusal(f"{name} takes no key function here")
        self._spend_size(*arguments, *keywords.values())
        if name == "sum" and arguments and not _are_numbers(arguments):
            raise self._refusal("sum takes numbers here")
        if name == "round" and any(isinstance(item, int) and abs(item) > 100 for item in arguments[1:]):
            raise self._refusal("it rounds to a senseless number of digits")
        return _FUNCTIONS[name](*arguments, **keywords)

    def _tensor(self, node: ast.Call) -> Any:
        """A tensor of numbers that a file of the model holds; torch and NumPy run nothing of the model for it."""
        import numpy
        import torch

        value = self.value(node.args[0])
        if isinstance(value, numpy.ndarray) and value.dtype.kind in "biuf":
            return torch.from_numpy(value)
        if isinstance(value, torch.Tensor):
            return value
        raise self._refusal("it makes a tensor of something that holds no numbers")

    def _torch_device(self, node: ast.Call) -> Any:
        import torch

        arguments = [self._plain(item) for item in node.args]
        if node.keywords or not all(isinstance(item, (str, int)) for item in arguments):
            raise self._refusal("torch.device takes a name and a number")
        return torch.device(*arguments)

    def _plain(self, node: ast.expr) -> Any:
        """A value of Python's own kinds, whose operators are known to run no foreign code."""
        value = self.value(node)
        if value is None or type(value) in (bool, int, float, str, list, tuple, dict):
            return value
        raise self._refusal(f"it computes with a {type(value).__name__}")


def _are_numbers(arguments: list[Any]) -> bool:
    return isinstance(arguments[0], (list, tuple)) and all(isinstance(item, (int, float)) for item in arguments[0])


def _slice_parts(node: ast.Slice) -> tuple[ast.expr | None, ...]:
    return node.lower, node.upper, node.step


def _dotted(node: ast.expr) -> str | None:
    """``a.b.c`` of an attribute chain that starts at a name; None for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])
