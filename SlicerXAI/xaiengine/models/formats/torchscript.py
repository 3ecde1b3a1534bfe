"""Loads TorchScript files, after all their code was read: see :mod:`..trust.script_archive`."""

from __future__ import annotations

import io
from pathlib import Path

from ...core.errors import ModelError
from ..description import ModelDescription, assemble_described, description_of, digest_with
from ..explained_model import ExplainedModel
from ..files import SingleFile
from ..layer_survey import example_shapes
from ..probing import abilities, first_that_runs
from ..trust.script_archive import clean_archive

NO_LAYERS = "TorchScript shows no layers; only its input and output can be used"
PROBE_SIZE = 64
"""Input length at which a network of unknown size is tried first: small, so that trying is quick."""


def load_torchscript(path: Path, trust: bool = False) -> ExplainedModel:
    """A TorchScript model: prediction and input-level methods.

    Raises:
        TrustError: its code uses files or unknown operators.
        ModelError: it cannot be read, or it is not known what input it takes.
    """
    import torch

    content = SingleFile(path).read(path.name)
    source = io.BytesIO(content) if trust else clean_archive(content, path.name)
    try:
        network = torch.jit.load(source, map_location="cpu")
    except Exception as error:
        raise ModelError(
            f"{path.name} cannot be read as TorchScript: {str(error)[:300]}.", "Export it again with torch.jit.save."
        ) from error
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
