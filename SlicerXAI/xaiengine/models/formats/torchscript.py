"""Loads TorchScript files, after their code was read for operations that reach beyond tensors.

TorchScript runs without Python, but may save to and map files, and its ``__setstate__`` runs while it is loaded.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from ...core.errors import ModelError, TrustError
from ..description import ModelDescription, assemble_described, description_of, digest_with
from ..explained_model import ExplainedModel
from ..files import LARGEST_RATIO, LARGEST_TEXT, SingleFile
from ..layer_survey import example_shapes
from ..probing import abilities, first_that_runs
from ..trust.expressions import TRUST_REMEDY

NO_LAYERS = "TorchScript shows no layers; only its input and output can be used"
PROBE_SIZE = 64
"""Input length at which a network of unknown size is tried first: small, so that trying is quick."""

_CALL = re.compile(r"\b(torch|ops)((?:\.\w+)+)\s*\(")
_REFUSED = frozenset(
    """
    save load from_file set_data_ptr _save _load _pickle_save open fopen write read system popen dlopen
    warn raise_exception_file import_ir_module exec eval
    """.split()
)
_NAMESPACES = ("prim", "aten", "torchvision", "quantized", "image_free")


def load_torchscript(path: Path, trust: bool = False) -> ExplainedModel:
    """A TorchScript model: prediction and input-level methods.

    Raises:
        TrustError: its code uses files or unknown operators.
        ModelError: it cannot be read, or it is not known what input it takes.
    """
    import torch

    content = SingleFile(path).read(path.name)
    if not trust:
        check_torchscript(content, path.name)
    try:
        network = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except Exception as error:
        raise ModelError(
            f"{path.name} cannot be read as TorchScript: {str(error)[:300]}.", "Export it again with torch.jit.save."
        ) from error
    if not trust:
        _check_graph(network, path.name)
    network.eval().float()
    description = _described(path, network)
    dims, channels = description.spatial_dims or 3, description.in_channels or 1
    roi = tuple(description.inference.roi_size) if description.inference else ()
    shapes = example_shapes(dims, channels, roi, description.input_size)
    shape = first_that_runs(network, sorted(shapes, key=lambda sizes: abs(sizes[-1] - PROBE_SIZE)))
    digest = digest_with(SingleFile(path), path.with_suffix(".json"))
    capabilities = abilities(digest, network, shape, layers=False, reason=NO_LAYERS)
    description = description.model_copy(update={"input_size": list(shape[2:])})
    return assemble_described(
        path,
        SingleFile(path),
        description,
        network,
        "TorchScript",
        capabilities=capabilities,
        notes=(f"{NO_LAYERS}.",),
    )


def check_torchscript(content: bytes, name: str) -> None:
    """Read the code inside the archive and refuse what is not plain tensor arithmetic."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise ModelError(f"{name} is damaged: {error}.", "Export it again.") from error
    for entry in archive.infolist():
        if entry.file_size > LARGEST_RATIO * max(entry.compress_size, 1) and entry.file_size > 2**20:
            raise TrustError(f"{entry.filename} of {name} grows without measure when unpacked.", TRUST_REMEDY)
        if entry.filename.endswith(".py"):
            if entry.file_size > LARGEST_TEXT:
                raise TrustError(f"The code {entry.filename} of {name} is too long to be read.", TRUST_REMEDY)
            _check_code(archive.read(entry).decode("utf-8", "replace"), f"{name}, {entry.filename}")


def _check_code(code: str, where: str) -> None:
    for root, dotted in _CALL.findall(code):
        parts = dotted.strip(".").split(".")
        if parts[-1] in _REFUSED or (root == "ops" and parts[0] not in _NAMESPACES):
            raise TrustError(f"{where}: the code calls {root}{dotted}, which may reach files.", TRUST_REMEDY)
    if "__torch__.torch.classes" in code:
        raise TrustError(f"{where}: the code uses a compiled class (torch.classes).", TRUST_REMEDY)


def _check_graph(network: object, name: str) -> None:
    """The same after loading, on the operators that were really bound."""
    import torch

    for operator in torch.jit.export_opnames(network):
        namespace, _, rest = operator.partition("::")
        if rest.split(".")[0] in _REFUSED or namespace not in _NAMESPACES:
            raise TrustError(f"{name} uses the operator {operator}, which may reach files.", TRUST_REMEDY)


def _described(path: Path, network: object) -> ModelDescription:
    """The description beside the file, with dimensions and channels taken from the first convolution if missing."""
    description = description_of(path)
    kernels = [tensor for tensor in network.parameters() if tensor.ndim in (4, 5)]  # type: ignore[attr-defined]
    kernels += [tensor for tensor in network.buffers() if tensor.ndim in (4, 5)]  # type: ignore[attr-defined]
    if not kernels:
        return description
    first = kernels[0]
    return description.model_copy(
        update={
            "spatial_dims": description.spatial_dims or first.ndim - 2,
            "in_channels": description.in_channels or int(first.shape[1]),
        }
    )
