"""Makes of an untrusted TorchScript file a new archive in memory that holds checked code and weights, no more.

TorchScript runs without Python, but its operators can write files, and methods for pickling run while it is loaded.
So all code is read before anything is loaded: it is parsed, every operator must be on a list, and every other call
must be one of a method that the file itself defines.
"""

from __future__ import annotations

import ast
import io
import math
import re
from collections.abc import Iterator, Mapping

from ...core.errors import TrustError
from .archive import read_entries, rebuilt
from .expressions import TRUST_REMEDY
from .operators import ATEN, is_allowed
from .pickle_names import names_of

LARGEST_CODE = 3 * 2**20
MOST_ROUNDS = 100_000
"""Rounds of loops with a known end, nested ones multiplied."""

_PLAIN = re.compile(r"(version|byteorder|\.data/version|\.data/serialization_id)$")
_NUMBERS = re.compile(r"(data|constants)/\d{1,6}$", re.ASCII)
_CODE = re.compile(r"code/[\w/.]+\.py$", re.ASCII)
_PICKLES = ("data.pkl", "constants.pkl")
_DROPPED = re.compile(
    r"(code/[\w/.]+\.debug_pkl|extra/[\w.\-/]+|traced_inputs/\w+|traced_inputs\.pkl|attributes\.pkl)$", re.ASCII
)
_CLASSES = re.compile(r"__torch__(\.\w+)+ \w+$|__torch__ \w+$", re.ASCII)
_PICKLED = frozenset(
    """
    collections.OrderedDict torch._utils._rebuild_tensor_v2 torch._utils._rebuild_parameter torch.device
    torch.jit._pickle.build_intlist torch.jit._pickle.build_tensorlist torch.jit._pickle.build_doublelist
    torch.jit._pickle.build_boollist torch.jit._pickle.build_tensor_from_id torch.jit._pickle.restore_type_tag
    """.split()
)
_FUNCTIONS = frozenset(
    """
    annotate uninitialized unchecked_cast getattr hasattr int float bool str len range min max abs round list tuple
    dict sorted print isinstance zip enumerate sum any all torch_assert slice NamedTuple Dict List Tuple Optional
    Module super format unwrap_optional complex divmod ord chr hex
    """.split()
) - {"print", "hex", "chr"}
_ROOTS = ("torch", "ops", "__torch__")
"""What operators and classes hang from. A variable may not stand for one of them, nor bear its name."""

_HOOKS = ("__setstate__", "__getstate__", "__reduce__", "__reduce_ex__")
_TORCH_VALUES = frozenset(
    """
    device dtype Tensor float float16 float32 float64 double half bfloat16 int int8 int16 int32 int64 long short uint8
    bool complex64 complex128 strided contiguous_format channels_last channels_last_3d preserve_format layout cpu
    memory_format Generator
    """.split()
)
_LOADING = frozenset("save load from_file _save _load open read write exec eval set_data set_ save_to_file".split())


def clean_archive(content: bytes, name: str) -> io.BytesIO:
    """An archive in memory for ``torch.jit.load``, holding what was checked of ``content`` and nothing else.

    Raises:
        TrustError: an entry, an operator or a call that no network needs; it is named.
        ModelError: it is damaged.
    """
    made: dict[str, bytes] = {}
    code: dict[str, bytes] = {}
    for file, data in read_entries(content, name).items():
        if _CODE.match(file):
            code[file] = data
        elif file in _PICKLES:
            _check_pickle(data, f"{name}, {file}")
        elif _DROPPED.match(file):
            continue
        elif not (_NUMBERS.match(file) or _PLAIN.match(file) and len(data) <= 1000):
            raise TrustError(f"{name} holds {file[:100]!r}, which is no part of a TorchScript network.", TRUST_REMEDY)
        made[file] = data
    check_code({file: data.decode("utf-8", "replace") for file, data in code.items()}, name)
    return rebuilt(made)


def _check_pickle(content: bytes, where: str) -> None:
    for found in sorted(names_of(content, where)):
        dotted = found.replace(" ", ".")
        storage = dotted.startswith("torch.") and dotted.endswith("Storage") and dotted.count(".") == 1
        if not (dotted in _PICKLED or storage or _CLASSES.match(found)) or "__torch__.torch.classes" in dotted:
            raise TrustError(f"{where} would make {dotted[:100]} when it is read.", TRUST_REMEDY)


def check_code(files: Mapping[str, str], name: str) -> None:
    """Refuse code that calls what is on no list. ``files`` holds the text of each file of code by its name."""
    if sum(map(len, files.values())) > LARGEST_CODE:
        raise TrustError(f"The code of {name} is longer than {LARGEST_CODE} characters.", TRUST_REMEDY)
    trees = {file: _parsed(text, f"{name}, {file}") for file, text in files.items()}
    methods = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    classes = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for hook in _HOOKS:
        if hook in methods:
            raise TrustError(f"{name} defines {hook}, which runs while the file is loaded.", TRUST_REMEDY)
    if found := sorted(methods & _LOADING):
        raise TrustError(f"{name} defines a method {found[0]}, the name of an operator on files.", TRUST_REMEDY)
    for file, tree in trees.items():
        variables = {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        _Reader(methods | classes | variables, f"{name}, {file}").check(tree)


def _parsed(text: str, where: str) -> ast.Module:
    if not text.isascii():
        raise TrustError(f"{where}: the code holds letters that no exported code has.", TRUST_REMEDY)
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise TrustError(f"{where}: the code cannot be read: {str(error)[:100]}.", TRUST_REMEDY) from None


class _Reader:
    """Goes through one file of code."""

    def __init__(self, own: set[str], where: str) -> None:
        self._own = own
        self._where = where

    def _refusal(self, what: str) -> TrustError:
        return TrustError(f"{self._where}: the code {what}.", TRUST_REMEDY)

    def check(self, tree: ast.Module) -> None:
        inner: set[int] = set()
        roots = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and id(node) not in inner:
                chain = node
                while isinstance(chain.value, ast.Attribute):
                    chain = chain.value
                    inner.add(id(chain))
                self._check_chain(node)
            elif isinstance(node, ast.Call):
                self._check_call(node)
            elif isinstance(node, ast.While) and isinstance(node.test, ast.Constant):
                raise self._refusal("holds a loop without an end")
            elif isinstance(
                node, (ast.Import, ast.ImportFrom, ast.Lambda, ast.With, ast.Global, ast.AsyncFunctionDef)
            ):
                self._check_statement(node)
            elif isinstance(node, ast.Name) and node.id in _HOOKS:
                raise self._refusal(f"uses {node.id}")
            elif isinstance(node, ast.Name) and node.id in _ROOTS and id(node) not in roots:
                raise self._refusal(f"gives {node.id} another name")
        if (rounds := max(_rounds(tree.body), default=0)) > MOST_ROUNDS:
            raise self._refusal(f"goes through {rounds} rounds of a loop")

    def _check_statement(self, node: ast.AST) -> None:
        raise self._refusal(f"holds a statement that is not allowed ({type(node).__name__})")

    def _check_chain(self, node: ast.Attribute) -> None:
        """An operator or constant of PyTorch, called or not."""
        parts = _dotted(node)
        if not parts:
            if node.attr in _LOADING or node.attr in _HOOKS:
                raise self._refusal(f"reaches {node.attr}")
            return
        root, *rest = parts
        if root == "torch":
            allowed = len(rest) == 1 and (rest[0] in ATEN or rest[0] in _TORCH_VALUES)
            allowed = allowed or rest[:1] == ["dtype"]
        elif root == "ops":
            allowed = len(rest) == 2 and is_allowed(rest[0], rest[1])
        elif root == "__torch__":
            allowed = rest[:2] != ["torch", "classes"]
        else:
            allowed = not (set(rest) & (_LOADING | set(_HOOKS)))
        if not allowed:
            raise self._refusal(f"calls {'.'.join(parts)[:100]}, which may reach files")

    def _check_call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute):
            parts = _dotted(function)
            known = bool(parts) and parts[0] in ("torch", "ops", "__torch__")
            if not known and function.attr not in self._own and function.attr not in ATEN:
                raise self._refusal(f"calls {function.attr}, which is no method of the model")
        elif isinstance(function, ast.Name):
            if function.id not in _FUNCTIONS and function.id not in self._own:
                raise self._refusal(f"calls {function.id}")
        elif not isinstance(function, ast.Subscript):
            raise self._refusal("calls something that has no name")


def _dotted(node: ast.expr) -> list[str]:
    """The parts of ``a.b.c``; nothing for another expression."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []


def _rounds(body: list[ast.stmt]) -> Iterator[int]:
    """For each statement how often it goes round, at least once."""
    for node in body:
        inner = [part for field in ("body", "orelse") for part in getattr(node, field, ())]
        times = _length(node.iter) if isinstance(node, ast.For) else 1
        yield times * max(_rounds(inner), default=1)


def _length(iterated: ast.expr) -> int:
    """The rounds of a loop over a number that the code gives; 1 where it depends on the input."""
    if isinstance(iterated, ast.Call):
        if getattr(iterated.func, "id", "") != "range":
            return 1
        given = [item.value for item in iterated.args if isinstance(item, ast.Constant)]
        numbers = [abs(value) for value in given if isinstance(value, (int, float)) and math.isfinite(value)]
        return int(max(numbers, default=1))
    return int(iterated.value) if isinstance(iterated, ast.Constant) and isinstance(iterated.value, int) else 1
