"""Loads ``torch.export`` archives (.pt2) with their layers, after the graph was read for foreign calls.

``torch.export.load`` trusts its file: targets of nodes are looked up by attribute, symbolic sizes are evaluated by
sympy, guards are compiled, and pickles inside are opened. Each is checked here before anything is loaded.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import ModelError, TrustError
from ..description import assemble_described, description_of, digest_with
from ..explained_model import ExplainedModel
from ..files import LARGEST_RATIO, SingleFile
from ..probing import abilities
from ..trust.expressions import TRUST_REMEDY
from .weights import check_pickles

LARGEST_GRAPH = 256 * 2**20
_TARGET = re.compile(
    r"(torch\.ops\.aten\.\w+(\.\w+)?|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|getitem|eq|ne|lt|le|gt|ge|pow)"
    r"|math\.(floor|ceil|trunc)|torch\.sym_(int|float|max|min|not|sum)|torch\._sym_sqrt)$"
)
_REFUSED_OPERATORS = ("from_file", "_print", "save", "load", "_assert_async_file")
_SYMBOLS = re.compile(r"[\w\s+\-*/%(),.<>=!&|~]*$")
_SYMBOL = re.compile(r"Symbol\('([suz]\d+)'(?:, (?:positive|integer|nonnegative)=True)*\)")
_NAMES = re.compile(r"[A-Za-z_]\w*")
_KNOWN_NAMES = re.compile(
    r"([suz]\d+|Max|Min|Mod|FloorDiv|CeilDiv|Eq|Ne|Le|Lt|Ge|Gt|PythonMod|CleanDiv|True|False|oo|int_oo)$"
)


def load_exported(path: Path, trust: bool = False) -> ExplainedModel:
    """A ``torch.export`` model, unflattened into its modules, so that layers and hooks work.

    Raises:
        TrustError: the archive holds more than a graph of ATen operators and weights.
        ModelError: it cannot be read.
    """
    import torch

    content = SingleFile(path).read(path.name)
    if not trust:
        check_exported(content, path.name)
    try:
        program = torch.export.load(io.BytesIO(content))
        network = torch.export.unflatten(program)
    except Exception as error:
        raise ModelError(
            f"{path.name} cannot be read by this version of PyTorch ({torch.__version__}): {str(error)[:300]}.",
            "Export it again with torch.export.save.",
        ) from error
    shape = _input_shape(program, path.name)
    description = description_of(path).model_copy(
        update={"spatial_dims": len(shape) - 2, "in_channels": shape[1], "input_size": list(shape[2:])}
    )
    capabilities = abilities(digest_with(SingleFile(path), path.with_suffix(".json")), network, shape)
    return assemble_described(
        path,
        SingleFile(path),
        description,
        network,
        "torch.export",
        capabilities=capabilities,
        kind=_root_type(content),
    )


def _input_shape(program: Any, name: str) -> tuple[int, ...]:
    import torch

    users = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in users]
    tensors = [node.meta["val"] for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    if len(tensors) != 1 or tensors[0].ndim < 3:
        raise ModelError(f"{name} takes {len(tensors)} tensors; one image was expected.", "Export one input only.")
    sizes = [size if isinstance(size, int) else _hint(size) for size in tensors[0].shape]
    return (1, *sizes[1:]) if not isinstance(tensors[0].shape[0], int) else tuple(sizes)


def _hint(size: Any) -> int:
    """The size with which a model of variable size was exported."""
    hint = getattr(size.node, "hint", None)
    return int(hint) if hint is not None else 64


def _root_type(content: bytes) -> str:
    """The class of the exported network, which the graph's notes name."""
    archive = zipfile.ZipFile(io.BytesIO(content))
    for name in archive.namelist():
        if name.endswith("models/model.json"):
            found = re.search(rb'"nn_module_stack":\s*"[^,"]*,[^,"]*,([\w.]+)', archive.read(name))
            return found[1].decode().rpartition(".")[2] if found else ""
    return ""


def check_exported(content: bytes, name: str) -> None:
    """Refuse an archive whose graph, guards or pickles could run code.

    Raises:
        TrustError: naming the entry.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ModelError(f"{name} is damaged: {error}.", "Export it again.") from error
    for entry in entries:
        file = entry.filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > max(len(content), LARGEST_RATIO):
            raise TrustError(f"{file} of {name} is compressed, which torch.export never does.", TRUST_REMEDY)
        if "aotinductor" in file or file.endswith((".so", ".cpp", ".cubin", ".dll", ".dylib", ".py")):
            raise TrustError(f"{name} holds compiled code ({file}).", TRUST_REMEDY)
        if file.endswith(".json"):
            _check_json(archive.read(entry), f"{name}, {file}")
        elif (
            "/data/sample_inputs/" in file
            or "/data/constants/" in file
            and archive.read(entry)[:2] in (b"PK", b"\x80\x02")
        ):
            check_pickles(archive.read(entry), f"{name}, {file}")
        elif "custom_obj" in file:
            raise TrustError(f"{name} holds a compiled object ({file}).", TRUST_REMEDY)


def _check_json(content: bytes, where: str) -> None:
    if len(content) > LARGEST_GRAPH:
        raise TrustError(f"{where} is too large to be checked.", TRUST_REMEDY)
    try:
        graph = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not readable: {error}.", "Export it again.") from None
    for key, value in _entries(graph):
        if key == "target" and isinstance(value, str):
            _check_target(value, where)
        elif key == "expr_str" and isinstance(value, str):
            _check_symbols(value, where)
        elif key == "use_pickle" and value is True:
            raise TrustError(f"{where}: a weight is stored as a pickle.", TRUST_REMEDY)
        elif key in ("as_operator", "as_custom_obj", "as_script_object") and value:
            raise TrustError(f"{where}: the graph holds {key[3:]}.", TRUST_REMEDY)
        elif key == "guards_code" and value:
            for guard in value if isinstance(value, list) else [value]:
                _check_guard(str(guard), where)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield from item.items()
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _check_target(target: str, where: str) -> None:
    operator = target.split(".")[3] if target.startswith("torch.ops.aten.") and target.count(".") >= 3 else ""
    if not _TARGET.match(target) or operator in _REFUSED_OPERATORS:
        raise TrustError(f"{where}: the graph calls {target[:100]!r}.", TRUST_REMEDY)


def _check_symbols(text: str, where: str) -> None:
    plain = _SYMBOL.sub(r"\1", text)
    names = _NAMES.findall(plain)
    if not _SYMBOLS.match(plain) or not all(_KNOWN_NAMES.match(name) for name in names):
        raise TrustError(f"{where}: the size {text[:100]!r} is no plain expression.", TRUST_REMEDY)


def _check_guard(text: str, where: str) -> None:
    import ast

    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        raise TrustError(f"{where}: the guard {text[:100]!r} is not readable.", TRUST_REMEDY) from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Attribute) and node.func.attr in ("size", "stride")
        ):
            raise TrustError(f"{where}: the guard {text[:100]!r} calls a function.", TRUST_REMEDY)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise TrustError(f"{where}: the guard {text[:100]!r} reaches {node.attr}.", TRUST_REMEDY)
        if isinstance(node, (ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.Await, ast.NamedExpr)):
            raise TrustError(f"{where}: the guard {text[:100]!r} is no comparison.", TRUST_REMEDY)
