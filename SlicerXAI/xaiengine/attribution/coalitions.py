"""Attributions from keeping some regions of an image and replacing the others: ablation, Shapley values, LIME.

Region r of a label image (labels 1..R, 0 is never changed) is a player; a coalition keeps its regions from the
input and takes the others from the baseline. A region's score is spread evenly over its voxels, so that the map's
sum over any set of regions is the sum of their scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from .forward import Attribution, Forward, completeness_error
from .regions import check_regions


@dataclass
class RegionGame:
    """Values of coalitions of regions of one sample (1, C, spatial...)."""

    forward: Forward
    inputs: torch.Tensor
    baseline: torch.Tensor
    labels: torch.Tensor
    batch_size: int = 8
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = check_regions(self.labels.cpu().numpy())
        self.labels = self.labels.to(self.inputs.device).long()

    def values(self, kept: torch.Tensor) -> torch.Tensor:
        """Target values (B,) of coalitions, boolean (B, R)."""
        found = []
        always = torch.ones(len(kept), 1, dtype=torch.bool)
        for chunk in torch.cat([always, kept.cpu()], 1).split(self.batch_size):
            mask = chunk.to(self.inputs.device)[:, self.labels][:, None]
            found.append(self.forward.values(torch.where(mask, self.inputs, self.baseline), len(chunk)))
        return torch.cat(found).double().cpu()

    def painted(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores (R,) spread over the voxels of their regions, (1, 1, spatial...)."""
        return spread_evenly(scores, self.labels)

    def result(self, scores: torch.Tensor, **convergence: float) -> Attribution:
        whole = self.values(torch.stack([torch.ones(self.count), torch.zeros(self.count)]).bool())
        error = completeness_error(scores[None], (whole[0] - whole[1])[None])
        return Attribution(
            self.painted(scores),
            unit="change per voxel",
            convergence={"regions": self.count, "completeness_error": error, **convergence},
        )


def spread_evenly(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Scores (R,) of regions 1..R of labels (spatial...), each the same in all of its voxels, (1, 1, spatial...)."""
    sizes = torch.bincount(labels.flatten(), minlength=len(scores) + 1)
    density = torch.zeros(len(scores) + 1, device=labels.device)
    density[1:] = scores.to(labels.device).float() / sizes[1:].clamp_min(1)
    return density[labels][None, None]


def feature_ablation(game: RegionGame) -> Attribution:
    """f(x) - f(x without the region), for each region."""
    kept = ~torch.eye(game.count, dtype=torch.bool)
    everything = game.values(torch.ones(1, game.count, dtype=torch.bool))
    return game.result(everything - game.values(kept))


def shapley_sampling(game: RegionGame, permutations: int = 16, seed: int = 0) -> Attribution:
    """Mean marginal contributions over random orders (Castro 2009), each order also walked backwards.

    Orders in pairs with their reverse cancel pairwise interactions exactly. Complete for every number of orders.
    The relative standard error is that of the pairs' means.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = max(1, permutations // 2)
    contributions = torch.zeros(pairs, game.count, dtype=torch.float64)
    for pair in range(pairs):
        order = torch.randperm(game.count, generator=generator)
        contributions[pair] = (_marginals(game, order) + _marginals(game, order.flip(0))) / 2
    scores = contributions.mean(0)
    spread = contributions.std(0) / pairs**0.5 if pairs > 1 else torch.full_like(scores, float("nan"))
    relative = float(spread.mean() / scores.abs().mean().clamp_min(1e-12))
    return game.result(scores, permutations=2 * pairs, relative_standard_error=relative)


def _marginals(game: RegionGame, order: torch.Tensor) -> torch.Tensor:
    kept = torch.zeros(game.count + 1, game.count, dtype=torch.bool)
    for step, region in enumerate(order.tolist(), start=1):
        kept[step:, region] = True
    steps = game.values(kept).diff()
    scores = torch.empty(game.count, dtype=torch.float64)
    scores[order] = steps
    return scores


def kernel_shap(game: RegionGame, samples: int = 256, seed: int = 0) -> Attribution:
    """Shapley values as a weighted regression (Lundberg and Lee 2017), complete by construction.

    Coalitions of sizes 1..R-1 are drawn with the Shapley kernel's weight, in complementary pairs; all of them are
    taken when there are no more than ``samples``, which makes the values exact.
    """
    count = game.count
    kept, weights = _shapley_coalitions(count, samples, seed)
    ends = game.values(torch.stack([torch.zeros(count), torch.ones(count)]).bool())
    gain = float(ends[1] - ends[0])
    target = game.values(kept) - ends[0]
    # The last region's score is the gain minus the others', so that the values add up exactly.
    design = kept[:, :-1].double() - kept[:, -1:].double()
    response = target - kept[:, -1].double() * gain
    root = weights.sqrt()
    solution = torch.linalg.lstsq(design * root[:, None], response * root, driver="gelsd").solution
    scores = torch.cat([solution, (gain - solution.sum())[None]])
    residual = float(((design @ solution - response) * root).square().sum().sqrt() / max(abs(gain), 1e-12))
    return game.result(scores, coalitions=len(kept), fit_residual=residual / float(root.norm()))


def _shapley_coalitions(count: int, samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = torch.arange(1, count, dtype=torch.float64)
    by_size = (count - 1) / (sizes * (count - sizes))
    if count <= 20 and 2**count - 2 <= samples:
        numbers = torch.arange(1, 2**count - 1)
        kept = (numbers[:, None] >> torch.arange(count)) & 1 > 0
        size = kept.sum(1)
        of_each_size = torch.tensor([math.comb(count, int(entry)) for entry in size], dtype=torch.float64)
        return kept, by_size[size - 1] / of_each_size
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(by_size, max(count, samples // 2), replacement=True, generator=generator) + 1
    half = torch.stack([_random_subset(count, int(size), generator) for size in drawn])
    kept = torch.cat([half, ~half])
    return kept, torch.ones(len(kept), dtype=torch.float64)


def _random_subset(count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    kept = torch.zeros(count, dtype=torch.bool)
    kept[torch.randperm(count, generator=generator)[:size]] = True
    return kept


def lime(
    game: RegionGame, samples: int = 256, seed: int = 0, kernel_width: float = 0.25, ridge: float = 1e-3
) -> Attribution:
    """A weighted linear model of the prediction around the scan (Ribeiro 2016).

    Half the regions are kept in each sample; samples weigh exp(-d² / width²) with d the cosine distance to the
    whole scan, as the authors' code does. ``fit_r2`` tells how linear the prediction is there.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = torch.rand(max(samples, game.count + 1), game.count, generator=generator) < 0.5
    kept[0] = True
    target = game.values(kept)
    cosine = kept.double().mean(1).sqrt()
    weights = torch.exp(-((1 - cosine) ** 2) / kernel_width**2)
    design = torch.cat([kept.double(), torch.ones(len(kept), 1, dtype=torch.float64)], 1)
    penalty = ridge * weights.sum() * torch.eye(design.shape[1], dtype=torch.float64)
    penalty[-1, -1] = 0
    normal = design.T @ (weights[:, None] * design) + penalty
    solution = torch.linalg.solve(normal, design.T @ (weights * target))
    mean = (weights * target).sum() / weights.sum()
    residual = (weights * (target - design @ solution) ** 2).sum()
    fit = 1 - float(residual / (weights * (target - mean) ** 2).sum().clamp_min(1e-20))
    return game.result(solution[:-1], samples=len(kept), fit_r2=fit)
