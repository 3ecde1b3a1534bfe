"""Checks the graph of an untrusted ``torch.export`` archive, text by text.

PyTorch looks up what a node calls by attribute, imports the types of nested inputs, evaluates sizes with sympy,
compiles guards, and writes names of arguments into Python code that it then runs. So every text is of a form that does
no harm.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from ...core.errors import ModelError, TrustError
from .expressions import TRUST_REMEDY
from .operators import is_allowed

LARGEST_GRAPH = 64 * 2**20
MOST_NODES = 50_000
MOST_VALUES = 5_000_000
LARGEST_NUMBER = 2**31

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


def parsed(content: bytes, where: str) -> Any:
    if len(content) > LARGEST_GRAPH:
        raise TrustError(f"{where} is too large to be checked.", TRUST_REMEDY)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not readable: {str(error)[:200]}.", "Export it again.") from None


def checked_graph(content: bytes, where: str) -> bytes:
    """The graph as it was checked: every text is of a known form, and notes for people are left out."""
    graph = parsed(content, where)
    if not isinstance(graph, dict):
        raise ModelError(f"{where} is no exported graph.", "Export it again.")
    nodes = values = 0
    pending: list[Any] = [graph]
    while pending:
        item = pending.pop()
        values += len(item)
        if values > MOST_VALUES:
            raise TrustError(f"{where} is too large to be checked.", TRUST_REMEDY)
        if isinstance(item, list):
            for value in item:
                if isinstance(value, (dict, list)):
                    pending.append(value)
                else:
                    _check_plain(value, where)
            continue
        if "metadata" in item:
            item["metadata"] = _notes(item["metadata"], where)
        for key, value in item.items():
            if "target" in item and "inputs" in item and key == "target":
                nodes += 1
                _check_operator(value, where)
            elif key not in _KEPT and not _check_entry(key, value, where) and isinstance(value, (dict, list)):
                pending.append(value)
    if nodes > MOST_NODES:
        raise TrustError(f"{where} calls {nodes} operators; at most {MOST_NODES} are read.", TRUST_REMEDY)
    return json.dumps(graph).encode()


def _check_entry(key: str, value: Any, where: str) -> bool:
    """Check one entry of a mapping of the graph; False where what it holds is still to be looked at."""
    _check_plain(key, where)
    if key in ("in_spec", "out_spec"):
        check_tree(value, where)
    elif key == "expr_str":
        _check_symbols(value, where)
    elif key == "range_constraints":
        for symbol, limits in value.items() if isinstance(value, dict) else ():
            _check_symbols(symbol, where)
            for limit in limits.values() if isinstance(limits, dict) else [limits]:
                _check_plain(limit, where)
    elif key == "guards_code":
        for guard in value if isinstance(value, list) else [value or "True"]:
            _check_guard(str(guard), where)
    elif key == "as_string":
        if not isinstance(value, str) or not _ARGUMENT.fullmatch(value):
            raise TrustError(f"{where}: an operator is given the text {str(value)[:100]!r}.", TRUST_REMEDY)
    elif key in _REFUSED and value:
        raise TrustError(f"{where}: the graph holds {key.removeprefix('as_')}.", TRUST_REMEDY)
    elif key in ("as_int", "as_ints") and _is_large(value):
        raise TrustError(f"{where}: the graph holds the number {str(value)[:60]}.", TRUST_REMEDY)
    elif isinstance(value, (dict, list)):
        return False
    else:
        _check_plain(value, where)
    return True


_KEPT = ("metadata",)
_REFUSED = ("as_operator", "as_custom_obj", "as_script_object", "as_graph", "treespec_namedtuple_fields")
_ARGUMENT = re.compile(r"[\w ,.\->()+*=:]{0,500}", re.ASCII)
"""Of operators that take a text: a mode of interpolation, an equation of Einstein's sums."""

_PLAIN_TEXT = re.compile(r"[\w.\-+:/]{0,500}", re.ASCII)


def _check_plain(value: Any, where: str) -> None:
    """Names of tensors, weights, kinds and versions; PyTorch writes some of them into Python code that it runs."""
    if isinstance(value, str) and not (_PLAIN_TEXT.fullmatch(value) and len(value) <= 500):
        raise TrustError(f"{where}: the graph holds the text {value[:100]!r}, which is no name.", TRUST_REMEDY)


_MODULES = re.compile(r"[\w.;,@*()\[\]'\- ]*", re.ASCII)


def _notes(notes: Any, where: str) -> dict[str, str]:
    """Of a node's notes the one on its modules, by which layers are known. Others are for people, or are looked up."""
    kept = notes.get("nn_module_stack") if isinstance(notes, dict) else None
    if not isinstance(kept, str) or not kept:
        return {}
    if len(kept) > 20_000 or not _MODULES.fullmatch(kept):
        raise TrustError(f"{where}: a node lies in the modules {kept[:100]!r}.", TRUST_REMEDY)
    return {"nn_module_stack": kept}


_CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
DEEPEST_TREE = 50


def check_tree(text: Any, where: str) -> None:
    """How inputs or outputs are nested: tuples, lists and mappings by name. PyTorch imports what others ask for."""
    if text is None or text == "":
        return
    tree = parsed(text.encode("utf-8", "replace"), where) if isinstance(text, str) else None
    unknown = TrustError(f"{where}: the form of inputs or outputs {str(text)[:100]!r} is not known.", TRUST_REMEDY)
    if not isinstance(tree, list) or len(tree) != 2 or tree[0] != 1:
        raise unknown
    pending = [(tree[1], 0)]
    while pending:
        node, depth = pending.pop()
        if not isinstance(node, dict) or set(node) != {"type", "context", "children_spec"} or depth > DEEPEST_TREE:
            raise unknown
        kind, context, children = node["type"], node["context"], node["children_spec"]
        if not isinstance(children, list) or (kind is None and (context is not None or children)):
            raise unknown
        if kind is not None and (kind not in _CONTAINERS or not _are_names(context, where)):
            raise TrustError(
                f"{where}: the inputs or outputs hold a {str(kind)[:100]}, {str(context)[:100]}.", TRUST_REMEDY
            )
        pending.extend((child, depth + 1) for child in children)


def _are_names(context: Any, where: str) -> bool:
    """The context of a container: nothing, or the keys of a mapping."""
    if context is None:
        return True
    keys = parsed(context.encode("utf-8", "replace"), where) if isinstance(context, str) else context
    return keys is None or (isinstance(keys, list) and all(isinstance(key, (str, int)) for key in keys))


def _is_large(value: Any) -> bool:
    """A size beyond what tensors have; the largest 64-bit number stands for "to the end"."""
    numbers = value if isinstance(value, list) else [value]
    return any(isinstance(item, int) and LARGEST_NUMBER < abs(item) < 2**63 - 1 for item in numbers)


def _check_operator(target: Any, where: str) -> None:
    """What a node calls."""
    if isinstance(target, str):
        found = _OPERATOR.match(target)
        if (found and is_allowed(found[1], found[2])) or _NUMBERS.match(target):
            return
    raise TrustError(f"{where}: the graph calls {str(target)[:100]!r}.", TRUST_REMEDY)


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
