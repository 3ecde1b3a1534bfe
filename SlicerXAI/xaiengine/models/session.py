"""What stays warm between two jobs of one process: models that have been loaded and checked."""

from __future__ import annotations

import threading
from collections import OrderedDict
from glob import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .explained_model import ExplainedModel

KEPT_MODELS = 2


class Session:
    """Keeps the models used last, each on its device, as long as their files do not change."""

    def __init__(self) -> None:
        self._models: OrderedDict[tuple, ExplainedModel] = OrderedDict()
        self._lock = threading.Lock()

    def model(self, name: str, device: torch.device, trust: bool = False) -> ExplainedModel:
        """The model of this name or path on this device, loaded if it is not yet or no longer current."""
        from . import find_model, load_model

        path = find_model(name)
        key = (str(path), str(device), trust, _state(path))
        with self._lock:
            if key not in self._models:
                self._models[key] = load_model(path, trust=trust).to(device)
                while len(self._models) > KEPT_MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(key)
            return self._models[key]


def _state(path) -> tuple:
    """Names, sizes and times of the model's files: changes when somebody trains it again."""
    if path.is_dir():
        files = sorted(item for item in path.rglob("*") if item.is_file())
    else:  # with the description that may lie beside it
        files = sorted(item for item in path.parent.glob(f"{escape(path.stem)}.*") if item.is_file())
    return tuple((str(item), item.stat().st_size, item.stat().st_mtime_ns) for item in files)
