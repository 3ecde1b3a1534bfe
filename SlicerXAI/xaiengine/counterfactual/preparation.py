"""The explained model's preprocessing as one differentiable operation on a generator's images.

Models bring MONAI transforms, which work on one volume at a time and pass no gradient. For images of one size
in one place most of them come down to a linear operation along rows and columns (crop, pad, flip, turn,
resize), a scale and an offset, and clipping. That operation is found here by probing the transforms themselves,
and is used only if it gives the same as they do on real images; else every image goes through the transforms,
and nothing can be differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..core.errors import ModelError
from ..inference.prediction import SLICE_AXIS, check_channels
from ..inference.preprocessing import preprocess
from ..models.explained_model import ExplainedModel
from .series.slice_replacement import SliceFrame

EQUAL = 2e-3
"""Largest difference, as a part of the input's range, at which the found operation counts as the same."""

LEVELS = 17
"""Gray values tried to find one that is not clipped."""

Transform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class LinearPreparation:
    """clip(gain · P x Qᵀ + offset): x (n, C, S, S) in [-1, 1] to the network's input (n, C, H, W)."""

    rows: torch.Tensor
    columns: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    low: float
    high: float
    turned: bool

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self._only_scales:
            moved = images * (self.rows[0, 0] * self.columns[0, 0])
        else:
            moved = self.rows @ images @ self.columns.T
        if self.turned:
            moved = moved.transpose(-1, -2)
        return (self.gain * moved + self.offset).clamp(self.low, self.high)

    @cached_property
    def _only_scales(self) -> bool:
        """Whether every pixel stays where it is."""
        return all(
            matrix.shape[0] == matrix.shape[1]
            and bool(torch.allclose(matrix, matrix[0, 0] * torch.eye(len(matrix)).to(matrix), atol=1e-6))
            for matrix in (self.rows, self.columns)
        )

    def to(self, device: torch.device) -> LinearPreparation:
        moved = {name: getattr(self, name).to(device) for name in ("rows", "columns", "gain", "offset")}
        return LinearPreparation(**moved, low=self.low, high=self.high, turned=self.turned)


@dataclass(frozen=True, eq=False)
class StandardisedPreparation:
    """(x - mean) / SD of each image, with rows and columns in their order or turned."""

    turned: bool

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        centered = images - images.mean((1, 2, 3), keepdim=True)
        scaled = centered / centered.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-8)
        return scaled.transpose(-1, -2) if self.turned else scaled

    def to(self, _device: torch.device) -> StandardisedPreparation:
        return self


def through_transforms(model: ExplainedModel, frame: SliceFrame) -> Transform:
    """Images (n, C, S, S) through the model's own transforms, one at a time, to its inputs (n, C, H, W)."""

    def prepare(images: torch.Tensor) -> torch.Tensor:
        found = [prepared_values(model, frame, frame.on_slice(image)) for image in images.detach().cpu()]
        return torch.stack(found).to(images.device)

    return prepare


def prepared_values(model: ExplainedModel, frame: SliceFrame, values: np.ndarray) -> torch.Tensor:
    """Values (C, ...) in the place of the slice, one voxel thick, as the network's input (C, H, W).

    Raises:
        ModelError: other channels than the network takes, or slices of another plane.
    """
    prepared = preprocess(frame.slice_volume(values), model.preprocessing())
    check_channels(model, prepared.tensor.shape[0])
    axis = SLICE_AXIS[model.inferer.plane] + 1
    slices = prepared.tensor.movedim(axis, 0)
    if min(slices.shape[2:]) < 2:
        raise ModelError(
            f"After the preprocessing of {model.name} the {frame.plane} slice is a line "
            f"({' x '.join(str(size) for size in prepared.tensor.shape[1:])}); the model looks at "
            f"{model.inferer.plane} slices.",
            f"Explain {model.inferer.plane} slices, with a generator of such slices.",
        )
    return slices[len(slices) // 2]


def find_preparation(
    model: ExplainedModel, frame: SliceFrame, examples: torch.Tensor
) -> LinearPreparation | StandardisedPreparation | None:
    """The operation that equals the model's transforms on the examples (n, C, S, S), or None if none does."""
    slow = through_transforms(model, frame)
    expected = slow(examples)
    scale = float(expected.max() - expected.min()) or 1.0
    candidates: list[LinearPreparation | StandardisedPreparation | None] = []
    try:
        candidates.append(_probe(slow, examples[:1]))
    except ModelError:  # the probes are flat, on which some transforms give no numbers
        pass
    candidates += [StandardisedPreparation(False), StandardisedPreparation(True)]
    for candidate in candidates:
        if candidate is None:
            continue
        found = candidate(examples)
        if found.shape == expected.shape and float((found - expected).abs().max()) <= EQUAL * scale:
            return candidate
    return None


def _probe(slow: Transform, example: torch.Tensor) -> LinearPreparation | None:
    """The linear operation, from its answers to flat images and to single bright rows and columns."""
    _, channels, size, _ = example.shape
    level, step = _unclipped_level(slow, channels, size), 0.05
    flat = torch.full((1, channels, size, size), level)
    base = slow(flat)[0]
    answer = (slow(flat + step)[0] - base) / step
    whole = answer[0]
    if float(whole.abs().max()) < 1e-12 or len(answer) != channels:
        return None
    places = torch.eye(size)
    bright_rows = flat + step * places[:, None, :, None].expand(-1, channels, -1, size)
    bright_columns = flat + step * places[:, None, None, :].expand(-1, channels, size, -1)
    by_row = (slow(bright_rows)[:, 0] - base[0]) / step
    by_column = (slow(bright_columns)[:, 0] - base[0]) / step
    high, wide = divmod(int(whole.abs().argmax()), whole.shape[1])
    turned = float(by_row[:, :, wide].var(1).sum()) < float(by_row[:, high].var(1).sum())
    rows = (by_row[:, high] if turned else by_row[:, :, wide]).T
    columns = (by_column[:, :, wide] if turned else by_column[:, high]).T / whole[high, wide]
    gain = (answer[:, high, wide] / whole[high, wide])[:, None, None]
    offset = base - level * answer
    lowest, highest = (float(extreme) for extreme in torch.stack([slow(flat - 20), slow(flat + 20)]).aminmax())
    reach = float(answer.abs().max()) * 15  # an unclipped answer moves by 20 times its slope
    low = lowest if float(base.min()) - lowest < reach else -np.inf
    high_end = highest if highest - float(base.max()) < reach else np.inf
    return LinearPreparation(rows, columns, gain, offset, low, high_end, turned)


def _unclipped_level(slow: Transform, channels: int, size: int) -> float:
    """A gray value around which the transforms clip least: models look at narrower windows than generators show."""
    levels = torch.linspace(-1, 1, LEVELS)
    answers = torch.stack([slow(torch.full((1, channels, size, size), float(level)))[0] for level in levels])
    slopes = answers.diff(dim=0).abs().flatten(1).sum(1)
    steepest = torch.minimum(slopes[:-1], slopes[1:])
    return float(levels[1 + int(steepest.argmax())])
