"""What choosing a target must know of a scan and of a model's prediction for it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from ..io.grid import Grid
from ..io.volume import Volume
from ..models.explained_model import ExplainedModel
from .segmentation_targets import OutputForm


class SegmentedScan(Protocol):
    """A scan as a segmentation model saw it.

    ``output`` (1, K, I, J, K) is the model's output on ``grid``, ``masks`` (K, I, J, K) what it predicts.
    """

    @property
    def volume(self) -> Volume: ...

    @property
    def model(self) -> ExplainedModel: ...

    @property
    def output(self) -> Tensor: ...

    @property
    def masks(self) -> Tensor: ...

    @property
    def form(self) -> OutputForm: ...

    @property
    def grid(self) -> Grid: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def background(self) -> int | None: ...

    def on_grid(self, array: np.ndarray) -> Tensor: ...
