"""What a slice classifier looks at, slice by slice, as one map in the patient's coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..attribution.bottleneck.bottleneck import BottleneckSettings, explain_rows
from ..attribution.bottleneck.objectives import CrossEntropy, KeepValue, Objective
from ..attribution.bottleneck.statistics import ReferenceStatistics, StatisticsAccumulator
from ..attribution.cam import cam_maps
from ..core.errors import ModelError
from ..io.grid import Grid
from ..network.feature_grid import feature_grid
from ..network.layers import evaluation_mode, find_layer, frozen_parameters
from ..network.tail.tail import Tail
from ..targets.targets import ClassTarget
from .settings import LesionSettings
from .slice_selection import gated_slices

if TYPE_CHECKING:
    from ..inference.preprocessing import Preprocessed
    from ..models.explained_model import ExplainedModel

PLANE_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
ROWS_AT_ONCE = 16
"""Slices optimized together: as fast as more, and memory stays small."""


@dataclass(frozen=True, eq=False)
class SliceMaps:
    """The map of all slices.

    ``density`` (I, J, K) float32 on ``grid``, whose voxels are the layer's cells: bits per cm² of slice for the
    bottlenecks (which does not depend on spacing or thickness), the map's own unit for CAMs. ``probability`` (n,)
    is the model's for each slice; ``explained`` (n,) marks slices that passed the gate. ``bits`` (n,) is the total
    of each slice, ``steps`` (n,) the optimiser's.
    """

    density: np.ndarray
    grid: Grid
    slice_axis: int
    probability: np.ndarray
    explained: np.ndarray
    bits: np.ndarray
    steps: np.ndarray
    layer: str
    cells_measured: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """What is worth saying about the optimization of a group of slices, by slice number."""

    from_noise: list[int] = field(default_factory=list)
    restless: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    precision: str = ""

    def joined(self, other: Findings) -> Findings:
        notes = self.notes + [text for text in other.notes if text not in self.notes]
        return Findings(
            self.from_noise + other.from_noise,
            self.restless + other.restless,
            notes,
            other.precision or self.precision,
        )

    def warnings(self, settings: LesionSettings) -> tuple[str, ...]:
        said = list(self.notes)
        if self.from_noise and settings.method == "iba":
            said.append(
                f"The model calls pure noise a lesion too ({_numbers(self.from_noise)}): its answer there needs "
                "0 bits of the scan, and the map shows the optimiser's path, not evidence."
            )
        if self.restless:
            said.append(f"The map still changed when the optimization ended ({_numbers(self.restless)}).")
        return tuple(said)


def _numbers(slices: list[int]) -> str:
    shown = ", ".join(map(str, slices[:8])) + (", ..." if len(slices) > 8 else "")
    return f"slice {shown}" if len(slices) == 1 else f"{len(slices)} slices: {shown}"


def slices_of(prepared: Preprocessed, plane: str) -> tuple[torch.Tensor, int]:
    """Slices (n, C, a, b) of a prepared scan, and the axis along which they follow one another."""
    axis = PLANE_AXIS[plane]
    return prepared.tensor.movedim(axis + 1, 0).contiguous(), axis


def predict_slices(
    model: ExplainedModel, slices: torch.Tensor, target: int, advance: Callable[[int], None] = lambda count: None
) -> np.ndarray:
    """Probability (n,) of the target for each slice."""
    if slices.shape[1] != model.in_channels:
        raise ModelError(
            f"The model {model.name} takes {model.in_channels} channels, the scan gives {slices.shape[1]}.",
            "Choose a model for this kind of scan.",
        )
    found = []
    for chunk in slices.split(ROWS_AT_ONCE):
        probabilities = model.probabilities(model.predict(chunk))
        found.append(probabilities[:, target].flatten().cpu().numpy())
        advance(len(chunk))
    result = np.concatenate(found)
    if not np.isfinite(result).all():
        raise ModelError(
            f"The model {model.name} gives values that are not numbers for this scan.",
            "Check that the scan is of the kind that the model was made for, and its weights.",
        )
    return result


def explain_slices(
    model: ExplainedModel,
    prepared: Preprocessed,
    settings: LesionSettings,
    target: int,
    *,
    probability: np.ndarray,
    statistics: ReferenceStatistics | None = None,
    seed: int = 0,
    rows: Sequence[int] | None = None,
    memory_budget: int | None = None,
    advance: Callable[[float], None] = lambda share: None,
) -> SliceMaps:
    """Explain the slices whose probability passes the gate (or ``rows``, where given).

    ``advance(share)`` is told how much of the work is done, 0..1, and may raise to cancel.
    """
    slices, axis = slices_of(prepared, model.inferer.plane)
    chosen = slices_to_explain(probability, prepared, axis, settings) if rows is None else np.asarray(rows, int)
    layer = settings.layer_of(model)
    find_layer(model.network, layer)
    cells = feature_grid(model.network, layer, slices[:1])
    count = len(slices)
    maps = np.zeros((count, *cells.cells), np.float32)
    bits, steps = np.zeros(count), np.zeros(count, int)
    findings = Findings()
    locate = _bottleneck_cells if settings.is_bottleneck else _cam_cells
    for start in range(0, len(chosen), ROWS_AT_ONCE):
        group = chosen[start : start + ROWS_AT_ONCE]

        def tell(share: float, start: int = start, size: int = len(group)) -> None:
            advance((start + share * size) / len(chosen))

        batch = slices[group].to(model.device)
        maps[group], bits[group], steps[group], found = locate(
            model, batch, layer, target, settings, statistics, seed, group, memory_budget, tell
        )
        findings = findings.joined(found)
        tell(1.0)
    grid = _cell_grid(prepared.grid, cells, axis, count)
    density = np.moveaxis(maps, 0, axis)
    if settings.is_bottleneck:
        density = density / _cell_area_cm2(grid, axis)
    return SliceMaps(
        density=np.ascontiguousarray(density, dtype=np.float32),
        grid=grid,
        slice_axis=axis,
        probability=probability,
        explained=np.isin(np.arange(count), chosen),
        bits=bits,
        steps=steps,
        layer=layer,
        cells_measured=cells.measured,
        warnings=findings.warnings(settings),
    )


def slices_to_explain(
    probability: np.ndarray, prepared: Preprocessed, axis: int, settings: LesionSettings
) -> np.ndarray:
    """Numbers of the slices that pass the gate, see :mod:`.gate`."""
    return gated_slices(
        probability,
        float(np.linalg.norm(prepared.grid.affine[:3, axis])),
        lower=settings.minimum_probability,
        upper=settings.sure_probability,
        extent_mm=settings.minimum_extent,
    )


def own_statistics(model: ExplainedModel, slices: torch.Tensor, layer: str) -> ReferenceStatistics:
    """Statistics per channel from the scan itself, for models that bring none."""
    found = StatisticsAccumulator("channel", scans=1)
    add_activations(found, model, layer, slices)
    return finished_statistics(found)


def finished_statistics(found: StatisticsAccumulator, after_relu: bool = False) -> ReferenceStatistics:
    """Statistics for locating lesions: every channel that ever spoke is heard.

    The published rule silences neurons that are zero in 99 % of samples. Counted over the cells of whole scans, that
    would silence just the channels that answer to small lesions.
    """
    return found.finish(after_relu=after_relu, activity_threshold=0.0)


def add_activations(found: StatisticsAccumulator, model: ExplainedModel, layer: str, slices: torch.Tensor) -> None:
    """Add the layer's activations of slices (n, C, a, b) to the statistics."""
    recorded: list[torch.Tensor] = []
    hook = find_layer(model.network, layer).register_forward_hook(
        lambda module, arguments, output: recorded.append(output.clone())
    )
    try:
        for chunk in slices.split(ROWS_AT_ONCE):
            model.predict(chunk)
            found.add(recorded.pop())
    finally:
        hook.remove()


def _bottleneck_cells(model, batch, layer, target, settings, statistics, seed, ids, memory_budget, tell):
    """Bits per cell (m, a, b), totals, steps and findings of one group of slices."""
    if statistics is None:
        raise ModelError("The bottleneck needs reference statistics.", "Fit them with the task fit-reference.")
    with evaluation_mode(model.network):
        record = Tail(model.network, layer).record(batch)
        result = explain_rows(
            record,
            statistics,
            _objective(model, settings, target, record.output),
            BottleneckSettings(
                mode=settings.schedule,
                direction="destroy" if settings.method == "inverse-iba" else "keep",
                beta=settings.beta,
                seed=seed,
                memory_budget=memory_budget,
            ),
            row_ids=[int(number) for number in ids],
            progress=lambda done, total: tell(done / total),
        )
    return (
        result.bits.numpy(),
        result.total_bits.numpy(),
        result.steps.numpy(),
        Findings(
            from_noise=[int(number) for number in ids[(result.predicted_from_noise > 0.5).numpy()]],
            restless=[int(number) for number in ids[~result.converged.numpy()]]
            if settings.schedule == "converged"
            else [],
            notes=[text for text in (statistics.warning, record.note, _silent(result.inactive_energy)) if text],
            precision=result.precision,
        ),
    )


def _silent(inactive_energy: float) -> str:
    if inactive_energy < 0.05:
        return ""
    return (
        "Much of what the layer sees in this scan lies in channels that the reference scans never used: they are "
        "switched off and carry no bits. Fit the reference statistics over scans of this kind too."
    )


def _objective(model: ExplainedModel, settings: LesionSettings, target: int, output: Any) -> Objective:
    if settings.objective == "cross-entropy":
        return CrossEntropy(target)
    return KeepValue.of(model.select_output(output), target)


def _cam_cells(model, batch, layer, target, settings, statistics, seed, ids, memory_budget, tell):
    """CAM values per cell (m, a, b); there are no bits and no steps."""
    method = settings.method.replace("-", "")
    with evaluation_mode(model.network), frozen_parameters(model.network):
        maps = cam_maps(
            lambda inputs: model.select_output(model.network(inputs)),
            {layer: find_layer(model.network, layer)},
            batch,
            ClassTarget(target),
            (method,),
        )
    nothing = np.zeros(len(batch))
    return maps[method, layer].cpu().numpy(), nothing, nothing.astype(int), Findings()


def _cell_grid(grid: Grid, cells, axis: int, count: int) -> Grid:
    in_plane = [other for other in range(3) if other != axis]
    shape = [0, 0, 0]
    shape[axis] = count
    for other, length in zip(in_plane, cells.cells):
        shape[other] = length
    return Grid(tuple(shape), cells.affine(grid.affine, in_plane))


def _cell_area_cm2(grid: Grid, axis: int) -> float:
    first, second = (grid.affine[:3, other] for other in range(3) if other != axis)
    return float(np.linalg.norm(np.cross(first, second))) / 100.0
