"""Shapley values of regions as a weighted regression (Lundberg and Lee 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import CoalitionSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class KernelShap(AttributionMethod):
    name, title, family = "kernel_shap", "KernelShap", "perturbation"
    effect = {"regression": 0.3}
    sanity = {"segmentation": -0.06}
    unit = "change per voxel"
    Settings = CoalitionSettings

    def passes(self, case: Case) -> Passes:
        return (self.settings(case).coalitions + 3) * case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..coalitions import kernel_shap
        from ..hiding import region_game

        settings = self.settings(case)
        return region_game(case, settings.regions, lambda game: kernel_shap(game, settings.coalitions, case.seed))
