"""Makes of an untrusted ``torch.export`` archive (.pt2) a new one that holds a checked graph and weights, no more.

The new archive is built from entries on a short list: the graph and the tables of weights as the JSON that was
checked, written again; weights as raw numbers; pickles only as what ``weights_only`` made of them, saved again.
Sample inputs, which are pickles that no one needs, are replaced by none.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ...core.errors import ModelError, TrustError
from .archive import read_entries, rebuilt
from .exported_graph import checked_graph, parsed
from .expressions import TRUST_REMEDY

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
            made[file] = checked_graph(data, where)
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
            made[file] = checked_graph(data, where)
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


def _table(content: bytes, file: str, entries: Mapping[str, bytes], where: str) -> bytes:
    """The table of weights; each names raw numbers that are there and at least as many as it says."""
    table = parsed(content, where)
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
