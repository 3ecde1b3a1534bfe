"""Tensors as safetensors, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.atomic import written_whole
from ..core.errors import InputError

if TYPE_CHECKING:
    import torch


def write_tensors(path: Path | str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    """Write tensors with what is said of them in the header; returns the file's SHA-256.

    The library's own writer hides what went wrong in an error of its own; bytes that Python writes tell a full disk.

    Raises:
        ResourceError: the folder cannot be written, or the disk is full; what was there before stays.
    """
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(stored, metadata=dict(metadata))
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_tensors(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file. Raises InputError when it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata() or {}
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.", "Check the path.") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}.", "Write it again.") from error
