"""A weighted linear model of the answer over regions (Ribeiro 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import CoalitionSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class Lime(AttributionMethod):
    name, title, family = "lime", "LIME", "perturbation"
    effect = {"regression": 0.33}
    sanity = {"segmentation": 0.34}
    unit = "change per voxel"
    unreliable_on = ("segmentation",)
    Settings = CoalitionSettings

    def passes(self, case: Case) -> Passes:
        return (self.settings(case).coalitions + 3) * case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..coalitions import lime
        from ..hiding import region_game

        settings = self.settings(case)
        return region_game(case, settings.regions, lambda game: lime(game, settings.coalitions, case.seed))
