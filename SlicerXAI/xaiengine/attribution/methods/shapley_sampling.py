"""Shapley values of regions, over random orders (Castro 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import PermutationSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class ShapleySampling(AttributionMethod):
    name, title, family = "shapley_sampling", "Shapley value sampling", "perturbation"
    effect = {"regression": 0.31}
    sanity = {"segmentation": 0.29}
    unit = "change per voxel"
    unreliable_on = ("regression", "segmentation")
    Settings = PermutationSettings

    def passes(self, case: Case) -> Passes:
        return (self.settings(case).regions * self.settings(case).permutations) * case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..coalitions import shapley_sampling
        from ..hiding import region_game

        settings = self.settings(case)
        return region_game(
            case, settings.regions, lambda game: shapley_sampling(game, settings.permutations, case.seed)
        )
