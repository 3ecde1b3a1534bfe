"""A question that was asked, kept with its explanations so that they can be checked without asking again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..attribution.whole_case import WholeCase
from ..attribution.window_case import WindowCase
from ..core.progress import Progress
from ..inference.scan_view import ScanView
from ..inference.segmentation_preparation import PredictedScan


@dataclass(frozen=True, eq=False)
class PredictionQuestion:
    """A scan as a classifier or regressor saw it, the explained samples ``rows``, and their case."""

    view: ScanView
    rows: np.ndarray
    case: WholeCase

    def on_samples(self, values: np.ndarray, grid: Any, nearest: bool = False) -> np.ndarray:
        """A volume (I, J, K) of a grid on all samples (n, spatial...)."""
        moved = self.view.brought(values, grid, nearest)
        return np.ascontiguousarray(self.view.rows_of(moved, np.arange(len(self.view.samples))))


@dataclass(frozen=True, eq=False)
class SegmentationQuestion:
    """A scan with its segmentation, and the case of the chosen targets."""

    scan: PredictedScan
    case: WindowCase

    def of_row(self, row: int, progress: Progress | None = None) -> WindowCase:
        """The case of one target alone."""
        return replace(self.case, chosen=[self.case.chosen[row]], progress=progress, memory={})


Question = PredictionQuestion | SegmentationQuestion
