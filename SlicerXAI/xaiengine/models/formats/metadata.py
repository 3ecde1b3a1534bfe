"""Reads what ``configs/metadata.json`` and the network's description tell about inputs, outputs and task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import ModelError
from ..explained_model import ModelTask

METADATA_FILE = "configs/metadata.json"
SEGMENTERS: tuple[str, ...] = (
    "unet",
    "segresnet",
    "vnet",
    "dynunet",
    "unetr",
    "highresnet",
    "ahnet",
    "dints",
    "daf3d",
    "mednext",
)
SEGMENTERS += ("quicknat", "autoencoder", "flexibleunet")


@dataclass(frozen=True)
class Metadata:
    """Name, task description, input channels and output labels as far as the file gives them."""

    name: str = ""
    task: ModelTask | None = None
    in_channels: int = 0
    channel_names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    outputs: int = 0


def read_metadata(text: str, file: str = METADATA_FILE) -> Metadata:
    """Metadata from JSON; what is missing or of another form is left empty."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{file} is not valid JSON: {error}.", "Correct the file.") from None
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} is not a mapping.", "Correct the file.")
    formats = _mapping(content.get("network_data_format"))
    image = _first(_mapping(formats.get("inputs")), ("image", "img", "input"))
    prediction = _first(_mapping(formats.get("outputs")), ("pred", "prediction", "output"))
    labels = _names(prediction.get("channel_def"))
    return Metadata(
        name=str(content.get("name") or ""),
        task=_task(f"{content.get('task', '')} {prediction.get('format', '')} {prediction.get('type', '')}"),
        in_channels=_number(image.get("num_channels")),
        channel_names=_names(image.get("channel_def")),
        labels=labels,
        outputs=_number(prediction.get("num_channels")) or len(labels),
    )


def task_of_network(name: str) -> ModelTask:
    """The usual task of a network, by its class name."""
    lowered = name.lower()
    if "regressor" in lowered:
        return "regression"
    return "segmentation" if any(word in lowered for word in SEGMENTERS) else "classification"


def _task(text: str) -> ModelTask | None:
    lowered = text.lower()
    if "segment" in lowered:
        return "segmentation"
    if "multi-label" in lowered or "multilabel" in lowered:
        return "multilabel"
    if "regress" in lowered:
        return "regression"
    return "classification" if "classif" in lowered else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    for name in (*names, *value):
        if isinstance(value.get(name), Mapping):
            return value[name]
    return {}


def _names(definition: Any) -> tuple[str, ...]:
    if isinstance(definition, list):
        return tuple(str(item) for item in definition)
    pairs = [(str(key), str(name)) for key, name in _mapping(definition).items()]
    if not pairs or not all(key.isdigit() for key, _ in pairs):
        return ()
    pairs.sort(key=lambda pair: int(pair[0]))
    return tuple(name for _, name in pairs) if [int(key) for key, _ in pairs] == list(range(len(pairs))) else ()


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < 100_000 else 0
