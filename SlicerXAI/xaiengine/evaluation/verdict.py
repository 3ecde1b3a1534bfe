"""Checks with thresholds, and one line that says what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check of an explanation.

    ``value`` with its Monte-Carlo ``error`` (None where there is none) is compared with ``threshold``: it passes when
    it is ``above`` it, or below it. ``random`` and ``edges`` are the same measure for maps that know nothing of the
    model (None where they have none). ``meaning`` says in words what was asked.
    """

    name: str
    value: float
    threshold: float
    meaning: str
    above: bool = True
    error: float | None = None
    random: float | None = None
    edges: float | None = None

    @property
    def passed(self) -> bool:
        return self.value > self.threshold if self.above else self.value < self.threshold

    def describe(self) -> str:
        sign = (">" if self.passed else "≤") if self.above else ("<" if self.passed else "≥")
        return f"{self.name} ({self.value:.2f} {sign} {self.threshold:.2f})"

    def row(self) -> dict[str, object]:
        """A row of the table of checks."""
        return {
            "check": self.name,
            "value": self.value,
            "error": self.error,
            "random map": self.random,
            "edge map": self.edges,
            "threshold": f"{'>' if self.above else '<'} {self.threshold:.3g}",
            "result": "passed" if self.passed else "failed",
            "meaning": self.meaning,
        }


def verdict_line(title: str, checks: Sequence[Check]) -> str:
    """One sentence for readers who know none of the measures.

    A map that fails the randomization check, or tells no more than a random map, is called unfaithful whatever else
    it passes; otherwise the share of passed checks decides.
    """
    passed = [check for check in checks if check.passed]
    failed = [check for check in checks if not check.passed]
    decisive = [check for check in failed if check.name in ("insertion-deletion", "randomization")]
    if not checks:
        return f"{title}: nothing was checked."
    if not failed:
        word = "this map can be trusted as far as these checks reach"
    elif decisive:
        word = "do not rely on this map"
    elif len(passed) * 3 >= len(checks) * 2:
        word = "this map is mostly faithful; mind what failed"
    else:
        word = "this map is doubtful"
    parts = [f"{title}: {len(passed)} of {len(checks)} checks passed, {word}."]
    if passed:
        parts.append(f"Passed: {', '.join(check.describe() for check in passed)}.")
    if failed:
        parts.append(f"Failed: {', '.join(check.describe() for check in failed)}.")
    return " ".join(parts)
