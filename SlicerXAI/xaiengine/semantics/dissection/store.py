"""Dissections on disk: arrays as safetensors, words as JSON beside it, tied to the model's weights and the layer."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.cache_folder import cache_folder
from ...core.errors import InputError, ModelError
from ...core.job import write_text_atomically
from ...io.tensor_file import write_tensors
from ...models.explained_model import ExplainedModel
from .dissection import Dissection

FORMAT = "xaiengine-dissection-1"
SUFFIX = ".safetensors"
MODEL_FOLDER = "dissections"
"""Where a model's author puts dissections inside its bundle."""

_WORDS = (
    "layer",
    "model_name",
    "model_digest",
    "concepts",
    "codes",
    "images",
    "voxels",
    "rank_error",
    "kind",
    "settings",
)


def save_dissection(path: Path, dissection: Dissection) -> tuple[Path, Path]:
    """Write ``path`` (.safetensors) and the JSON of the same name; both paths come back."""
    arrays = {
        item.name: torch.from_numpy(np.array(getattr(dissection, item.name), order="C"))
        for item in fields(dissection)
        if item.name not in _WORDS
    }
    words = {name: getattr(dissection, name) for name in _WORDS}
    text = json.dumps({"format": FORMAT, **words}, indent=1, ensure_ascii=False)
    description = path.with_suffix(".json")
    write_tensors(path, arrays, {"format": FORMAT, "model": dissection.model_digest})
    write_text_atomically(description, text + "\n")
    return path, description


def load_dissection(path: Path) -> Dissection:
    """Read a dissection by either of its two files. Raises InputError when one is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    remedy = "Run the task dissect again, and keep its .safetensors and .json file together."
    arrays_path, words_path = path.with_suffix(SUFFIX), path.with_suffix(".json")
    for part in (arrays_path, words_path):
        if not part.is_file():
            raise InputError(f"There is no file {part} of a dissection.", remedy)
    try:
        words = json.loads(words_path.read_text(encoding="utf-8"))
        with safe_open(str(arrays_path), framework="pt") as stream:
            digest = (stream.metadata() or {}).get("model", "")
            arrays = {name: stream.get_tensor(name).numpy() for name in stream.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path.name} cannot be read as a dissection: {error}.", remedy) from error
    if not isinstance(words, dict) or words.get("format") != FORMAT:
        raise InputError(f"{words_path.name} holds no dissection that this version can read.", remedy)
    if digest != words.get("model_digest"):
        raise InputError(f"{arrays_path.name} and {words_path.name} are of different dissections.", remedy)
    return _made(arrays, words, path.name, remedy)


def _made(arrays: dict[str, Any], words: dict[str, Any], name: str, remedy: str) -> Dissection:
    try:
        known = {key: words[key] for key in _WORDS}
        for key in ("concepts", "codes", "images"):
            known[key] = tuple(known[key])
        dissection = Dissection(**arrays, **known)
        units, concepts = len(dissection.thresholds), len(dissection.concepts)
        fits = dissection.iou.shape == (units, concepts) and dissection.concept_of_unit.shape == (units,)
        fits = fits and dissection.mean.shape == (units,) and dissection.concept_of_unit.max(initial=-1) < concepts
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{name} is no complete dissection: {error}.", remedy) from error
    if not fits:
        raise InputError(f"{name} is no complete dissection: its arrays do not fit together.", remedy)
    return dissection


def stored_path(digest: str, layer: str) -> Path:
    """The file in the user's cache for one layer of one model."""
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in layer)
    return cache_folder() / "dissections" / f"{digest[:16]}-{safe}{SUFFIX}"


def find_dissection(model: ExplainedModel, path: str = "", layer: str = "") -> Dissection | None:
    """The dissection of a model: the file given, else the user's latest, else one that the model brings.

    Raises:
        ModelError: the file given is of another model, or of another layer than the one asked for.
        InputError: a file cannot be read.
    """
    if path:
        dissection = load_dissection(Path(path))
        check_fits(dissection, model, layer)
        return dissection
    for file in _candidates(model):
        dissection = load_dissection(file)
        if dissection.model_digest == model.digest and layer in ("", dissection.layer):
            return dissection
    return None


def _candidates(model: ExplainedModel) -> list[Path]:
    """The user's own files of this model, the newest first, then those in the model's folder."""
    own = sorted(
        (cache_folder() / "dissections").glob(f"{model.digest[:16]}-*{SUFFIX}"),
        key=lambda file: file.stat().st_mtime,
        reverse=True,
    )
    source = model.source if model.source.is_dir() else model.source.parent
    return own + sorted((source / MODEL_FOLDER).glob(f"*{SUFFIX}"))


def check_fits(dissection: Dissection, model: ExplainedModel, layer: str = "") -> None:
    """Raise ModelError unless a dissection is of this model's weights and, if one is named, of this layer."""
    if dissection.model_digest != model.digest:
        raise ModelError(
            f"The dissection is of {dissection.model_name} (weights {dissection.model_digest[:12]}), the model is "
            f"{model.name} (weights {model.digest[:12]}).",
            "Run the task dissect with this model: units of other weights mean other things.",
        )
    if layer and layer != dissection.layer:
        raise ModelError(
            f"The dissection is of the layer {dissection.layer}, not of {layer}.",
            f"Dissect {layer}, or leave the layer empty.",
        )
