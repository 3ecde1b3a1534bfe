"""What is known after the methods have run: maps on the scan, distances, structures, correction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..attribution.correction import Correction
from ..attribution.explanation import Explanation
from ..attribution.registry import AttributionMethod, find_method
from ..attribution.relations import relation_matrix
from ..attribution.runner import run_method
from ..attribution.window_case import WindowCase
from ..inference.segmentation_preparation import PredictedScan
from ..targets.segmentation_targets import VoxelTarget
from ..targets.target_choice import ChosenTarget, TargetRequest, choose_targets, classes_present
from .attention_distance import DistanceCurve, ReceptiveField, distance_curve, receptive_field
from .uncertainty.measuring import Uncertainty


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that is written. ``curves``, ``restored`` and ``on_network_grid`` belong to ``maps`` in order;
    ``restored`` are the maps on the scan's own grid, (I, J, K)."""

    scan: PredictedScan
    chosen: Sequence[ChosenTarget]
    maps: Sequence[Explanation]
    values: Sequence[float]
    restored: Sequence[np.ndarray]
    on_network_grid: Sequence[np.ndarray]
    curves: Sequence[DistanceCurve]
    structures: Mapping[str, np.ndarray]
    view: ReceptiveField | None = None
    matrix: tuple[list[str], list[dict[str, Any]]] | None = None
    corrections: Mapping[str, Correction] = field(default_factory=dict)
    uncertainty: Uncertainty | None = None


def measure(
    scan: PredictedScan,
    chosen: Sequence[ChosenTarget],
    maps: Sequence[Explanation],
    structures: Mapping[str, Tensor],
) -> Findings:
    """Bring maps to the scan's grid and see where they lie."""
    values = [float(item.target.value(scan.output)[0]) for item in chosen]
    on_network_grid = [item.on(scan.grid).map for item in maps]
    return Findings(
        scan=scan,
        chosen=chosen,
        maps=maps,
        values=values,
        restored=[item.on(scan.volume.grid).map for item in maps],
        on_network_grid=on_network_grid,
        curves=[
            distance_curve(array, chosen[item.row].structure.cpu().numpy(), scan.grid.spacing)
            for item, array in zip(maps, on_network_grid)
        ],
        structures={name: mask.cpu().numpy() for name, mask in structures.items()},
    )


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
    case: WindowCase,
    structures: Mapping[str, np.ndarray],
    method: AttributionMethod,
    most: int = 24,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Which structures the segmentation of each predicted class relies on.

    Methods that explain all classes at once do; others are replaced by input × gradient, which does.
    """
    scan = case.scan
    names = tuple(classes_present(scan)[:most])
    chosen = choose_targets(scan, TargetRequest(kind="class", classes=names))
    shared = method.name in ("saliency", "input_x_gradient", "integrated_gradients")
    used = method if shared else find_method("input_x_gradient")
    every = case.with_(chosen=chosen, progress=None)
    found = every.on_input(run_method(every, used)).sum(1).cpu().numpy()
    columns, rows = relation_matrix({item.label: values for item, values in zip(chosen, found)}, structures)
    return columns, [{**row, "method": used.title} for row in rows]
