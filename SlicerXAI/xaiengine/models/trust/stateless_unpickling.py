"""Reads the weights out of a pickled network without building the network or calling anything of it.

The unpickler knows tensors alone. In the place of every class it puts a hollow object that only keeps its state,
so neither constructors nor reducers of the file run.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from typing import Any

import torch

from ...core.errors import ModelError, TrustError
from ..formats.weights import SAVE_REMEDY, globals_in

_NETWORK_PARTS = ("torch.nn.modules.", "torchxrayvision.models ", "models ", "xrv.models ", "collections OrderedDict")
_SETS = ("builtins set", "__builtin__ set")
_TENSOR_PARTS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch.storage ", "torch ")


class Hollow:
    """Stands in for an object of a class that is not loaded; it only keeps what it is given."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.kept: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.kept = dict(state) if isinstance(state, dict) else {}


class _HollowUnpickler(pickle.Unpickler):
    """Knows how tensors are rebuilt from storages; every other name becomes a hollow object."""

    def __init__(self, stream: io.BytesIO, limit: int) -> None:
        super().__init__(stream)
        self.storages: dict[str, torch.UntypedStorage] = {}
        self._left = limit

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if f"{module} {name}" in _SETS:
            return set
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return torch._utils._rebuild_tensor_v2
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name.endswith("Storage") and isinstance(getattr(torch, name, None), type):
            return getattr(torch, name)
        return type("Hollow", (Hollow,), {})

    def persistent_load(self, identifier: Any) -> Any:
        if identifier[0] == "module":  # the older format keeps a class with its source
            return identifier[1]
        _, kind, key, _, count = identifier[:5]
        size = int(count) * torch.empty(0, dtype=kind.dtype).element_size()
        if str(key) not in self.storages:
            self._left -= size
            if size < 0 or self._left < 0:
                raise pickle.UnpicklingError("its tensors are larger than the file")
            self.storages[str(key)] = torch.UntypedStorage(size)
        return torch.storage.TypedStorage(wrap_storage=self.storages[str(key)], dtype=kind.dtype, _internal=True)

    def fill(self, key: str, content: bytes) -> None:
        """Give a storage its bytes."""
        storage = self.storages.get(key)
        if storage is None:
            return
        if len(content) < storage.nbytes():
            raise pickle.UnpicklingError("a tensor is larger than its data")
        if storage.nbytes():
            values = torch.frombuffer(bytearray(content[: storage.nbytes()]), dtype=torch.uint8)
            storage.copy_(values.untyped_storage())


def read_hollow(content: bytes, name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights of a pickled network by name, and the plain attributes of the network itself.

    Raises:
        TrustError: the pickle names something that is no part of a network.
        ModelError: it is damaged.
    """
    for found in sorted(globals_in(content, name)):
        known = found in _SETS or found.startswith(_NETWORK_PARTS + _TENSOR_PARTS)
        if not known or "." in found.split(" ", 1)[1]:
            raise TrustError(f"{name} would call {found.replace(' ', '.')} when it is read.", SAVE_REMEDY)
    try:
        root = _from_zip(content) if content.startswith(b"PK\x03\x04") else _from_older_format(content)
    except Exception as error:  # pickle raises many kinds for damaged files
        raise ModelError(
            f"{name} cannot be read: {str(error)[:200]}.",
            "Save its weights alone: torch.save(network.state_dict(), ...).",
        ) from error
    state: dict[str, torch.Tensor] = {}
    _collect(root, "", state, 0)
    attributes = getattr(root, "kept", {})
    return state, {key: value for key, value in attributes.items() if not key.startswith("_")}


def _from_zip(content: bytes) -> Any:
    archive = zipfile.ZipFile(io.BytesIO(content))
    top = next(entry for entry in archive.namelist() if entry.endswith("data.pkl"))[: -len("data.pkl")]
    unpickler = _HollowUnpickler(io.BytesIO(archive.read(f"{top}data.pkl")), len(content))
    root = unpickler.load()
    for key in unpickler.storages:
        unpickler.fill(key, archive.read(f"{top}data/{key}"))
    return root


def _from_older_format(content: bytes) -> Any:
    """Five pickles (magic, protocol, system, network, keys of storages), then each storage with its length."""
    stream = io.BytesIO(content)
    for _ in range(3):
        _HollowUnpickler(stream, 0).load()
    unpickler = _HollowUnpickler(stream, len(content))
    root = unpickler.load()
    for key in _HollowUnpickler(stream, 0).load():
        (count,) = struct.unpack("<q", stream.read(8))
        storage = unpickler.storages.get(str(key))
        if storage is None or count < 0:
            raise pickle.UnpicklingError("a storage is not known")
        unpickler.fill(str(key), stream.read(storage.nbytes()))
    return root


MOST_MODULES = 20_000


def _collect(root: Any, prefix: str, state: dict[str, torch.Tensor], depth: int) -> None:
    """The tensors of all modules. Modules may be shared, and a made file may hold one within itself."""
    pending = [(root, prefix, depth)]
    visits = 0
    while pending:
        module, prefix, depth = pending.pop()
        if not isinstance(module, Hollow) or depth > 20:
            continue
        visits += 1
        if visits > MOST_MODULES:
            raise TrustError(f"The pickled network has more than {MOST_MODULES} modules.", SAVE_REMEDY)
        for store in ("_parameters", "_buffers"):
            for name, tensor in _items(module, store):
                if isinstance(tensor, torch.Tensor):
                    state[prefix + name] = _plain(tensor, prefix + name)
        for name, child in _items(module, "_modules"):
            pending.append((child, f"{prefix}{name}.", depth + 1))


def _items(module: Hollow, store: str) -> list[tuple[str, Any]]:
    kept = module.kept.get(store)
    return [(str(name)[:200], item) for name, item in kept.items()] if isinstance(kept, dict) else []


def _plain(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.numel() > max(tensor.untyped_storage().nbytes() // max(tensor.element_size(), 1), 1):
        raise TrustError(f"The weight {name} pretends to be larger than it is.", SAVE_REMEDY)
    return tensor
