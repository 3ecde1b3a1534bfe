"""The confined process that reads a model for the first time; started by :mod:`.first_reading`.

It says ``ready`` when everything is imported, gives up what reading needs not, loads the model and answers with one
line of JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import TrustError, XAIError

THREADS = 2
_NEEDED = "torch safetensors.torch xaiengine.models.description xaiengine.models.layer_survey "
_MONAI = (
    "monai.networks.nets monai.networks.blocks monai.transforms monai.inferers monai.data yaml "
    "xaiengine.models.formats.bundle xaiengine.models.formats.nnunet xaiengine.models.formats.xrayvision "
)
_NEEDED_BY = {
    ".onnx": "onnx xaiengine.models.formats.onnx_model",
    ".pt2": "torch.export xaiengine.models.formats.exported",
    ".pt": "xaiengine.models.formats.torchscript",
    ".ts": "xaiengine.models.formats.torchscript",
}


def main(request: dict[str, Any]) -> None:
    """Read the model that was asked for and answer on the process's stdout."""
    outgoing = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    path = Path(request["model"])
    _import_all(path)
    from .trust.confinement import confine

    outgoing.write(b"ready\n")
    confine(int(request["memory"]), int(request["cpu_seconds"]))
    outgoing.write(json.dumps(_read(path)).encode() + b"\n")
    outgoing.close()
    os._exit(0)


def _import_all(path: Path) -> None:
    for name in (_NEEDED + _NEEDED_BY.get(path.suffix.lower(), _MONAI)).split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if path.suffix.lower() == ".onnx":
        from .formats.onnx_model import import_converter

        with contextlib.suppress(XAIError):
            import_converter()
    import torch

    torch.set_num_threads(THREADS)
    tempfile.tempdir = tempfile.gettempdir()  # found now, while trying to write is allowed


def _read(path: Path) -> dict[str, Any]:
    from .loading import load
    from .model_cache import collect_answers

    try:
        with collect_answers() as answers:
            load(path)
    except TrustError as error:
        return {"kind": "trust", "error": error.message, "remedy": error.remedy}
    except XAIError as error:
        return {"kind": "model", "error": error.message, "remedy": error.remedy}
    except (MemoryError, RecursionError, PermissionError) as error:
        return _refused(path, f"{type(error).__name__}: {error}")
    except Exception as error:
        return {
            "kind": "model",
            "error": f"{path.name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}.",
            "remedy": "Check the model in the program that made it.",
        }
    return {"answers": answers}


def _refused(path: Path, reason: str) -> dict[str, Any]:
    remedy = "It is too large, or made to do harm: get it again from its origin, or trust it (--trust-model)."
    return {"kind": "trust", "error": f"{path.name} is refused: reading it led to {reason[:300]}.", "remedy": remedy}
