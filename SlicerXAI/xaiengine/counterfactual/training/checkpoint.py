"""State of a training on disk, written whole or not at all: a kill at any moment loses a few minutes at most."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...core.atomic import written_whole
from ...core.errors import InputError
from ...core.job import write_text_atomically
from ...core.output import csv_text
from ...models.formats.weights import read_checkpoint
from .training import GeneratorTrainer

STATE_FILE = "training_state.pt"
LOG_FILE = "training_log.csv"
_VERSION = 1


def fingerprint(trainer: GeneratorTrainer, *, model_digest: str = "") -> str:
    """What must be the same for a training to be resumed: shape, settings, images, explained model."""
    content = {
        "shape": trainer.shape.model_dump(),
        "settings": trainer.settings.model_dump(),
        "images": trainer.images.digest,
        "model": model_digest,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def save_state(folder: Path, trainer: GeneratorTrainer, mark: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the log, then the state. Raises ResourceError if the disk is full; what was there before stays."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_text_atomically(folder / LOG_FILE, csv_text(columns, rows))
    content = {"version": _VERSION, "fingerprint": mark, **trainer.state()}
    # a stream of Python's, since torch's own writer calls a full disk an internal error
    with written_whole(folder / STATE_FILE) as temporary, open(temporary, "wb") as stream:
        torch.save(content, stream)


def resume(folder: Path, trainer: GeneratorTrainer, mark: str) -> list[dict[str, Any]] | None:
    """Continue a training found in the folder; returns its log up to that state, or None if there is none.

    Raises:
        InputError: the state there belongs to another training.
        ModelError: the state is damaged.
    """
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    state = read_checkpoint(path.read_bytes(), path.name)
    if not isinstance(state, dict) or state.get("version") != _VERSION or state.get("fingerprint") != mark:
        raise InputError(
            f"{folder} holds the state of another training: images, settings or model differ.",
            "Choose another output folder, or the option restart to begin again.",
        )
    trainer.restore(state)
    return _rows_until(folder / LOG_FILE, trainer.step_number)


def _rows_until(path: Path, step: int) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as stream:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(stream)]
    return [row for row in rows if int(row["step"]) <= step]
