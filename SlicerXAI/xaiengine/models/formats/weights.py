"""Reads weights without running code, fits them to a network and explains what does not fit."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ...core.errors import ModelError, TrustError
from ..files import LARGEST_WEIGHTS, ModelFiles
from ..trust.expressions import TRUST_REMEDY
from ..trust.pickle_names import names_of

if TYPE_CHECKING:
    import torch

LONGEST_SAFETENSORS_HEADER = 16 * 2**20
SAVE_REMEDY = "Save the weights alone: torch.save(network.state_dict(), ...), or better as .safetensors."
ArchiveKind = Literal["safetensors", "state_dict", "torchscript", "exported", "onnx", "unknown"]

_TORCH_GLOBALS = frozenset(
    f"torch {name}"
    for name in """
    Size device Tensor FloatStorage DoubleStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage
    CharStorage ByteStorage BoolStorage UntypedStorage float16 float32 float64 bfloat16 half float double int8 int16
    int32 int64 uint8 bool
    """.split()
)
_OTHER_GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        "torch._utils _rebuild_parameter",
        "torch.nn.parameter Parameter",
        "torch.storage UntypedStorage",
        "torch.serialization _get_layout",
        "numpy dtype",
        "numpy ndarray",
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        "numpy.core.multiarray _reconstruct",
        "numpy._core.multiarray _reconstruct",
        "argparse Namespace",
        "pathlib PosixPath",
        "pathlib WindowsPath",
        "pathlib._local PosixPath",
        "pathlib._local WindowsPath",
        "_codecs encode",
        "__builtin__ set",
        "builtins set",
    }
)
"""What weights and the bookkeeping of a training run (numbers of numpy, paths, settings) are made of."""

WEIGHT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".model", ".tar", ".pkl", ".pickle")


def archive_kind(source: Path | bytes, name: str) -> ArchiveKind:
    """What a weights file is, by its content; the extension decides only where the content does not tell."""
    suffix = Path(name).suffix.lower()
    if suffix == ".safetensors":
        return "safetensors"
    if suffix == ".onnx":
        return "onnx"
    stream = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
    with stream:
        head = stream.read(16)
        if not head.startswith(b"PK\x03\x04"):
            if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= LONGEST_SAFETENSORS_HEADER:
                return "safetensors"
            pickled = head[:1] == b"\x80" and head[1:2] <= b"\x05"
            return "state_dict" if pickled or suffix in WEIGHT_SUFFIXES else "unknown"
        try:
            names = zipfile.ZipFile(stream).namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return "unknown"
    parts = [entry.split("/", 1)[-1] for entry in names]
    if "constants.pkl" in parts or any(part.startswith("code/") for part in parts):
        return "torchscript"
    if "archive_format" in parts or "serialized_exported_program.json" in names or suffix == ".pt2":
        return "exported"
    return "state_dict" if "data.pkl" in parts else "unknown"


def read_state(files: ModelFiles, name: str, trust: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name, and nothing else of what a checkpoint holds.

    ``trust`` reads a checkpoint with whatever else it holds, which may run code.

    Raises:
        TrustError: reading it would run code, or take memory out of proportion.
        ModelError: it is damaged, or holds no weights.
    """
    content = files.read(name, LARGEST_WEIGHTS)
    kind = archive_kind(content, name)
    if kind == "safetensors":
        return _read_safetensors(content, name)
    if kind == "torchscript":
        raise ModelError(
            f"{name} is a TorchScript program, not weights.", "Give that file by itself as the model, or the weights."
        )
    return tensors_of(read_checkpoint(content, name, trust=trust), name)


def read_safetensors_metadata(content: bytes, name: str) -> dict[str, str]:
    """The free text that a .safetensors file carries."""
    _check_safetensors_header(content, name)
    length = struct.unpack("<Q", content[:8])[0]
    return dict(json.loads(content[8 : 8 + length]).get("__metadata__") or {})


def _read_safetensors(content: bytes, name: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    _check_safetensors_header(content, name)
    try:
        return load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name} is not valid safetensors: {error}.", "Make or copy the file again.") from error


def _check_safetensors_header(content: bytes, name: str) -> None:
    if len(content) < 8:
        raise ModelError(f"{name} is too short to hold weights.", "Make or copy the file again.")
    length = struct.unpack("<Q", content[:8])[0]
    if length > LONGEST_SAFETENSORS_HEADER or length > len(content) - 8:
        raise TrustError(
            f"{name} announces a header of {length} bytes in a file of {len(content)} bytes.",
            "The file is damaged or made to harm: get it again from its origin.",
        )
    try:
        header = json.loads(content[8 : 8 + length])
        if not isinstance(header, dict):
            raise ValueError("not a mapping")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{name} has an unreadable header: {error}.", "Make or copy the file again.") from None


def read_checkpoint(
    content: bytes, name: str, harmless: Mapping[str, type] = MappingProxyType({}), trust: bool = False
) -> Any:
    """What a file of ``torch.save`` holds, read with ``weights_only`` after a look at what it would call.

    ``harmless`` are further classes, by ``module name``, that the file may hold; ``trust`` lets it hold anything.
    """
    import pickle

    import torch

    if trust:
        return _read_trusted(content, name)
    check_pickles(content, name, frozenset(harmless))
    try:
        with torch.serialization.safe_globals([*_bookkeeping(), *harmless.values()]):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|type|function) ([\w.]+\.\w+)", str(error))
        raise TrustError(
            f"{name} holds more than weights{f': {found[1]}' if found else ''}.", f"{SAVE_REMEDY} {TRUST_REMEDY}"
        ) from error
    except Exception as error:
        raise ModelError(f"{name} cannot be read: {str(error)[:300]}.", "Make or copy the file again.") from error


def _read_trusted(content: bytes, name: str) -> Any:
    """Everything that a checkpoint of a trusted model holds."""
    import torch

    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelError(
            f"{name} holds objects whose Python code is not here: {error}.",
            f"Install the package that defines them, or save without them. {SAVE_REMEDY}",
        ) from error
    except Exception as error:
        raise ModelError(f"{name} cannot be read: {str(error)[:300]}.", "Make or copy the file again.") from error


def _bookkeeping() -> list[Any]:
    """What stands in for the classes and functions of bookkeeping, with the names under which files know them."""
    import argparse
    import pathlib

    from ..trust import numpy_parts

    names: list[Any] = [(numpy_parts.DataType, "numpy.dtype"), (numpy_parts.ArrayType, "numpy.ndarray")]
    for home in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names += [(numpy_parts.scalar, f"{home}.scalar"), (numpy_parts.reconstruct, f"{home}._reconstruct")]
    for home in ("pathlib", "pathlib._local"):
        names += [(pathlib.PurePosixPath, f"{home}.PosixPath"), (pathlib.PureWindowsPath, f"{home}.WindowsPath")]
    return [*names, numpy_parts.Array, argparse.Namespace]


def check_pickles(content: bytes, name: str, harmless: frozenset[str] = frozenset()) -> None:
    """Refuse a file of ``torch.save`` that would call anything but what tensors are made of, naming what."""
    for found in sorted(globals_in(content, name)):
        if found not in _TORCH_GLOBALS | _OTHER_GLOBALS | harmless:
            raise TrustError(
                f"{name} would call {found.replace(' ', '.')} when it is read.", f"{SAVE_REMEDY} {TRUST_REMEDY}"
            )


def globals_in(content: bytes, name: str) -> set[str]:
    """``module name`` of every object that reading a file of ``torch.save`` would look up."""
    return {found for part in _pickle_parts(content, name) for found in names_of(part, name)}


def _pickle_parts(content: bytes, name: str) -> list[bytes]:
    """The pickles of a torch file: ``data.pkl`` of the zip format, or the whole of the older format."""
    if not content.startswith(b"PK\x03\x04"):
        return [content]
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{name} is damaged: {error}.", "Make or copy the file again.") from error
    entries = archive.infolist()
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise TrustError(
                f"{name} is compressed inside, which torch.save never does; it could grow without end.", SAVE_REMEDY
            )
    if sum(entry.file_size for entry in entries) > len(content):
        raise TrustError(f"{name} announces more bytes than it has.", SAVE_REMEDY)
    if len({entry.filename for entry in entries}) < len(entries):
        raise TrustError(f"{name} holds an entry twice.", SAVE_REMEDY)
    pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
    if len(pickles) > 2:  # PyTorch reads one; its mobile format has another
        raise TrustError(f"{name} holds {len(pickles)} pickles, where weights have one.", SAVE_REMEDY)
    return [archive.read(entry) for entry in pickles]


def tensors_of(checkpoint: Any, name: str) -> dict[str, torch.Tensor]:
    """The state dict inside a checkpoint, which may lie in ``state_dict``, ``model`` or the like.

    Raises:
        ModelError: there is none.
    """
    import torch

    for _ in range(4):
        if not isinstance(checkpoint, Mapping):
            break
        tensors = {str(key): value for key, value in checkpoint.items() if isinstance(value, torch.Tensor)}
        nested = [key for key in NESTED_KEYS if isinstance(checkpoint.get(key), Mapping)]
        if not nested and len(tensors) <= 1:
            nested = [key for key, value in checkpoint.items() if isinstance(value, Mapping)][:1]
        if nested and len(tensors) <= 1:
            checkpoint = checkpoint[nested[0]]
        elif tensors:
            return {key: _plain_tensor(value, key, name) for key, value in tensors.items()}
        else:
            break
    raise ModelError(f"{name} holds no weights (no tensors were found in it).", SAVE_REMEDY)


NESTED_KEYS = ("state_dict", "model_state_dict", "network_weights", "model", "network", "net", "params", "weights")


def _plain_tensor(tensor: torch.Tensor, key: str, name: str) -> torch.Tensor:
    """Refuse tensors that pretend to be larger than their storage (views with stride 0, sparse, quantized)."""
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ModelError(f"The weight {key} of {name} is not a plain dense tensor.", SAVE_REMEDY)
    if tensor.numel() > max(tensor.untyped_storage().nbytes() // max(tensor.element_size(), 1), 1):
        raise TrustError(f"The weight {key} of {name} pretends to be larger than it is.", SAVE_REMEDY)
    return tensor.detach()
