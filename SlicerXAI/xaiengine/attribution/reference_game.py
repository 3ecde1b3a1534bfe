"""Shapley values of regions with healthy reference scans in place of what is left out.

A blurred image or a grey patch is nothing that a model has ever seen; what another, healthy patient shows at the same
place is. Coalitions keep some regions of the scan and show those of a reference scan elsewhere, with a soft seam, so
that the network meets plausible images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.errors import OptionError
from .baselines import gaussian_blur
from .coalitions import spread_evenly
from .forward import Attribution, Forward, completeness_error
from .regions import check_regions

SEAM = 1 / 64
"""SD of the seam between scan and reference, as a part of the image's extent along each axis."""


@dataclass
class ReferenceGame:
    """Values of coalitions of regions of one sample (1, C, spatial...) among ``examples`` (E, C, spatial...)."""

    forward: Forward
    inputs: torch.Tensor
    examples: torch.Tensor
    labels: torch.Tensor
    batch_size: int = 8
    seam: float = SEAM

    def __post_init__(self) -> None:
        self.count = check_regions(self.labels.cpu().numpy())
        self.labels = self.labels.to(self.inputs.device).long()
        self.sigma = [self.seam * size for size in self.inputs.shape[2:]]

    def values(self, kept: torch.Tensor, example: int) -> torch.Tensor:
        """Target values (B,) of coalitions, boolean (B, R), with one example in place of what they leave out."""
        always = torch.ones(len(kept), 1, dtype=torch.bool)
        other = self.examples[example : example + 1]
        found = []
        for chunk in torch.cat([always, kept.cpu()], 1).split(self.batch_size):
            mask = chunk.to(self.inputs.device)[:, self.labels][:, None].to(self.inputs.dtype)
            weight = gaussian_blur(mask, self.sigma)
            found.append(self.forward.values(other + weight * (self.inputs - other), len(chunk)))
        return torch.cat(found).double().cpu()


def reference_shapley(game: ReferenceGame, permutations: int = 16, seed: int = 0) -> Attribution:
    """Mean marginal contributions over random orders, each also walked backwards, the examples taken in turns.

    Complete for every number of orders: the scores add up to the scan's value minus the mean value of the examples,
    as far as they were used. ``relative_standard_error`` is that of the pairs of orders, between which the examples
    change, too.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = max(1, permutations // 2)
    contributions = torch.zeros(pairs, game.count, dtype=torch.float64)
    gains = torch.zeros(pairs, dtype=torch.float64)
    for pair in range(pairs):
        order = torch.randperm(game.count, generator=generator)
        both = [_marginals(game, way, pair % len(game.examples)) for way in (order, order.flip(0))]
        contributions[pair] = (both[0][0] + both[1][0]) / 2
        gains[pair] = both[0][1]
    scores = contributions.mean(0)
    spread = contributions.std(0) / pairs**0.5 if pairs > 1 else torch.full_like(scores, float("nan"))
    return Attribution(
        spread_evenly(scores, game.labels),
        unit="change per voxel",
        convergence={
            "regions": game.count,
            "permutations": 2 * pairs,
            "reference_examples": min(pairs, len(game.examples)),
            "completeness_error": completeness_error(scores[None], gains.mean()[None]),
            "relative_standard_error": float(spread.mean() / scores.abs().mean().clamp_min(1e-12)),
        },
    )


def _marginals(game: ReferenceGame, order: torch.Tensor, example: int) -> tuple[torch.Tensor, float]:
    """Scores (R,) along one order, and what the whole scan gains over the example."""
    kept = torch.zeros(game.count + 1, game.count, dtype=torch.bool)
    for step, region in enumerate(order.tolist(), start=1):
        kept[step:, region] = True
    values = game.values(kept, example)
    scores = torch.empty(game.count, dtype=torch.float64)
    scores[order] = values.diff()
    return scores, float(values[-1] - values[0])


def fitting_examples(examples: Sequence[torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """Those examples (C, spatial...) that can stand in the place of inputs (N, C, spatial...), as one tensor.

    Raises OptionError when there are none.
    """
    shape = tuple(inputs.shape[1:])
    chosen = [example for example in examples if tuple(example.shape) == shape]
    if not chosen:
        wanted = " x ".join(map(str, shape))
        found = f"none of the {len(examples)} known ones has" if examples else "none are known for this model"
        verb = f" the scan's size as the model sees it ({wanted})" if examples else ""
        raise OptionError(
            f"The method needs healthy reference scans; {found}{verb}.",
            "Run fit-reference over a folder of healthy scans of the same view and size: it keeps some of them. "
            "Models of slices and of windows have none.",
        )
    return torch.stack([example.to(inputs) for example in chosen])
