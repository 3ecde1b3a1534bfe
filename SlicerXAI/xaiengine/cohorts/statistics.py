"""What a study asks of a cohort: do groups differ, do numbers agree, does the model look at the same things?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from ..core.errors import InputError, OptionError
from .case import listed
from .table import PART

DRAWS = 2000
SMALLEST_GROUP = 3
OUTLIER = 3.5
"""Modified z-score (Iglewicz and Hoaglin 1993) above which a case looks elsewhere than the others."""


@dataclass(frozen=True)
class GroupDifference:
    """One value in two groups. ``effect``: Cliff's delta, -1..1 (above 0: larger in the first group), with its 95 %
    bootstrap interval; ``p`` of the Mann-Whitney U test, ``p_holm`` corrected for all values compared (Holm 1979)."""

    value: str
    first: str
    second: str
    first_count: int
    second_count: int
    first_median: float
    second_median: float
    effect: float
    low: float
    high: float
    p: float
    p_holm: float = float("nan")

    def row(self) -> dict[str, Any]:
        return asdict(self)


def compare_groups(rows: Sequence[Mapping[str, Any]], column: str, seed: int = 0) -> list[GroupDifference]:
    """Every number of the finished cases, compared between each two groups of a covariate.

    Raises:
        OptionError: no such column, or fewer than two groups of three cases each.
    """
    finished = [row for row in rows if row.get("status") == "finished"]
    if finished and not any(column in row for row in finished):
        raise OptionError(f"The cohort has no column {column!r}.", f"It has {listed(_columns(finished), 30)}.")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in finished:
        if row.get(column) not in ("", None):
            groups.setdefault(str(row[column]), []).append(row)
    large = [name for name in sorted(groups) if len(groups[name]) >= SMALLEST_GROUP]
    if len(large) < 2:
        sizes = ", ".join(f"{name}: {len(found)}" for name, found in sorted(groups.items())) or "none"
        raise OptionError(
            f"Groups of {column!r} ({sizes}) cannot be compared: two groups of at least {SMALLEST_GROUP} finished "
            "cases are needed.",
            "Choose another column, or add cases.",
        )
    found = [
        difference
        for number, first in enumerate(large)
        for second in large[number + 1 :]
        for name in numeric_columns(finished, leave_out=(column,))
        if (difference := _difference(name, first, second, groups[first], groups[second], seed)) is not None
    ]
    corrected = holm([item.p for item in found])
    return [GroupDifference(**{**asdict(item), "p_holm": p}) for item, p in zip(found, corrected)]


def _difference(name, first, second, ones, others, seed) -> GroupDifference | None:
    a, b = _numbers(ones, name), _numbers(others, name)
    if min(len(a), len(b)) < SMALLEST_GROUP or len(np.unique(np.concatenate([a, b]))) == 1:
        return None
    low, high = _interval(a, b, seed)
    p = float(stats.mannwhitneyu(a, b, alternative="two-sided").pvalue)
    return GroupDifference(
        name, first, second, len(a), len(b), float(np.median(a)), float(np.median(b)), cliffs_delta(a, b), low, high, p
    )


def cliffs_delta(a: np.ndarray, b: np.ndarray) -> float:
    """P(a > b) - P(a < b) over all pairs (Cliff 1993), -1..1."""
    u = stats.mannwhitneyu(a, b).statistic
    return float(2 * u / (len(a) * len(b)) - 1)


def _interval(a: np.ndarray, b: np.ndarray, seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    draws_a = a[generator.integers(len(a), size=(DRAWS, len(a)))]
    draws_b = b[generator.integers(len(b), size=(DRAWS, len(b)))]
    both = stats.rankdata(np.concatenate([draws_a, draws_b], axis=1), axis=1)[:, : len(a)]
    u = both.sum(axis=1) - len(a) * (len(a) + 1) / 2
    deltas = 2 * u / (len(a) * len(b)) - 1
    return float(np.quantile(deltas, 0.025)), float(np.quantile(deltas, 0.975))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number, step down (Holm 1979)."""
    order = np.argsort(p)
    corrected = np.empty(len(p))
    running = 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = running
    return corrected.tolist()


@dataclass(frozen=True)
class NumberAgreement:
    """A value of the results against a given number: correlations, mean difference, 95 % limits (Bland, Altman)."""

    value: str
    given: str
    count: int
    pearson: float
    spearman: float
    bias: float
    lower_limit: float
    upper_limit: float


def agreement_with(rows: Sequence[Mapping[str, Any]], value: str, given: str) -> NumberAgreement:
    """How a value of the finished cases agrees with a covariate.

    Raises:
        OptionError: a column is missing or holds no numbers, or fewer than three cases have both.
    """
    pairs = paired_numbers(rows, value, given)
    a, b = pairs[:, 0], pairs[:, 1]
    difference = a - b
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    constant = a.std() == 0 or b.std() == 0
    return NumberAgreement(
        value,
        given,
        len(pairs),
        float("nan") if constant else float(stats.pearsonr(a, b).statistic),
        float("nan") if constant else float(stats.spearmanr(a, b).statistic),
        bias,
        bias - 1.96 * sd,
        bias + 1.96 * sd,
    )


def paired_numbers(rows: Sequence[Mapping[str, Any]], value: str, given: str) -> np.ndarray:
    """The finished cases' two numbers, (n, 2)."""
    finished = [row for row in rows if row.get("status") == "finished"]
    for name in (value, given):
        if finished and not any(name in row for row in finished):
            raise OptionError(f"The cohort has no column {name!r}.", f"It has {listed(_columns(finished), 30)}.")
    pairs = [(_number(row.get(value)), _number(row.get(given))) for row in finished]
    kept = np.array([pair for pair in pairs if all(math.isfinite(number) for number in pair)], float).reshape(-1, 2)
    if len(kept) < SMALLEST_GROUP:
        raise OptionError(
            f"{len(kept)} finished cases have numbers in both {value!r} and {given!r}; at least {SMALLEST_GROUP} are "
            "needed.",
            "Choose columns with numbers.",
        )
    return kept


@dataclass(frozen=True)
class Consistency:
    """Does the model look at the same regions? ``mean`` (%) of each; ``entropy`` of the mean profile, 0 (one region)
    to 1 (all alike); ``outliers``: cases whose profile lies far from the median's, with their distance (z)."""

    mean: dict[str, float]
    entropy: float
    outliers: dict[str, float]


def consistency(rows: Sequence[Mapping[str, Any]]) -> Consistency | None:
    """Over the region shares of finished cases; None where there are none."""
    finished = [row for row in rows if row.get("status") == "finished"]
    columns = [name for name in numeric_columns(finished) if name.endswith(f"({PART})")]
    if not columns or len(finished) < SMALLEST_GROUP:
        return None
    profiles = np.array([[_number(row.get(name)) for name in columns] for row in finished])
    known = np.nan_to_num(profiles)
    mean = known.mean(axis=0)
    share = mean / mean.sum() if mean.sum() > 0 else np.full(len(mean), 1 / len(mean))
    entropy = (
        float(-(share[share > 0] * np.log(share[share > 0])).sum() / math.log(len(share))) if len(share) > 1 else 0
    )
    distance = np.abs(known - np.median(known, axis=0)).sum(axis=1)
    usual = float(np.median(distance))  # of a normal profile 0.6745 SD
    z = 0.6745 * distance / usual if usual > 0 else np.zeros(len(distance))
    far = {str(row["case"]): float(value) for row, value in zip(finished, z) if value > OUTLIER}
    return Consistency(dict(zip(columns, mean.tolist())), float(entropy), far)


def numeric_columns(rows: Sequence[Mapping[str, Any]], leave_out: Sequence[str] = ()) -> list[str]:
    """Columns that hold numbers wherever they hold anything, in order; what describes the run is none."""
    skipped = {"case", "status", "seconds", "attempts", "digest", "reason", "remedy", "warnings", *leave_out}
    found = []
    for name in _columns(rows):
        values = [row.get(name) for row in rows if row.get(name) not in ("", None)]
        if name not in skipped and values and all(math.isfinite(_number(value)) for value in values):
            found.append(name)
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    values = np.array([_number(row.get(name)) for row in rows], float)
    return values[np.isfinite(values)]


def _number(value: Any) -> float:
    if isinstance(value, bool) or value in ("", None):
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def agreement_columns(text: str) -> tuple[str, str]:
    """``VALUE=GIVEN`` as two column names. Raises InputError for anything else."""
    value, sign, given = text.partition("=")
    if not (sign and value and given):
        raise InputError(f"--agreement is {text!r}; VALUE=COLUMN was expected.", "For example burden_percent=score.")
    return value, given
