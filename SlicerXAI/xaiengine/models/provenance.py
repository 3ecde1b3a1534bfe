"""What a result records of the model that it was made with, alike in every task."""

from __future__ import annotations

from typing import Any

from .explained_model import ExplainedModel


def model_provenance(model: ExplainedModel) -> dict[str, Any]:
    """Name, digest of the weights, where the model came from, and its format."""
    return {"name": model.name, "digest": model.digest, "source": str(model.source), "format": model.format}
