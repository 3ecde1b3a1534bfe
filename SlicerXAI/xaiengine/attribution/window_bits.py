"""Information bottlenecks of a segmentation, window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.errors import ModelError
from ..inference.segmentation_preparation import PredictedScan
from ..inference.window_layers import LayerLattice
from ..io.resample import resample
from ..targets.target_choice import ChosenTarget
from .bottleneck.information import NOISE_SUFFICES, InformationRequest, gate_mask
from .bottleneck.input_bottleneck import InputBottleneckSettings, input_information
from .bottleneck.objectives import Objective
from .bottleneck.reference_store import find_statistics
from .bottleneck.segmentation_bottleneck import (
    own_statistics,
    segmentation_bits,
    segmentation_objective,
)
from .bottleneck.settings import BottleneckSettings, Direction
from .case import joined, some_layer
from .forward import Attribution
from .lattice_maps import continued

if TYPE_CHECKING:
    from ..core.progress import Progress


INPUT_BETA = 0.05
"""Of the input bottleneck: the loss of a segmentation is a mean over voxels, a tenth or less of that of a class. With
the published 5 a distant cue that decides the planted segmentation has no bits (rank 2 to 3 of 14 places), with this
it has 4.6 per voxel, and decoys have none."""
LOCAL = (
    "Layers behind a segmentation network's skip connections look where the structure is: evidence elsewhere does not "
    "pass their gate."
)


class WindowBits:
    """What a :class:`xaiengine.attribution.window_case.WindowCase` answers to the methods of the bottleneck."""

    scan: PredictedScan
    chosen: list[ChosenTarget]
    seed: int
    progress: Progress | None
    bottleneck_layers: Any
    multilayer_layers: Any

    def bits(self, settings: Any, direction: Direction) -> Attribution:
        return self._bits_at(some_layer(self.bottleneck_layers)[0], settings, direction)

    def _bits_at(self, layer: str, settings: Any, direction: Direction, part: tuple[int, int] = (0, 1)) -> Attribution:
        found = []
        lattice: LayerLattice | None = None
        wanted = BottleneckSettings(
            mode=settings.schedule,
            direction=direction,
            beta=settings.beta,
            seed=self.seed,
            autocast="off",
        )
        statistics = find_statistics(self.scan.model, layer)
        for row, chosen in enumerate(self.chosen):
            bits, lattice = segmentation_bits(
                self.scan.module,
                self.scan.windows,
                self.scan.image,
                chosen.target,
                chosen.structure,
                chosen.index,
                layer,
                region=chosen.region,
                statistics=statistics,
                settings=wanted,
                progress=self._report_of(part[0] * len(self.chosen) + row, part[1] * len(self.chosen)),
            )
            total = float(bits.map.sum())
            found.append(
                replace(
                    bits,
                    map=_amounts(self.scan, bits.map[0, 0], lattice)[None, None],
                    unit="bits/voxel",
                    convergence={**bits.convergence, "total_bits": total},
                )
            )
        whole = joined(found)
        return replace(whole, layer=layer, lattice=lattice)

    def _report_of(self, number: int, count: int) -> Callable[[int, int], None] | None:
        progress = self.progress
        if progress is None:
            return None

        def report(done: int, total: int) -> None:
            progress.update(round(1000 * (number + done / max(1, total)) / count), 1000)

        return report

    def multilayer_bits(self, settings: Any) -> Attribution:
        """The first layer's bits where the deeper layers' bits are high (Khakzar 2021), on the voxels of the image."""
        layers = some_layer(self.multilayer_layers)
        if len(layers) < 2:
            raise ModelError(
                "Multi-layer attribution needs two layers or more through which all information passes; this network "
                f"has one that is known ({layers[0]}).",
                "Name an early and a late layer, or choose iba.",
            )
        maps = [self._bits_at(layer, settings, "keep", (n, len(layers))) for n, layer in enumerate(layers)]
        voxels = [self.on_input(found) for found in maps]
        gate = torch.ones_like(voxels[0], dtype=torch.bool)
        notes = [LOCAL, *(note for found in maps for note in found.notes)]
        for layer, found, deeper in zip(layers[1:], maps[1:], voxels[1:]):
            if found.convergence["kept_by_pure_noise"] > NOISE_SUFFICES:
                notes.append(f"The layer {layer} needs no information for this answer, so it does not gate the map.")
            else:
                gate &= gate_mask(deeper, settings.gate, settings.gate_part)
        kept = float((voxels[0] * gate).sum() / voxels[0].sum().clamp_min(1e-30))
        if kept == 0:
            notes.append("The layers' maps do not overlap: no voxel is left. Use a wider gate.")
        convergence = {"kept_share": kept, **maps[0].convergence}
        return Attribution(
            voxels[0] * gate, unit="bits/voxel", convergence=convergence, notes=tuple(dict.fromkeys(notes))
        )

    def input_bits(self, settings: Any) -> Attribution:
        """Bits per voxel of every window that a target touches; where windows overlap, their weighted mean."""
        layer = some_layer(self.bottleneck_layers)[0]
        module, windows, image = self.scan.module, self.scan.windows, self.scan.image
        statistics = find_statistics(self.scan.model, layer) or own_statistics(module, windows, image, layer)
        wanted = BottleneckSettings(mode=settings.schedule, beta=settings.beta, seed=self.seed)
        work = [(row, index) for row, item in enumerate(self.chosen) for index in windows.windows_of([item.target])]
        padded, weights = windows.padded(image), windows.layout.weights
        total = torch.zeros((len(self.chosen), *padded.shape[2:]), device=image.device)
        weight = torch.zeros_like(total)
        losses: list[dict[str, float]] = []
        for number, (row, index) in enumerate(work):
            box = windows.layout.box(index)
            found = input_information(
                InformationRequest(
                    module,
                    self.chosen[row].target,
                    lambda name: statistics,
                    settings=wanted,
                    report=self._share_of(number, len(work)),
                    objective=self._kept(row, index),
                ),
                f"network.{layer}",
                windows.crop(padded, [index]),
                InputBottleneckSettings(beta=INPUT_BETA, seed=self.seed),
            )
            total[row][box] += windows.unflattened(found.map)[0, 0] * weights
            weight[row][box] += weights
            losses.append(found.convergence)
        bits = (total / weight.clamp_min(1e-12))[(slice(None), *windows.layout.interior)]
        rows = tuple({"total_bits": float(bits[row].sum())} for row in range(len(self.chosen)))
        means = {key: sum(item[key] for item in losses) / len(losses) for key in ("loss", "loss_without_mask")}
        return Attribution(bits[:, None], "bits/voxel", {**rows[0], **means}, layer=layer, by_row=rows)

    def _share_of(self, number: int, count: int) -> Callable[[float], None]:
        tell = self._report_of(number, count)
        return lambda share: tell(round(1000 * share), 1000) if tell else None

    def _kept(self, row: int, index: int) -> Callable[[Tensor], Objective]:
        """What the network predicts of the structure in one window."""
        chosen = self.chosen[row]
        kept = segmentation_objective(
            self.scan.windows, [index], chosen.structure, chosen.region, chosen.index, chosen.target.form
        )
        return lambda output: kept

    def on_input(self, found: Attribution) -> Tensor:
        raise NotImplementedError


def _amounts(scan: PredictedScan, bits: Tensor, lattice: LayerLattice) -> Tensor:
    """Bits per cell, scaled so that their sum over the scan's voxels is the total after interpolation."""
    array, grid = continued(bits.detach().float().cpu().numpy(), lattice.grid(scan.grid), lattice)
    scale = scan.grid.voxel_volume_ml / grid.voxel_volume_ml
    on_voxels = float(resample(array, grid, scan.grid).sum()) * scale
    return bits * (float(bits.sum()) / on_voxels if on_voxels > 0 else 0.0)
