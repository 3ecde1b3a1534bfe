"""Models in the formats that users have, loaded without running their code."""

from __future__ import annotations

from pathlib import Path

from .catalogue import find_model, model_folders, shipped_models
from .explained_model import Capabilities, ExplainedModel, Inferer

__all__ = [
    "Capabilities",
    "ExplainedModel",
    "Inferer",
    "find_model",
    "load_model",
    "model_folders",
    "shipped_models",
]


def load_model(path: Path | str, trust: bool | str | Path = False) -> ExplainedModel:
    """The model at a path (or of a shipped name), in evaluation mode on the CPU, ready to be explained.

    ``trust`` lets a model run its own code, which is refused otherwise: true for a bundle with scripts, or the
    path of the Python file that defines the network's class.

    Raises:
        TrustError: the model needs code to be run and is not trusted.
        ModelError: its format is not known, something is missing, or its weights do not fit.
    """
    from .loading import load

    return load(find_model(path), trust)
