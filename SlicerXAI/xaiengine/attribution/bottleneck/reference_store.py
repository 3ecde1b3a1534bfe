"""Where reference statistics are found: the user's own first, then those that the model brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...core.cache_folder import cache_folder
from .statistics import ReferenceStatistics

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel


def stored_path(digest: str, layer: str) -> Path:
    """The file in the user's cache for one layer of one model, whether it exists or not.

    The model's digest is in its name: statistics never outlive the weights that they were fitted with.
    """
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in layer)
    return cache_folder() / "reference" / f"{digest[:16]}-{safe}.safetensors"


def find_statistics(model: ExplainedModel, layer: str) -> ReferenceStatistics | None:
    """The reference statistics of a layer, or None when no one has fitted any.

    Raises InputError or ModelError when there is a file that cannot be read.
    """
    own = stored_path(model.digest, layer)
    if own.is_file():
        return ReferenceStatistics.load(own)
    shipped = model.read_reference()
    if shipped is None:
        return None
    statistics = ReferenceStatistics.from_tensors(*shipped, name=model.reference)
    return statistics if statistics.metadata.get("layer", layer) == layer else None
