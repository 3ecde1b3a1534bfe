"""Finds out the format of a model and loads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.errors import ModelError, TrustError
from ..core.git_lfs import refuse_pointer_file
from .axis_order import ordered
from .description import load_described
from .explained_model import ExplainedModel
from .files import check_regular, open_model
from .first_reading import read_first
from .formats.bundle import is_bundle, load_bundle
from .formats.nnunet import is_checkpoint_of_fold, load_nnunet, nnunet_folder, nnunet_training
from .formats.weights import archive_kind
from .trust.expressions import TRUST_REMEDY

FORMATS = (
    "a MONAI bundle (folder or .zip), an nnU-Net v2 results folder, weights (.safetensors, .pth) with a description "
    "(.json), torch.export (.pt2), TorchScript (.ts, .pt), ONNX (.onnx), or a TorchXRayVision weight file"
)


def load(path: Path, trust: bool | str | Path = False) -> ExplainedModel:
    """The model at an existing path; see :func:`xaiengine.models.load_model`."""
    return ordered(_load(path, trust))


def _load(path: Path, trust: bool | str | Path) -> ExplainedModel:
    if trust and not isinstance(trust, bool):
        from .trust.trusted import load_with_code

        return load_with_code(path, Path(trust).expanduser())
    notes: tuple[str, ...] = ()
    if not path.is_dir():
        check_regular(path)
    if not trust:
        notes = read_first(path)
    model = _load_any(path, bool(trust))
    return replace(model, notes=(*model.notes, *notes)) if notes else model


def _load_any(path: Path, trust: bool) -> ExplainedModel:
    if path.is_dir() or path.suffix.lower() == ".zip":
        return _load_folder(path, bool(trust))
    return _load_file(path, bool(trust))


def _load_folder(path: Path, trust: bool) -> ExplainedModel:
    files = open_model(nnunet_folder(path)[0], trust)
    if is_bundle(files):
        return _load_bundle(path, trust)
    training = nnunet_training(files)
    if training is not None:
        return load_nnunet(path, trust, training)
    raise ModelError(f"{path.name} is not a model in a known format.", f"Give {FORMATS}.")


def _load_bundle(path: Path, trust: bool) -> ExplainedModel:
    """Without running its code if that is possible, also for a trusted bundle."""
    try:
        return load_bundle(path, trust)
    except TrustError:
        if not trust:
            raise
        if not path.is_dir():
            raise TrustError(f"{path.name} needs its own code to be run.", "Unpack it and give the folder.") from None
    from .formats.trusted_bundle import load_trusted_bundle

    return load_trusted_bundle(path)


def _load_file(path: Path, trust: bool) -> ExplainedModel:
    refuse_pointer_file(path, ModelError)
    if nnunet_folder(path)[1] or is_checkpoint_of_fold(path):
        return load_nnunet(path, trust)
    if trust:
        from .trust.trusted import load_with_described_code

        if (model := load_with_described_code(path)) is not None:
            return model
    if path.suffix.lower() == ".json":
        return load_described(path, trust)
    kind = archive_kind(path, path.name)
    if kind == "torchscript":
        from .formats.torchscript import load_torchscript

        return load_torchscript(path, trust)
    if kind == "exported":
        from .formats.exported import load_exported

        return load_exported(path, trust)
    if kind == "onnx":
        from .formats.onnx_model import load_onnx

        return load_onnx(path, trust)
    if kind == "unknown":
        raise ModelError(f"{path.name} is not a model in a known format.", f"Give {FORMATS}.")
    from .formats.xrayvision import is_xrayvision, load_xrayvision

    if is_xrayvision(path):
        return load_xrayvision(path)
    return _load_weights(path, trust)


def _load_weights(path: Path, trust: bool) -> ExplainedModel:
    try:
        return load_described(path, trust)
    except TrustError as error:
        if trust:
            raise ModelError(
                f"{error.message} Which Python file defines its class is not known.",
                'Put that file beside the weights and name it in their description ("code": "net.py"), for example '
                "with describe-model --code net.py.",
            ) from error
        raise TrustError(error.message, f"{error.remedy or TRUST_REMEDY}") from error
