"""A torch that is missing or cannot be imported, told from every other error."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from .errors import XAIError

_PACKAGE = "torch"


class TorchError(XAIError):
    """torch is missing or broken: no fault of the job, and nothing works before it is corrected."""

    kind = "torch"


def torch_problem(error: BaseException) -> TorchError | None:
    """The error as a TorchError if it was raised by importing torch, else None."""
    if isinstance(error, ModuleNotFoundError) and error.name == _PACKAGE:
        return TorchError("torch is not installed.", "Install it: pip install torch.")
    # A failed import leaves no module behind; code of torch that fails later does.
    if sys.modules.get(_PACKAGE) is not None or not _passes_through_torch(error):
        return None
    return TorchError(
        f"torch cannot be imported: {type(error).__name__}: {error}.",
        "Install it again: pip install --force-reinstall torch.",
    )


def _passes_through_torch(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return any(_PACKAGE in Path(frame.filename).parts for frame in frames)
