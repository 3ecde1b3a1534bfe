"""Makes of an untrusted ``torch.export`` archive (.pt2) a new one that holds a checked graph and weights, no more.

The new archive is built from entries on a short list: the graph and the tables of weights as the JSON that was
checked, written again; weights as raw numbers; pickles only as what ``weights_only`` made of them, saved again.
Sample inputs, which are pickles that no one needs, are replaced by none.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ...core.errors import ModelError, TrustError
from .archive import read_entries, rebuilt
from .expressions import TRUST_REMEDY
from .operators import is_allowed

LARGEST_GRAPH = 64 * 2**20
MOST_NODES = 50_000
MOST_VALUES = 5_000_000
LARGEST_NUMBER = 2**31
_PLAIN = re.compile(r"(archive_format|archive_version|byteorder|version|\.data/version|\.data/serialization_id)$")
_WEIGHT = re.compile(r"data/(weights/weight|constants/tensor)_\d{1,6}$", re.ASCII)
_GRAPH = "models/model.json"
_TABLES = {
    "data/weights/model_weights_config.json": "weight",
    "data/constants/model_constants_config.json": "tensor",
}
_PICKLES = ("data/weights/model.pt", "data/constants/model.pt")
_DROPPED = re.compile(r"(data/sample_inputs/|extra/)[\w.\-]+$", re.ASCII)
_OLD_GRAPH = "serialized_exported_program.json"
_OLD_PICKLES = ("serialized_state_dict.pt", "serialized_constants.pt")
_OLD_INPUTS = "serialized_example_inputs.pt"
_OLD_DROPPED = re.compile(r"extra_files/[\w.\-]+$", re.ASCII)

_OPERATOR = re.compile(r"torch\.ops\.(\w+)\.(\w+)(?:\.\w+)?$", re.ASCII)
_NUMBERS = re.compile(
    r"(_operator\.(add|sub|mul|floordiv|truediv|mod|neg|getitem|eq|ne|lt|le|gt|ge)"
    r"|math\.(floor|ceil|trunc)|torch\.sym_(int|float|max|min|not|sum)|torch\._sym_sqrt)$"
)
_SYMBOLS = re.compile(r"[\w\s+\-*/%(),.<>=!&|~]*$", re.ASCII)
_SYMBOL = re.compile(r"Symbol\('([suz]\d+)'(?:, (?:positive|integer|nonnegative)=True)*\)", re.ASCII)
_NAMES = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KNOWN_NAMES = re.compile(
    r"([suz]\d+|Add|Mul|Integer|Max|Min|Mod|FloorDiv|CeilDiv|Eq|Ne|Le|Lt|Ge|Gt|PythonMod|CleanDiv|True|False|oo|int_oo)$",
    re.ASCII,
)
LONGEST_SIZE = 500


def clean_archive(content: bytes, name: str) -> io.BytesIO:
    """An archive in memory for ``torch.export.load``, holding what was checked of ``content`` and nothing else.

    Raises:
        TrustError: an entry, an operator, a size or a guard that no exported network needs; it is named.
        ModelError: it is damaged.
    """
    entries = read_entries(content, name)
    if _OLD_GRAPH in entries:
        return rebuilt(_old_format(entries, name), top="")
    made: dict[str, bytes] = {}
    for file, data in entries.items():
        where = f"{name}, {file[:100]}"
        if _PLAIN.match(file) and len(data) <= 1000 or _WEIGHT.match(file):
            made[file] = data
        elif file == _GRAPH:
            made[file] = _graph(data, where)
        elif file in _TABLES:
            made[file] = _table(data, file, entries, where)
        elif file in _PICKLES:
            made[file] = _saved_again(data, where)
        elif _DROPPED.match(file):
            _refuse_code(data, where)
        else:
            raise _foreign(file, name)
    if _GRAPH not in made:
        raise ModelError(f"{name} holds no exported network (models/model.json).", "Export it with torch.export.save.")
    made["data/sample_inputs/model.pt"] = _no_inputs()
    return rebuilt(made)


def _old_format(entries: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """As PyTorch 2.7 and before wrote it."""
    made: dict[str, bytes] = {}
    for file, data in entries.items():
        where = f"{name}, {file[:100]}"
        if file == "version" and len(data) < 100:
            made[file] = data
        elif file == _OLD_GRAPH:
            made[file] = _graph(data, where)
        elif file in _OLD_PICKLES:
            made[file] = _saved_again(data, where)
        elif file == _OLD_INPUTS or _OLD_DROPPED.match(file):
            _refuse_code(data, where)
        else:
            raise _foreign(file, name)
    made[_OLD_INPUTS] = _no_inputs()
    return made


def _refuse_code(data: bytes, where: str) -> None:
    """Sample inputs are left out in any case; one that would call something tells of the whole model."""
    from ..formats.weights import check_pickles

    if data.startswith((b"PK", b"\x80")):
        check_pickles(data, where)


def _foreign(file: str, name: str) -> TrustError:
    if "aotinductor" in file or file.endswith((".so", ".cpp", ".cubin", ".dll", ".dylib", ".py")):
        return TrustError(f"{name} holds compiled code ({file[:100]}).", TRUST_REMEDY)
    return TrustError(f"{name} holds {file[:100]!r}, which is no part of an exported network.", TRUST_REMEDY)


def _no_inputs() -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(((), {}), stream)
    return stream.getvalue()


def _saved_again(data: bytes, where: str) -> bytes:
    """Weights that were pickled, as ``weights_only`` reads them and as PyTorch then saves them."""
    import torch

    from ..formats.weights import read_checkpoint

    tensors = read_checkpoint(data, where) if data else {}
    if not isinstance(tensors, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in tensors.items()
    ):
        raise TrustError(f"{where} holds more than tensors by name.", TRUST_REMEDY)
    stream = io.BytesIO()
    torch.save(dict(tensors), stream)
    return stream.getvalue()


def _parsed(content: bytes, where: str) -> Any:
    if len(content) > LARGEST_GRAPH:
        raise TrustError(f"{where} is too large to be checked.", TRUST_REMEDY)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not readable: {str(error)[:200]}.", "Export it again.") from None


def _table(content: bytes, file: str, entries: Mapping[str, bytes], where: str) -> bytes:
    """The table of weights; each names raw numbers that are there and at least as many as it says."""
    table = _parsed(content, where)
    config = table.get("config") if isinstance(table, dict) else None
    if not isinstance(config, dict):
        raise ModelError(f"{where} is no table of weights.", "Export it again.")
    folder = file.rpartition("/")[0]
    for weight, meta in config.items():
        path = meta.get("path_name") if isinstance(meta, dict) else None
        if not isinstance(path, str) or not re.fullmatch(_TABLES[file] + r"_\d{1,6}", path, re.ASCII):
            raise TrustError(f"{where}: {weight[:100]} is stored as {str(path)[:100]!r}.", TRUST_REMEDY)
        if meta.get("use_pickle"):
            raise TrustError(f"{where}: a weight is stored as a pickle.", TRUST_REMEDY)
        data = entries.get(f"{folder}/{path}")
        if data is None:
            raise ModelError(f"{where}: the weight {weight[:100]} is missing.", "Export it again.")
        if _count(meta.get("tensor_meta"), where) > len(data):
            raise TrustError(f"{where}: {weight[:100]} pretends to be larger than it is.", TRUST_REMEDY)
    return json.dumps(table).encode()


def _count(meta: Any, where: str) -> int:
    try:
        return math.prod(int(size["as_int"]) for size in meta["sizes"])
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{where} gives no plain sizes of its weights.", "Export it again.") from None


def _graph(content: bytes, where: str) -> bytes:
    graph = _parsed(content, where)
    nodes = values = 0
    for key, value in _items(graph):
        values += 1
        if values > MOST_VALUES:
            raise TrustError(f"{where} is too large to be checked.", TRUST_REMEDY)
        if key == "target":
            nodes += 1
            _check_target(value, where)
        elif key == "expr_str":
            _check_symbols(value, where)
        elif key in ("as_operator", "as_custom_obj", "as_script_object", "as_graph") and value:
            raise TrustError(f"{where}: the graph holds {key[3:]}.", TRUST_REMEDY)
        elif key == "guards_code" and value:
            for guard in value if isinstance(value, list) else [value]:
                _check_guard(str(guard), where)
        elif key in ("as_int", "as_ints") and _is_large(value):
            raise TrustError(f"{where}: the graph holds the number {str(value)[:60]}.", TRUST_REMEDY)
    if nodes > MOST_NODES:
        raise TrustError(f"{where} calls {nodes} operators; at most {MOST_NODES} are read.", TRUST_REMEDY)
    return json.dumps(graph).encode()


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield from item.items()
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _is_large(value: Any) -> bool:
    """A size beyond what tensors have; the largest 64-bit number stands for "to the end"."""
    numbers = value if isinstance(value, list) else [value]
    return any(isinstance(item, int) and LARGEST_NUMBER < abs(item) < 2**63 - 1 for item in numbers)


def _check_target(target: Any, where: str) -> None:
    if target is None or target == "":
        return
    if isinstance(target, str):
        found = _OPERATOR.match(target)
        if (found and is_allowed(found[1], found[2])) or _NUMBERS.match(target) or _is_weight_name(target):
            return
    raise TrustError(f"{where}: the graph calls {str(target)[:100]!r}.", TRUST_REMEDY)


def _is_weight_name(target: str) -> bool:
    """Inputs and outputs of the graph name their weights under the same key."""
    return not target.startswith(("torch.", "_operator", "math.", "#")) and "(" not in target


def _check_symbols(text: Any, where: str) -> None:
    plain = _SYMBOL.sub(r"\1", text) if isinstance(text, str) else ""
    names = _NAMES.findall(plain)
    fits = isinstance(text, str) and len(text) <= LONGEST_SIZE and _SYMBOLS.match(plain) and plain.count("**") <= 1
    numbers = [int(found) for found in re.findall(r"\d{1,400}", plain)] if fits else []
    powers = [int(found) for found in re.findall(r"\*\*\s*\(?(\d{1,400})", plain)] if fits else []
    if (
        not fits
        or not all(_KNOWN_NAMES.match(name) for name in names)
        or any(number > 2**63 for number in numbers)
        or any(power > 8 for power in powers)
        or ("**" in plain and not powers)
    ):
        raise TrustError(f"{where}: the size {str(text)[:100]!r} is no plain expression.", TRUST_REMEDY)


_GUARD_PARTS = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Attribute, ast.Subscript),
    *(ast.Name, ast.Constant, ast.Load, ast.boolop, ast.operator, ast.unaryop, ast.cmpop),
)


def _check_guard(text: str, where: str) -> None:
    try:
        tree = ast.parse(text, mode="eval") if len(text) <= 10_000 and text.isascii() else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if tree is None:
        raise TrustError(f"{where}: the guard {text[:100]!r} is not readable.", TRUST_REMEDY)
    for node in ast.walk(tree):
        if not isinstance(node, _GUARD_PARTS) or isinstance(node, (ast.Pow, ast.LShift)):
            raise TrustError(f"{where}: the guard {text[:100]!r} is no comparison.", TRUST_REMEDY)
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Attribute) and node.func.attr in ("size", "stride")
        ):
            raise TrustError(f"{where}: the guard {text[:100]!r} calls a function.", TRUST_REMEDY)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise TrustError(f"{where}: the guard {text[:100]!r} reaches {node.attr}.", TRUST_REMEDY)
