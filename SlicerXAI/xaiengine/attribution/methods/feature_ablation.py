"""Ablation: how the answer changes when a region is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import RegionSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class FeatureAblation(AttributionMethod):
    name, title, family = "feature_ablation", "Ablation of regions", "perturbation"
    effect = {"regression": 0.55}
    sanity = {"segmentation": 0.27}
    unit = "change per voxel"
    unreliable_on = ("segmentation",)
    Settings = RegionSettings

    def passes(self, case: Case) -> Passes:
        return (self.settings(case).regions + 3) * case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..coalitions import feature_ablation
        from ..hiding import region_game

        settings = self.settings(case)
        return region_game(case, settings.regions, lambda game: feature_ablation(game))
