"""``xai.load_model``: models from their files. Light to import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..models import find_model
from ..models import load_model as load

if TYPE_CHECKING:
    from ..models.explained_model import ExplainedModel


def load_model(path: str | Path, *, trust: bool | str | Path = False, device: str = "auto") -> ExplainedModel:
    """A model from its files, or a shipped one by its name, ready to be explained.

    Args:
        path: a MONAI bundle, nnU-Net folder, weights with a description, TorchScript, torch.export or ONNX file, or a
            name such as ``"vessel_segmentation"``.
        trust: let the model run its own code; or the Python file that defines its class.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        ModelError: there is no such model, or it cannot be read; near names are offered.
        TrustError: it needs code to be run and is not trusted.
        OptionError: there is no such device.
    """
    find_model(path)  # what is missing is said before torch is imported
    from ..core.device import choose_device

    return load(path, trust).to(choose_device(device))
