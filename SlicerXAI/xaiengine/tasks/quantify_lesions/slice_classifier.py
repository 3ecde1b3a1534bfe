"""Which models can locate lesions slice by slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.errors import ModelError

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel


def slice_classifier(model: ExplainedModel) -> ExplainedModel:
    """The model itself if it can locate lesions slice by slice. Raises ModelError saying why it cannot."""
    remedy = "Choose a slice classifier; 'xaiengine inspect MODEL' says what a model is."
    if model.task not in ("classification", "multilabel"):
        raise ModelError(f"The model {model.name} does {model.task}; a classifier is expected.", remedy)
    if model.spatial_dims != 2 or model.inferer.kind != "slices":
        raise ModelError(
            f"The model {model.name} sees {model.spatial_dims}D input ({model.inferer.kind}); a classifier of "
            "slices is expected.",
            remedy,
        )
    model.capabilities.require("layers", "Locating lesions")
    return model
