"""Do several methods say the same? Their rank correlation, the overlap of their peaks, and what they agree on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ..core.similarity import pearson, top_overlap

TOP_PART = 0.05


@dataclass(frozen=True)
class Pair:
    """Two methods: Spearman's rank correlation and the share of their top 5 % of voxels that they have in common."""

    first: str
    second: str
    spearman: float
    top_overlap: float


@dataclass(frozen=True, eq=False)
class Agreement:
    """``pairs`` of methods; ``consensus`` (0..1, mean rank of each voxel) and ``disagreement`` (SD of the ranks)."""

    pairs: tuple[Pair, ...]
    consensus: np.ndarray
    disagreement: np.ndarray


def agreement(maps: Mapping[str, np.ndarray]) -> Agreement:
    """Compare two or more maps of one shape by the ranks of their voxels, so that units do not matter.

    Signed maps are ranked by their positive part: what speaks for the target. Voxels of equal value share a rank.
    """
    ranks = {name: ranked(values) for name, values in maps.items()}
    pairs = tuple(
        Pair(first, second, pearson(ranks[first], ranks[second]), top_overlap(maps[first], maps[second], TOP_PART))
        for first, second in itertools.combinations(maps, 2)
    )
    stacked = np.stack(list(ranks.values()))
    return Agreement(pairs, stacked.mean(0), stacked.std(0))


def ranked(values: np.ndarray) -> np.ndarray:
    """The rank of each voxel's positive part, 0 for the lowest and 1 for the highest."""
    positive = np.maximum(values, 0)
    ranks = rankdata(positive.ravel(), method="average") - 1
    return (ranks / max(1, values.size - 1)).reshape(values.shape).astype(np.float32)
