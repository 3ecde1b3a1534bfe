"""How much work goes into checking an explanation."""

from __future__ import annotations

from dataclasses import dataclass

RANDOM_ORDERS = 5


@dataclass(frozen=True)
class Effort:
    """How much work goes into each sampled measure."""

    steps: int = 40
    orders: int = RANDOM_ORDERS
    subsets: int = 100
    perturbations: int = 128
    draws: int = 6
    models: int = 2
    seeds: int = 3
    tile: int = 8
    samples_again: int = 3
    """Samples that checks explain again, those with most of the map."""
