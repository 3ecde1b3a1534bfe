"""Occlusion: how the answer changes when a block is hidden (Zeiler and Fergus 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import OcclusionSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class Occlusion(AttributionMethod):
    name, title, family = "occlusion", "Occlusion", "perturbation"
    effect = {"regression": 0.65}
    sanity = {"segmentation": -0.07}
    unit = "change per voxel"
    unreliable_on = ("regression",)
    Settings = OcclusionSettings

    def passes(self, case: Case) -> Passes:
        from ..hiding import occlusion_passes

        return occlusion_passes(case, self.settings(case))

    def run(self, case: Case) -> Attribution:
        from ..hiding import occluded

        return occluded(case, self.settings(case))
