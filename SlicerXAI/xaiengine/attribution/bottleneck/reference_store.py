"""Where reference statistics are kept and found: beside the model, in the user's cache, or brought by the model.

Whole reference scans, which methods of replacement show in place of regions, stay in the user's cache: they are images
of patients, and a model's folder is passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ...core.cache_folder import cache_folder
from ...core.errors import InputError
from ...io.tensor_file import read_tensors, write_tensors
from .statistics import ReferenceStatistics

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel

FOLDER = "reference_statistics"
EXAMPLES_FORMAT = "xaiengine-reference-examples-1"


def stored_path(digest: str, layer: str) -> Path:
    """The file in the user's cache for one layer of one model, whether it exists or not.

    The model's digest, which covers its weights, preprocessing and inference, is in its name: statistics never outlive
    what they were fitted with.
    """
    return cache_folder() / "reference" / _file_name(digest, layer)


def path_beside(model: ExplainedModel, layer: str) -> Path | None:
    """The file beside a model's own files, whether it exists or not; None for models made in Python."""
    source = model.source
    if not source.name or not source.exists():
        return None
    folder = source if source.is_dir() else source.parent
    return folder / FOLDER / _file_name(model.digest, layer)


def _file_name(digest: str, layer: str) -> str:
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in layer)
    return f"{digest[:16]}-{safe}.safetensors"


def store_statistics(model: ExplainedModel, statistics: ReferenceStatistics, beside: bool = False) -> Path:
    """Keep the statistics of the layer that their metadata names, where later runs find them.

    Raises InputError when they are to lie beside a model that has no files.
    """
    layer = statistics.metadata["layer"]
    path = path_beside(model, layer) if beside else stored_path(model.digest, layer)
    if path is None:
        raise InputError(f"{model.name} has no files that its statistics could lie beside.", "Keep them in the cache.")
    path.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(path)
    return path


def find_statistics(model: ExplainedModel, layer: str) -> ReferenceStatistics | None:
    """The reference statistics of a layer, or None when no one has fitted any.

    Those in memory come first, then the user's own in the cache, those beside the model, those that the model brings.

    Raises InputError or ModelError when there is a file that cannot be read.
    """
    if layer in model.statistics:
        return model.statistics[layer]
    for path in (stored_path(model.digest, layer), path_beside(model, layer)):
        if path is not None and path.is_file():
            return ReferenceStatistics.load(path)
    shipped = model.read_reference()
    if shipped is None:
        return None
    statistics = ReferenceStatistics.from_tensors(*shipped, name=model.reference)
    return statistics if statistics.metadata.get("layer", layer) == layer else None


def stored_examples_path(digest: str) -> Path:
    """The file in the user's cache with reference scans of one model, whether it exists or not."""
    return cache_folder() / "reference" / f"{digest[:16]}-examples.safetensors"


def store_examples(model: ExplainedModel, examples: Sequence[Tensor]) -> Path:
    """Keep reference scans (each (C, spatial...), as the network sees them) in the cache; those of before are gone."""
    path = stored_examples_path(model.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"example-{number:03d}": example.float() for number, example in enumerate(examples)}
    write_tensors(path, tensors, {"format": EXAMPLES_FORMAT})
    return path


def find_examples(model: ExplainedModel) -> tuple[Tensor, ...]:
    """The reference scans of a model: those in memory, else those in the cache; none where no one kept any.

    Raises InputError when the file cannot be read.
    """
    if model.examples:
        return tuple(model.examples)
    path = stored_examples_path(model.digest)
    if not path.is_file():
        return ()
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != EXAMPLES_FORMAT:
        raise InputError(f"{path} holds no reference scans that this version can read.", "Run fit-reference again.")
    return tuple(tensors[name] for name in sorted(tensors))
