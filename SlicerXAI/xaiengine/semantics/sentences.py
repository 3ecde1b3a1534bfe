"""A semantic attribution in the words of a report."""

from __future__ import annotations

from collections.abc import Sequence

from .semantic_attribution import UNLABELED_NAME, ConceptShare

SMALLEST_SHARE = 0.05
MOST_NAMED = 4
LARGEST_GAP = 0.02


def findings_sentence(target: str, shares: Sequence[ConceptShare]) -> str:
    """``Findings that spoke for X: a (62 %), b (20 %); against: c (71 %).``

    Shares are of everything that spoke on the same side; what has less than 5 % of it is not named. Units without a
    known concept come last.
    """
    sides = []
    for words, side in ((f"spoke for {target}", 1), ("against", -1)):
        on_side = [bar for bar in shares if bar.contribution * side > 0 and bar.share >= SMALLEST_SHARE]
        on_side.sort(key=lambda bar: -bar.share)
        named = [bar for bar in on_side if bar.concept != UNLABELED_NAME][:MOST_NAMED]
        named += [bar for bar in on_side if bar.concept == UNLABELED_NAME]
        listed = ", ".join(f"{_name(bar)} ({bar.share:.0%})".replace("%", " %") for bar in named)
        sides.append(f"{words}: {listed or 'none'}")
    return f"Findings that {sides[0]}; {sides[1]}."


def _name(bar: ConceptShare) -> str:
    return "units without a known concept" if bar.concept == UNLABELED_NAME else bar.concept


def gap_sentence(relative_gap: float, bypass_share: float) -> str:
    """How much of the change of the prediction the bars leave out; what passes by the layer is named."""
    text = f"The bars miss {relative_gap:.1%} of the change of the prediction".replace("%", " %")
    if bypass_share > LARGEST_GAP:
        return f"{text}, because part of it passes by this layer."
    return f"{text}." if relative_gap <= LARGEST_GAP else f"{text}: more steps or another baseline may help."
