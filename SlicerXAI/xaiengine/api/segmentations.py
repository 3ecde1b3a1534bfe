"""A segmentation as a case: what is asked of it in plain values, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..attribution.baselines import BaselineKind, baseline_like
from ..attribution.window_case import WindowCase
from ..core.device import is_out_of_memory
from ..core.errors import InputError, OptionError
from ..core.progress import Progress
from ..inference.prediction import check_channels
from ..inference.segmentation_preparation import PredictedScan, predict_scan
from ..io.volume import Volume, check_volume
from ..models.explained_model import ExplainedModel
from ..targets.target_choice import ChosenTarget, TargetRequest
from .asking import Target
from .predictions import Warn, brought_scan
from .scans import as_mask, box_mask

PREDICTING = "Segmenting the scan"


@dataclass(frozen=True, eq=False)
class SegmentationSettings:
    """How a segmentation is explained. ``roi`` is a mask (I, J, K), ``regions`` are labels 1, 2, ... (I, J, K), both
    on the scan's own grid."""

    layers: tuple[str, ...] = ()
    baseline: BaselineKind = "blurred"
    baseline_value: float = 0.0
    baseline_scan: Volume | None = None
    roi: np.ndarray | None = None
    regions: np.ndarray | None = None
    methods: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


def checked_scan(volume: Volume, model: ExplainedModel) -> Volume:
    """The scan, if the model can take it. Raises ModelError or InputError with what it takes."""
    check_channels(model, volume.channels)
    flat = min(volume.grid.shape) < 2
    if flat and model.spatial_dims == 3:
        raise InputError(f"{volume.name} is a picture, but {model.name} takes volumes.", "Give a scan with slices.")
    for channel in volume.channels_first():
        check_volume(volume.with_array(channel), allow_2d=flat)
    return volume


def predict_within_memory(
    predict: Callable[[int | None], PredictedScan], batch: int | None, warn: Warn
) -> PredictedScan:
    """The prediction, with fewer windows in a pass where memory runs out."""
    while True:
        try:
            return predict(batch)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or batch == 1:
                raise
        batch = (batch or 2) // 2
        warn(f"Memory ran out: {batch} windows a pass are used from here on.")


def segmented(
    volume: Volume,
    model: ExplainedModel,
    *,
    overlap: float | None,
    batch_size: int,
    progress: Progress,
    warn: Warn,
) -> PredictedScan:
    """The scan with the model's prediction, with progress."""

    def predict(batch: int | None) -> PredictedScan:
        return predict_scan(
            volume,
            model,
            overlap=overlap,
            batch_size=batch,
            on_windows=progress.advance,
            plan=lambda windows: progress.stage(PREDICTING, windows),
            warn=warn,
        )

    scan = predict_within_memory(predict, batch_size or None, warn)
    scan.windows.on_windows = lambda count: progress.check()
    return scan


def request_of(target: Target, scan: PredictedScan, score: str = "auto") -> TargetRequest:
    """A target as :func:`xaiengine.targets.target_choice.choose_targets` takes it."""
    grid = scan.volume.grid
    segment = None if target.region is None else as_mask(target.region, grid, target.segment)
    name = target.segment or "the region"
    if target.kind == "box":
        segment, name = box_mask(target.corners, grid, scan.volume.name), "the box"
    truth = None if target.reference is None else as_mask(target.reference, grid, target.reference_segment)
    return TargetRequest(
        kind="segment" if target.kind == "box" else target.kind,
        classes=target.labels,
        against=target.against,
        score=score,  # type: ignore[arg-type] # checked by the choice of the target
        point=",".join(f"{value:.6f}" for value in target.point),
        boundary_mm=target.width_mm,
        segment=segment,
        segment_name=name,
        reference=truth,
    )


def segmentation_case(
    scan: PredictedScan,
    chosen: list[ChosenTarget],
    settings: SegmentationSettings,
    progress: Progress | None = None,
) -> WindowCase:
    """The case of chosen targets, with baseline, regions and region of interest on the network's grid."""
    return WindowCase(
        scan,
        chosen,
        settings.methods,
        window_baseline(scan, settings),
        None if settings.regions is None else _regions(scan, settings.regions),
        None if settings.roi is None else _roi(scan, settings.roi),
        settings.layers,
        settings.seed,
        progress,
    )


def window_baseline(scan: PredictedScan, settings: SegmentationSettings) -> torch.Tensor:
    """The baseline (1, C, I, J, K); another scan is brought to this one's place in the patient first."""
    if settings.baseline != "scan":
        return baseline_like(scan.image, settings.baseline, constant=settings.baseline_value)
    other = brought_scan(settings.baseline_scan, scan.volume, scan.model)
    return baseline_like(scan.image, "scan", scan=other[None].to(scan.image.device))


def _roi(scan: PredictedScan, mask: np.ndarray) -> torch.Tensor:
    roi = scan.on_grid(mask)
    if not bool(roi.any()):
        raise OptionError("The region of interest does not touch the scan.", "Choose another region.")
    return roi


def _regions(scan: PredictedScan, labels: np.ndarray) -> torch.Tensor:
    """Labels 1..R on the network's grid, what is no region one more."""
    moved = np.zeros(scan.grid.shape, dtype=np.int64)
    for number in np.unique(labels[labels > 0]):
        moved[scan.on_grid(labels == number).cpu().numpy()] = number
    names, dense = np.unique(moved, return_inverse=True)
    if len(names) < 2:
        raise OptionError("Fewer than two regions lie in the scan.", "Give more, or leave them out.")
    return torch.as_tensor(dense.reshape(moved.shape) + 1)
