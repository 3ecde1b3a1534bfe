"""What is known after the methods have run: maps on the scan, distances, structures, correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..attribution.segmentation.correction import Correction
from ..attribution.segmentation.explaining import Explaining, MethodSettings, SegmentationMap
from ..attribution.segmentation.method_list import METHODS, Method
from ..attribution.segmentation.methods import run_method
from ..attribution.segmentation.relations import relation_matrix
from ..inference.preprocessing import restore
from ..inference.segmentation_preparation import PredictedScan
from ..targets.segmentation_targets import VoxelTarget
from ..targets.target_choice import ChosenTarget, TargetRequest, choose_targets, classes_present
from .attention_distance import DistanceCurve, ReceptiveField, distance_curve, receptive_field


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that is written. ``curves`` and ``restored`` belong to ``maps`` in order; ``restored`` are the maps
    summed over channels on the scan's own grid (I, J, K)."""

    scan: PredictedScan
    chosen: Sequence[ChosenTarget]
    maps: Sequence[SegmentationMap]
    values: Sequence[float]
    restored: Sequence[np.ndarray]
    on_network_grid: Sequence[np.ndarray]
    curves: Sequence[DistanceCurve]
    structures: Mapping[str, np.ndarray]
    view: ReceptiveField | None = None
    matrix: tuple[list[str], list[dict[str, Any]]] | None = None
    corrections: Mapping[str, Correction] = field(default_factory=dict)


def measure(
    scan: PredictedScan,
    chosen: Sequence[ChosenTarget],
    maps: Sequence[SegmentationMap],
    structures: Mapping[str, Tensor],
) -> Findings:
    """Bring maps to the scan's grid and see where they lie."""
    values = [float(item.target.value(scan.output)[0]) for item in chosen]
    on_network_grid = [on_grid_of_network(item, scan) for item in maps]
    return Findings(
        scan=scan,
        chosen=chosen,
        maps=maps,
        values=values,
        restored=[restore(item.summed, item.grid, scan.volume.grid) for item in maps],
        on_network_grid=on_network_grid,
        curves=[
            distance_curve(array, chosen[item.number].structure.cpu().numpy(), scan.grid.spacing)
            for item, array in zip(maps, on_network_grid)
        ],
        structures={name: mask.cpu().numpy() for name, mask in structures.items()},
    )


def on_grid_of_network(item: SegmentationMap, scan: PredictedScan) -> np.ndarray:
    """A map, summed over channels, on the grid that the network sees (I, J, K)."""
    if item.grid is scan.grid:
        return item.summed
    return restore(item.summed, item.grid, scan.grid)


def field_of_view(scan: PredictedScan, chosen: ChosenTarget) -> ReceptiveField:
    """How far the network looks from the voxel deepest inside a structure."""
    mask = chosen.structure.cpu().numpy()
    depth = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=scan.grid.spacing)[1:-1, 1:-1, 1:-1]
    voxel = np.unravel_index(int(np.argmax(depth)), mask.shape)
    one = torch.zeros(mask.shape, dtype=torch.bool, device=scan.image.device)
    one[tuple(int(n) for n in voxel)] = True
    target = VoxelTarget("center", one, scan.output.shape[1], scan.form, index=chosen.index)
    _, (gradient,) = scan.windows.gradients(scan.image, [target])
    return receptive_field(gradient[0].abs().sum(0).cpu().numpy(), voxel, scan.grid.spacing)


def class_matrix(
    scan: PredictedScan,
    structures: Mapping[str, np.ndarray],
    settings: MethodSettings,
    method: Method,
    most: int = 24,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Which structures the segmentation of each predicted class relies on.

    Methods that explain all classes at once do; others are replaced by input × gradient, which does.
    """
    names = tuple(classes_present(scan)[:most])
    chosen = choose_targets(scan, TargetRequest(kind="class", classes=names))
    shared = method.name in ("saliency", "input-x-gradient", "integrated-gradients")
    used = method if shared else METHODS["input-x-gradient"]
    maps = run_method(Explaining(scan, chosen, settings), used)
    columns, rows = relation_matrix({chosen[item.number].label: item.summed for item in maps}, structures)
    return columns, [{**row, "method": used.title} for row in rows]
