"""RISE: random masks weighted by what the model answers for the masked image (Petsiuk 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import MaskSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class Rise(AttributionMethod):
    name, title, family = "rise", "RISE", "perturbation"
    effect = {"regression": 0.4}
    sanity = {"segmentation": 0.43}
    unit = "target"
    unreliable_on = ("regression", "segmentation")
    Settings = MaskSettings

    def passes(self, case: Case) -> Passes:
        return self.settings(case).masks * case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..hiding import randomly_masked

        return randomly_masked(case, self.settings(case).masks)
