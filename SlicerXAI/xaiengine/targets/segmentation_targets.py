"""What number of a segmentation is explained: a class over its mask, a volume, a Dice, an error.

Masks are frozen at the unperturbed prediction: a target means the same voxels for every perturbed input. A target
knows the smallest ``box`` around the voxels it looks at; outputs that it is given may cover the whole image or
just that box.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..core.boxes import Box, bounding_box, box_size, index_of
from ..core.errors import ModelError
from .targets import Target

OutputForm = Literal["softmax", "sigmoid", "probabilities"]
"""How outputs become probabilities: ``probabilities`` are such already. One channel is always binary."""

VoxelScore = Literal["logit", "log_odds", "probability"]


@dataclass(frozen=True, eq=False)
class SegmentationTarget(Target):
    """One number of a segmentation's output (N, K, spatial...).

    ``mask`` (spatial...) is where the target looks; only its bounding box is kept. ``channels`` is K.
    """

    title: str
    mask: Tensor
    channels: int
    form: OutputForm = "softmax"
    box: Box = field(init=False)
    support: Tensor = field(init=False)
    image_size: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        mask = self.mask.bool()
        box = bounding_box(mask)
        if box is None:
            raise ModelError(f"The target {self.title} holds no voxel.", "Choose a target that the scan contains.")
        object.__setattr__(self, "image_size", tuple(mask.shape))
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "support", mask[box].clone())
        object.__setattr__(self, "mask", None)  # the box is enough, and whole scans of masks are not

    @property
    def name(self) -> str:
        return self.title

    @property
    def linear(self) -> bool:
        """Whether the value is linear in the output; its cotangent then needs no output."""
        return False

    @property
    def voxels(self) -> int:
        return int(self.support.sum())

    def full_mask(self) -> Tensor:
        """The target's voxels over the whole image, boolean (spatial...)."""
        mask = torch.zeros(self.image_size, dtype=torch.bool, device=self.support.device)
        mask[self.box] = self.support
        return mask

    def value(self, output: Tensor) -> Tensor:
        """The explained number of each sample, (N,) float32, from outputs on the image or on the target's box."""
        output = output.float()
        if output.shape[1] != self.channels:
            raise ModelError(
                f"The target {self.title} was made for {self.channels} outputs per voxel, not {output.shape[1]}.",
                "Explain the model with which the target was chosen.",
            )
        if tuple(output.shape[2:]) == self.image_size:
            output = output[index_of(self.box)]
        if tuple(output.shape[2:]) != box_size(self.box):
            raise ValueError(f"an output on {tuple(output.shape[2:])} voxels fits neither image nor box")
        return self.value_in_box(output)

    def cotangent(self, output: Tensor | None = None) -> Tensor:
        """The derivative of the value with respect to the output; linear targets need none to tell."""
        if output is None:
            raise ValueError(f"the derivative of {self.title} depends on the output")
        return super().cotangent(output)

    def flipped(self, axes: Sequence[int]) -> SegmentationTarget:
        """The same voxels of an image that is stored the other way around along some of its axes (0 to 2)."""
        made = copy(self)
        sizes = enumerate(zip(self.box, self.image_size))
        box = [slice(n - part.stop, n - part.start) if axis in axes else part for axis, (part, n) in sizes]
        object.__setattr__(made, "box", tuple(box))
        for name, item in vars(self).items():
            if isinstance(item, Tensor):
                object.__setattr__(made, name, item.flip(tuple(axes)))
        return made

    @abstractmethod
    def value_in_box(self, output: Tensor) -> Tensor:
        """The value from outputs (N, K, box...), float32."""

    def to(self, device: torch.device) -> SegmentationTarget:
        """The same target with its masks on a device."""
        for name, item in vars(self).items():
            if isinstance(item, Tensor):
                object.__setattr__(self, name, item.to(device))
        return self


@dataclass(frozen=True, eq=False)
class VoxelTarget(SegmentationTarget):
    """The sum or mean over the mask of a class' score, or of its difference to another class.

    ``against`` is a channel, or for each voxel of the image a channel (a class predicted in place of this one).
    """

    index: int = 0
    against: int | Tensor | None = None
    score: VoxelScore = "logit"
    mean: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.against, Tensor):
            object.__setattr__(self, "against", self.against[self.box].long())

    @property
    def linear(self) -> bool:
        binary = self.form == "sigmoid" or (self.channels == 1 and self.form != "probabilities")
        return self.score == "logit" or (self.score == "log_odds" and binary)

    def cotangent(self, output: Tensor | None = None) -> Tensor:
        """The derivative of the value: (1, K, box...) where the target is linear, whatever the output."""
        if not self.linear:
            return super().cotangent(output)
        weights = torch.zeros(1, self.channels, *self.support.shape, device=self.support.device)
        share = self.support.float() / (self.voxels if self.mean else 1)
        weights[0, self.index] += share
        if isinstance(self.against, Tensor):
            weights[0].scatter_add_(0, self.against[None], -share[None])
        elif self.against is not None:
            weights[0, self.against] -= share
        return weights

    def value_in_box(self, output: Tensor) -> Tensor:
        scores = voxel_scores(output, self.index, self.score, self.form)
        if isinstance(self.against, Tensor):
            index = self.against[None, None].expand(len(output), 1, *self.against.shape)
            scores = scores - all_scores(output, self.score, self.form).gather(1, index)[:, 0]
        elif self.against is not None:
            scores = scores - voxel_scores(output, self.against, self.score, self.form)
        total = (scores * self.support).flatten(1).sum(1)
        return total / self.voxels if self.mean else total


@dataclass(frozen=True, eq=False)
class SoftVolumeTarget(SegmentationTarget):
    """The volume in mL that a class has when each voxel counts by its probability."""

    index: int = 0
    voxel_ml: float = 0.001

    @property
    def unit(self) -> str:
        return "mL"

    def value_in_box(self, output: Tensor) -> Tensor:
        probability = voxel_scores(output, self.index, "probability", self.form)
        return (probability * self.support).flatten(1).sum(1) * self.voxel_ml


@dataclass(frozen=True, eq=False)
class SoftDiceTarget(SegmentationTarget):
    """Soft Dice 2 Σ p g / (Σ p + Σ g) of a class against a reference ``truth`` (spatial...), over the mask."""

    index: int = 0
    truth: Tensor | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "truth", self.truth[self.box].float() * self.support)

    def value_in_box(self, output: Tensor) -> Tensor:
        probability = voxel_scores(output, self.index, "probability", self.form) * self.support
        common = (probability * self.truth).flatten(1).sum(1)
        return 2 * common / (probability.flatten(1).sum(1) + self.truth.sum() + 1e-6)


def all_scores(output: Tensor, score: VoxelScore, form: OutputForm) -> Tensor:
    """The scores of every class, (N, K, spatial...)."""
    if score == "logit":
        return output
    channels = range(output.shape[1])
    return torch.stack([voxel_scores(output, index, score, form) for index in channels], 1)


def voxel_scores(output: Tensor, index: int, score: VoxelScore, form: OutputForm) -> Tensor:
    """The score of one class at each voxel, (N, spatial...), from outputs (N, K, spatial...) in float32.

    ``log_odds`` are log p / (1 - p): for softmax the logit against the log-sum-exp of the others.
    """
    logit = output[:, index]
    if score == "logit":
        return logit
    if form == "probabilities":
        return logit if score == "probability" else torch.logit(logit, eps=1e-6)
    if form == "sigmoid" or output.shape[1] == 1:
        return logit.sigmoid() if score == "probability" else logit
    if score == "probability":
        return output.softmax(1)[:, index]
    others = [channel for channel in range(output.shape[1]) if channel != index]
    return logit - output[:, others].logsumexp(1)


def predicted_masks(output: Tensor, form: OutputForm) -> Tensor:
    """Which classes are predicted at each voxel, boolean (K, spatial...), from one output (1, K, spatial...).

    Softmax models choose one class per voxel, sigmoid models any number; one channel is predicted where its
    probability exceeds one half.
    """
    output = output[0]
    threshold = 0.5 if form == "probabilities" else 0.0
    if form == "sigmoid" or len(output) == 1:
        return output > threshold
    winner = output.argmax(0)
    return torch.stack([winner == channel for channel in range(len(output))])


def output_form(output: Tensor, activation: Literal["softmax", "sigmoid", "none"]) -> tuple[OutputForm, str]:
    """How a network's outputs are to be read, and a note where that is not what its description says.

    Outputs within 0..1 are taken for probabilities: a second softmax or sigmoid would squash them. With activation
    ``none``, outputs that are no probabilities are taken for logits, softmax for several channels.
    """
    low, high = float(output.min()), float(output.max())
    if low >= -1e-4 and high <= 1 + 1e-4:
        note = (
            ""
            if activation == "none"
            else (
                f"The outputs of the network are probabilities already ({low:.2g} to {high:.2g}); its description "
                f"names {activation} as activation, which was not applied a second time."
            )
        )
        return "probabilities", note
    if activation != "none":
        return ("sigmoid" if output.shape[1] == 1 else activation), ""
    guess: OutputForm = "sigmoid" if output.shape[1] == 1 else "softmax"
    note = (
        f"The description of the model names no activation, but its outputs ({low:.3g} to {high:.3g}) are logits; "
        f"{guess} was assumed."
    )
    return guess, note
