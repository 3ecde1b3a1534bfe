"""Uncertainty in the Python API: the maps get their SD, the result the table of the runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.estimate import Estimate
from ..attribution.explanation import Explanation as PlacedMap
from ..attribution.registry import AttributionMethod
from ..attribution.whole_case import WholeCase
from ..attribution.window_case import WindowCase
from ..core.errors import OptionError
from ..core.progress import Progress
from ..evaluation.uncertainty.measuring import Uncertainty, measure_whole, measure_windows, plan_whole, plan_windows
from ..evaluation.uncertainty.runs import SOURCES
from ..inference.scan_view import ScanView


@dataclass(frozen=True)
class UncertaintyRequest:
    """Over which runs, and how many at most; an empty source asks for none. Raises OptionError for unknown ones."""

    source: str = ""
    runs: int = 4

    def __post_init__(self) -> None:
        if self.source and self.source not in SOURCES:
            raise OptionError(
                f"There is no uncertainty over {self.source!r}.", f"Choose from {', '.join(SOURCES)}, or None."
            )
        if not 2 <= self.runs <= 64:
            raise OptionError(f"{self.runs} runs were asked for.", "Choose 2 to 64.")


def whole_uncertainty(
    asked: UncertaintyRequest,
    methods: list[AttributionMethod],
    case: WholeCase,
    view: ScanView,
    rows: np.ndarray,
    maps: list[PlacedMap],
    expected: Estimate,
    progress: Progress,
    notes: Callable[[str], None],
) -> tuple[list[PlacedMap], Uncertainty | None]:
    """The maps with their SD, and what was measured; the maps as they are where nothing was asked for."""
    if not asked.source:
        return maps, None
    plan = plan_whole(asked.source, asked.runs, case, expected)
    found = measure_whole(plan, methods, case, view, rows, maps, expected=expected, progress=progress, warn=notes)
    return found.with_sd(maps), found


def window_uncertainty(
    asked: UncertaintyRequest,
    methods: list[AttributionMethod],
    case: WindowCase,
    maps: list[PlacedMap],
    expected: Estimate,
    progress: Progress,
    notes: Callable[[str], None],
) -> tuple[list[PlacedMap], Uncertainty | None]:
    """The same for segmentations."""
    if not asked.source:
        return maps, None
    plan = plan_windows(asked.source, asked.runs, case, expected)
    found = measure_windows(plan, methods, case, maps, expected=expected, progress=progress, warn=notes)
    return found.with_sd(maps), found


def uncertainty_facts(found: Uncertainty | None) -> dict[str, Any]:
    """What a result keeps of it, as plain values; empty where nothing was measured."""
    if found is None:
        return {}
    prediction = {label: {"mean": mean, "sd": sd} for label, (mean, sd) in found.prediction.items()}
    return {
        "uncertainty": {
            "over": found.title,
            "runs": found.runs,
            "count": found.count,
            "target_sd": found.target_sd,
            "prediction": prediction,
            "stable_share": {item.method: item.stable_share for item in found.maps},
        }
    }
