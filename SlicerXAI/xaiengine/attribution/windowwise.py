"""Methods that captum runs on a module, window by window, summed over the scan.

A target that is linear in the blended output is a sum of one number per window, Σ cotangent · output, so a method
that explains each of these numbers explains the target. Others are taken as linear around the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..core.boxes import index_of
from ..inference.window_layers import LayerLattice, lay_cells
from ..inference.window_output import WindowNetwork
from ..inference.windows import WindowedModel, evaluated
from ..network.layers import find_layer
from ..targets.segmentation_targets import SegmentationTarget
from ..targets.targets import Target
from .forward import Attribution, TargetForward

LINEARISED = (
    "The target is not linear in the network's output and lies in several windows: it was taken as linear around the "
    "prediction, as the method works window by window."
)


@dataclass(frozen=True, eq=False)
class WindowShare(Target):
    """What the output (N, K, window...) of one window contributes: Σ cotangent · output."""

    cotangent_of_window: Tensor
    title: str

    @property
    def name(self) -> str:
        return self.title

    def value(self, output: Tensor) -> Tensor:
        return (output.float() * self.cotangent_of_window).flatten(1).sum(1)


@dataclass
class _Sum:
    map: Tensor
    notes: list[str] = field(default_factory=list)


InputCall = Callable[[TargetForward, Tensor, Tensor], Attribution]
LayerCall = Callable[[TargetForward, nn.Module, str, Tensor, Tensor], Attribution]


def over_windows(
    module: WindowNetwork,
    windows: WindowedModel,
    target: SegmentationTarget,
    image: Tensor,
    baseline: Tensor,
    method: InputCall,
) -> Attribution:
    """An attribution to the image (1, C, spatial...) from one for each window that the target touches.

    ``method`` gets the window's network, the window and the window of the baseline.
    """
    padded = windows.padded(image)
    shadows = windows.padded(baseline)
    total = _Sum(torch.zeros_like(padded))
    for index, share in _shares(windows, target, image):
        forward = _forward(module, windows, share)
        found = method(forward, windows.crop(padded, [index]), windows.crop(shadows, [index]))
        total.map[index_of(windows.layout.box(index))] += windows.unflattened(found.map)
        _note(total, found)
    result = windows.padding_adjoint(total.map, image)
    return Attribution(result, found.unit, {}, notes=(*total.notes, *_linearity(windows, target)))


def layer_over_windows(
    module: WindowNetwork,
    windows: WindowedModel,
    target: SegmentationTarget,
    layer: str,
    image: Tensor,
    baseline: Tensor,
    method: LayerCall,
) -> tuple[Attribution, LayerLattice]:
    """An attribution on a layer's lattice, (1, 1, cells...), from one for each window that the target touches."""
    used = windows.windows_of([target])
    lattice = lay_cells(windows, module.network, layer, used, image)
    padded, shadows = windows.padded(image), windows.padded(baseline)
    total = _Sum(torch.zeros(lattice.shape, device=image.device))
    units = find_layer(module.network, layer)
    for index, share in _shares(windows, target, image):
        forward = _forward(module, windows, share)
        found = method(forward, units, layer, windows.crop(padded, [index]), windows.crop(shadows, [index]))
        lattice.add(total.map, index, windows.unflattened(found.map)[0, 0])
        _note(total, found)
    notes = (*total.notes, *_linearity(windows, target))
    return Attribution(total.map[None, None], found.unit, notes=notes), lattice


def _forward(module: WindowNetwork, windows: WindowedModel, share: Target) -> TargetForward:
    forward = TargetForward(module, share)
    forward.register_forward_hook(lambda *call: _count(windows, len(call[1][0])))
    return forward


def _count(windows: WindowedModel, rows: int) -> None:
    windows.passes.forward += rows
    windows.on_windows(rows)


def _shares(windows: WindowedModel, target: SegmentationTarget, image: Tensor) -> Sequence[tuple[int, WindowShare]]:
    """The windows with what their output contributes; at a single window, the target itself."""
    flat = windows.layout.flat_axis
    used = windows.windows_of([target])
    if windows.layout.count == 1 and not windows.layout.is_padded and flat is None:
        return [(0, target)]
    if target.linear:
        box, cotangent = target.box, target.cotangent(None)
    else:
        output, around = windows.predict_for(image, [target])
        ((box, cotangent),) = evaluated([target], output, around)[1]
    shares = []
    for index in used:
        part = windows.window_cotangent(index, box, cotangent)
        if part is not None:
            part = part if flat is None else part.squeeze(flat + 1)
            shares.append((index, WindowShare(part, target.name)))
    return shares


def _linearity(windows: WindowedModel, target: SegmentationTarget) -> tuple[str, ...]:
    single = windows.layout.count == 1 and not windows.layout.is_padded
    return () if target.linear or single else (LINEARISED,)


def _note(total: _Sum, found: Attribution) -> None:
    total.notes += [note for note in found.notes if note not in total.notes]
