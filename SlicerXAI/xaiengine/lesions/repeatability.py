"""How much burden varies with the random seed of the attribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import InputError
from .quantify import Quantification


@dataclass(frozen=True)
class BurdenSpread:
    """Burden of one region over seeds: mean and sample standard deviation, in mL and in percent of the region.

    The deviations are NaN for a single seed.
    """

    region: str
    seeds: int
    mean_ml: float
    sd_ml: float
    mean_percent: float
    sd_percent: float

    def row(self) -> dict[str, object]:
        """The spread as a row of a table, units in the column names."""
        return {
            "region": self.region,
            "seeds": self.seeds,
            "mean lesion volume (mL)": self.mean_ml,
            "SD of lesion volume (mL)": self.sd_ml,
            "mean burden (%)": self.mean_percent,
            "SD of burden (percentage points)": self.sd_percent,
        }


def spread_over_seeds(runs: Sequence[Quantification]) -> tuple[BurdenSpread, ...]:
    """Mean and SD of the burden of each region over runs that differ in the seed alone.

    Raises:
        InputError: there is no run, or the runs measured different regions.
    """
    if not runs:
        raise InputError("There is no run to average.", "Run at least one seed.")
    regions = [burden.region for burden in runs[0].burdens]
    for run in runs[1:]:
        if [burden.region for burden in run.burdens] != regions:
            raise InputError("The runs measured different regions.", "Use the same lungs and lobes for every seed.")
    return tuple(_spread(region, runs) for region in regions)


def _spread(region: str, runs: Sequence[Quantification]) -> BurdenSpread:
    burdens = [run.burden(region) for run in runs]
    volumes = np.array([burden.lesion_ml for burden in burdens])
    shares = np.array([burden.percent for burden in burdens])
    deviation = (lambda values: float(values.std(ddof=1))) if len(runs) > 1 else (lambda values: float("nan"))
    return BurdenSpread(
        region, len(runs), float(volumes.mean()), deviation(volumes), float(shares.mean()), deviation(shares)
    )
