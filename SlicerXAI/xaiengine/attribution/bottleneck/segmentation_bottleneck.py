"""Information bottleneck for segmentations: the bits of each voxel that a structure's segmentation needs.

Every window is a row of one optimization, with a mask of its own. What must survive the noise is the structure's
segmentation in that window as it was predicted: inside and outside count alike, so that calling everything the
structure does not pay. Bits of windows that share a cell are averaged with the blending weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.boxes import intersection, shifted
from ...core.errors import ModelError
from ...inference.window_layers import LayerLattice, lay_cells
from ...inference.window_output import WindowNetwork
from ...inference.windows import WindowedModel
from ...network.layers import find_layer
from ...network.tail.tail import Tail
from ...targets.segmentation_targets import OutputForm, SegmentationTarget, voxel_scores
from ..feature_maps import spatial_layers
from ..forward import Attribution
from .bottleneck import BottleneckMap, BottleneckSettings, explain_rows
from .statistics import OWN_SCAN, ReferenceStatistics, StatisticsAccumulator

MOST_STATISTICS_WINDOWS = 48
KEPT_DICE = 0.5
"""A segmentation that keeps this Dice with the frozen one counts as still given."""


@dataclass(frozen=True, eq=False)
class KeepSegmentation:
    """Binary cross-entropy between a class' log-odds and its frozen mask, per row, in nats.

    ``inside`` (N, window...) are the frozen voxels of the structure, ``counted`` those that matter; inside and
    outside weigh one half each.
    """

    inside: Tensor
    counted: Tensor
    index: int
    form: OutputForm

    def __call__(self, output: Tensor, rows: Tensor) -> Tensor:
        odds, inside, counted = self._parts(output, rows)
        loss = functional.softplus(torch.where(inside, -odds, odds))
        both = [mask & counted for mask in (inside, ~inside)]
        means = [(loss * mask).sum(1) / mask.sum(1).clamp_min(1) for mask in both]
        return torch.stack(means).mean(0)

    def met(self, output: Tensor, rows: Tensor) -> Tensor:
        odds, inside, counted = self._parts(output, rows)
        found = (odds > 0) & counted
        common = (found & inside).sum(1)
        return 2 * common > KEPT_DICE * (found.sum(1) + (inside & counted).sum(1))

    def _parts(self, output: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        odds = voxel_scores(output, self.index, "log_odds", self.form).flatten(1)
        rows = rows.to(self.inside.device)
        return odds, self.inside[rows].flatten(1), self.counted[rows].flatten(1)


def segmentation_bits(
    module: WindowNetwork,
    windows: WindowedModel,
    image: Tensor,
    target: SegmentationTarget,
    structure: Tensor,
    index: int,
    layer: str,
    *,
    region: Tensor | None = None,
    statistics: ReferenceStatistics | None = None,
    settings: BottleneckSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Attribution, LayerLattice]:
    """Bits per cell of a layer that keep a segmentation, on the layer's lattice (1, 1, cells...).

    Args:
        module: the network with its output selected; ``windows`` runs it through its windows.
        image: (1, C, spatial...).
        target: says which windows matter: those that hold voxels of it.
        structure: what the network predicts of the class, boolean (spatial...), frozen.
        index: the class.
        layer: name in ``module.network``.
        region: voxels that count (spatial...), all by default.
        statistics: of the layer over reference scans; of this scan's own windows by default, which is said.
    """
    used = windows.windows_of([target])
    notes: list[str] = []
    if statistics is None:
        statistics = own_statistics(module, windows, image, layer)
        notes.append(
            f"There are no reference statistics for {layer}: those of this scan's own windows were used, so bits "
            "count what is unusual within this scan. The task fit-reference makes them from a folder of scans."
        )
    lattice = lay_cells(windows, module.network, layer, used, image)
    total = torch.zeros(lattice.shape, device=image.device)
    weight = torch.zeros_like(total)
    cell_weights = lattice.cell_weights().to(image.device)
    tail = Tail(module, f"network.{layer}")
    padded, done, results = windows.padded(image), 0, []
    for part in windows.batches(used):
        batch = windows.crop(padded, part)
        objective = segmentation_objective(windows, part, structure, region, index, target.form)
        record = tail.record(batch)
        found = explain_rows(
            record,
            statistics,
            objective,
            settings,
            row_ids=part,
            progress=_scaled_progress(progress, done, len(part), len(used)),
        )
        windows.passes.forward += found.passes * len(part)
        windows.passes.backward += found.passes * len(part)
        bits = windows.unflattened(found.bits[:, None].to(image.device))[:, 0]
        for row, number in enumerate(part):
            lattice.add(total, number, bits[row] * cell_weights)
            lattice.add(weight, number, cell_weights)
        results.append(found)
        notes += [note for note in (record.note, *_other_warnings(found)) if note and note not in notes]
        done += len(part)
    bits = total / weight.clamp_min(1e-12)
    figures = _figures(results)
    return Attribution(bits[None, None], "bits", figures, notes=(*notes, *_doubts(figures))), lattice


def _other_warnings(found: BottleneckMap) -> list[str]:
    """Warnings that do not name rows: those are summed up over all windows by :func:`_doubts`."""
    told_by_rows = ("The explained answer", "The map still changed", "The reference statistics come from")
    return [warning for warning in found.warnings if not warning.startswith(told_by_rows)]


def _doubts(figures: dict[str, float]) -> list[str]:
    doubts = []
    if figures["kept_by_pure_noise"] > 0.5:
        doubts.append(
            f"In {figures['kept_by_pure_noise']:.0%} of the windows the segmentation survives pure noise at this "
            "layer: 0 bits are needed there, and the map shows the optimiser's path, not evidence."
        )
    if figures["converged_windows"] < 0.9:
        doubts.append(f"The bottleneck had not come to rest in {1 - figures['converged_windows']:.0%} of the windows.")
    return doubts


def _figures(results: Sequence) -> dict[str, float]:
    steps = torch.cat([found.steps for found in results]).float()
    noise = torch.cat([found.predicted_from_noise for found in results])
    return {
        "steps": float(steps.mean()),
        "converged_windows": float(torch.cat([found.converged for found in results]).float().mean()),
        "kept_by_pure_noise": float(noise.nanmean()),
        "windows": float(len(steps)),
    }


def _scaled_progress(
    progress: Callable[[int, int], None] | None, done: int, size: int, total: int
) -> Callable[[int, int], None] | None:
    """Progress over all windows, in thousandths of a window, from that of one batch of them."""
    if progress is None:
        return None

    def report(passes: int, of: int) -> None:
        progress(round(1000 * (done + size * passes / max(1, of))), 1000 * total)

    return report


def segmentation_objective(
    windows: WindowedModel, part: Sequence[int], structure: Tensor, region: Tensor | None, index: int, form: OutputForm
) -> KeepSegmentation:
    """What the network predicts of a structure in some windows, which is to be kept."""
    inside = torch.stack([_in_window(windows, number, structure) for number in part])
    whole = torch.ones_like(structure) if region is None else region | structure
    counted = torch.stack([_in_window(windows, number, whole) for number in part])
    flat = windows.layout.flat_axis
    if flat is not None:
        inside, counted = inside.squeeze(flat + 1), counted.squeeze(flat + 1)
    return KeepSegmentation(inside, counted, index, form)


def _in_window(windows: WindowedModel, number: int, mask: Tensor) -> Tensor:
    """A mask (spatial...) in a window; padding is False."""
    layout = windows.layout
    result = torch.zeros(layout.window_size, dtype=torch.bool, device=mask.device)
    common = intersection(layout.box(number), layout.interior)
    result[shifted(common, layout.starts[number])] = mask[shifted(common, layout.pad_before)]
    return result


@torch.no_grad()
def own_statistics(module: WindowNetwork, windows: WindowedModel, image: Tensor, layer: str) -> ReferenceStatistics:
    """Per-channel statistics of a layer over the scan's windows, and over their mirror images where these are few."""
    layout = windows.layout
    step = max(1, layout.count // MOST_STATISTICS_WINDOWS)
    chosen = list(range(0, layout.count, step))[:MOST_STATISTICS_WINDOWS]
    gathered = StatisticsAccumulator("channel", scans=1)
    mirrored = False
    handle = find_layer(module.network, layer).register_forward_hook(
        lambda units, arguments, output: gathered.add(output, mirrored=mirrored)
    )
    padded = windows.padded(image)
    try:
        for part in windows.batches(chosen):
            batch = windows.crop(padded, part)
            windows.run(batch)
            if len(chosen) < 4:
                mirrored = True
                for axis in range(2, batch.ndim):
                    windows.run(batch.flip(axis))
                mirrored = False
    finally:
        handle.remove()
    finished = gathered.finish()
    return replace(finished, metadata={**finished.metadata, OWN_SCAN: "yes"})


@torch.no_grad()
def cuts_every_path(module: WindowNetwork, layer: str, batch: Tensor) -> bool:
    """Whether all that the network learns of its input passes through a layer.

    Skip connections around it would let information pass unseen, whatever the map says. Tested by giving the layer
    the same noise for two different inputs: the outputs must be the same.
    """
    first = batch[:1]
    second = first.flip(-1).roll(1, -1) + 0.1 * first.std()
    tail = Tail(module, f"network.{layer}")
    records = [tail.record(first), tail.record(second, verify=False)]
    generator = torch.Generator().manual_seed(0)
    activation = records[0].activation
    noise = torch.randn(activation.shape, generator=generator).to(activation) * activation.std() + activation.mean()
    one, other = (record.run(noise.clone()) for record in records)
    return bool((one - other).abs().max() <= 1e-4 * one.std().clamp_min(1e-12))


def bottleneck_layer(module: WindowNetwork, batch: Tensor) -> str:
    """The coarsest layer through which everything passes; among equals the first.

    Raises:
        ModelError: the network has no layer with a feature map that cuts every path.
    """
    sizes = spatial_layers(module.network, module.network, batch[:1])
    by_cells: dict[int, list[str]] = {}
    for name in _outermost(module.network, sizes):
        by_cells.setdefault(math.prod(sizes[name]), []).append(name)
    for cells in sorted(by_cells):
        for name in dict.fromkeys([by_cells[cells][0], by_cells[cells][-1]]):
            try:
                if cuts_every_path(module, name, batch):
                    return name
            except ModelError:  # a layer that cannot be run from is no candidate
                continue
    raise ModelError(
        "No layer was found through which all of the segmentation's information passes.",
        "Name a layer, or choose integrated gradients.",
    )


def cut_layers(module: WindowNetwork, batch: Tensor, most: int = 12) -> list[str]:
    """Layers through which everything passes, in the order of execution, without the network's last one.

    At most ``most`` candidates are tried, the first and the last ones.
    """
    names = _outermost(module.network, spatial_layers(module.network, module.network, batch[:1]))[:-1]
    tried = names if len(names) <= most else [*names[: most // 2], *names[-(most - most // 2) :]]
    found = []
    for name in tried:
        try:
            if cuts_every_path(module, name, batch):
                found.append(name)
        except ModelError:  # a layer that cannot be run from is no candidate
            continue
    return found


def coarsest_layer(network: nn.Module, batch: Tensor) -> str:
    """The last layer with the fewest cells; where all layers are equally fine, the one before the output.

    Raises ModelError when the network has no layer with a feature map.
    """
    sizes = spatial_layers(network, network, batch[:1])
    names = _outermost(network, sizes)
    if not names:
        raise ModelError("The network has no layer with a feature map.", "Choose a method that needs no layer.")
    fewest = min(math.prod(sizes[name]) for name in names)
    coarse = [name for name in names if math.prod(sizes[name]) == fewest]
    if fewest == math.prod(batch.shape[2:]) and len(coarse) > 1:
        return coarse[-2]
    return coarse[-1]


def _outermost(network: nn.Module, sizes: dict[str, tuple[int, ...]]) -> list[str]:
    """Candidates without the layers inside blocks that are candidates themselves and give the same size."""
    modules = dict(network.named_modules())
    plain = (nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity)
    kept = []
    for name, size in sizes.items():
        parents = [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
        if any(sizes.get(parent) == size for parent in parents) or isinstance(modules[name], plain):
            continue
        kept.append(name)
    return kept
