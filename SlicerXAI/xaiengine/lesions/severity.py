"""Severity class of lung involvement, CT-0 to CT-4, from the lesions' share of the lungs.

The classes are those of the CT grading of COVID-19 (Morozov et al., MosMedData, arXiv 2005.06465): CT-0 no lesions,
CT-1 up to 25 % of the lungs, CT-2 25-50 %, CT-3 50-75 %, CT-4 above 75 %. A burden that lies exactly on a boundary
belongs to the lower class.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import OptionError

UPPER_BOUNDS_PERCENT = (25.0, 50.0, 75.0)
"""Largest burden, in percent of the lungs and included, of CT-1, CT-2 and CT-3."""

MINIMAL_BURDEN_PERCENT = 0.1
MINIMAL_LESION_ML = 0.3
"""Below both of these the scan counts as free of lesions (CT-0)."""

DESCRIPTIONS = (
    "no lesions",
    "mild, up to 25 % of the lungs",
    "moderate, 25 to 50 % of the lungs",
    "severe, 50 to 75 % of the lungs",
    "critical, more than 75 % of the lungs",
)


@dataclass(frozen=True)
class Severity:
    """One of the five classes; ``grade`` is 0..4."""

    grade: int

    @property
    def label(self) -> str:
        return f"CT-{self.grade}"

    @property
    def description(self) -> str:
        return DESCRIPTIONS[self.grade]

    def __str__(self) -> str:
        return f"{self.label} ({self.description})"


def classify_severity(
    burden_percent: float,
    lesion_ml: float | None = None,
    minimal_burden_percent: float = MINIMAL_BURDEN_PERCENT,
    minimal_lesion_ml: float = MINIMAL_LESION_ML,
) -> Severity:
    """Class of a burden given in percent of the lungs.

    CT-0 when the burden is below ``minimal_burden_percent`` and, where ``lesion_ml`` is given, the lesions together
    are below ``minimal_lesion_ml``: a nodule of 1 mL in lungs of 5 L is 0.02 % and a lesion all the same. A burden
    of 0 is CT-0 whatever the minima.

    Raises:
        OptionError: the burden is not a number from 0 to 100.
    """
    if not 0.0 <= burden_percent <= 100.0:
        raise OptionError(
            f"The burden is {burden_percent} % of the lungs; a share from 0 to 100 % was expected.",
            "Check that the lesions lie inside the lungs and that the lungs are not empty.",
        )
    small_share = burden_percent < minimal_burden_percent
    small_volume = lesion_ml is None or lesion_ml < minimal_lesion_ml
    if burden_percent == 0.0 or (small_share and small_volume):
        return Severity(0)
    return Severity(1 + sum(burden_percent > bound for bound in UPPER_BOUNDS_PERCENT))
