"""Finds out the format of a model and loads it."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError
from .bundle import is_bundle, load_bundle
from .explained_model import ExplainedModel
from .files import open_model
from .nnunet import is_nnunet, load_nnunet, nnunet_folder


def load(path: Path, trust: bool = False) -> ExplainedModel:
    """The model at an existing path; see :func:`xaiengine.models.load_model`."""
    files = open_model(nnunet_folder(path)[0], trust)
    if is_nnunet(files):
        return load_nnunet(path, trust)
    if is_bundle(files):
        return load_bundle(path)
    raise ModelError(
        f"{path.name} is not a model in a known format.",
        "Give a MONAI bundle (a folder or .zip with configs/ and models/).",
    )
