"""Loads ``torch.export`` archives (.pt2) with their layers, after the graph was read for foreign calls.

``torch.export.load`` trusts its file: it unpickles parts of it, looks targets up by attribute, has symbolic sizes
evaluated by sympy and compiles guards. So the file itself never reaches it: see :mod:`..trust.exported_archive`.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ...core.errors import ModelError
from ..description import assemble_described, description_of, digest_with
from ..explained_model import ExplainedModel
from ..files import SingleFile
from ..probing import abilities
from ..trust.archive import read_entries
from ..trust.exported_archive import clean_archive


def load_exported(path: Path, trust: bool = False) -> ExplainedModel:
    """A ``torch.export`` model, unflattened into its modules, so that layers and hooks work.

    Raises:
        TrustError: the archive holds more than a graph of ATen operators and weights.
        ModelError: it cannot be read.
    """
    import torch

    content = SingleFile(path).read(path.name)
    source = io.BytesIO(content) if trust else clean_archive(content, path.name)
    try:
        program = torch.export.load(source)
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
        kind=_root_type(content, path.name),
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


def _root_type(content: bytes, name: str) -> str:
    """The class of the exported network, which the graph's notes name."""
    graph = read_entries(content, name).get("models/model.json", b"")
    found = re.search(rb'"nn_module_stack":\s*"[^,"]*,[^,"]*,([\w.]+)', graph)
    return found[1].decode("utf-8", "replace").rpartition(".")[2] if found else ""
