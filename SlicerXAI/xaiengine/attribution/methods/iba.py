"""The information bottleneck: bits of each place that the answer needs (Schulz 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import BottleneckSettingsOptions

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class InformationBottleneck(AttributionMethod):
    name, title, family = "iba", "Information bottleneck", "information"
    effect = {"regression": 0.53}
    sanity = {"segmentation": -0.04}
    needs = ("differentiable", "layers", "free_batch")
    signed = False
    unit = "bits/voxel"
    Settings = BottleneckSettingsOptions

    def passes(self, case: Case) -> Passes:
        from ..bottleneck.settings import expected_steps

        tail = Passes(2, 0, expected_steps(self.settings(case).schedule)) * case.rowwise_passes
        return tail

    def run(self, case: Case) -> Attribution:
        return case.bits(self.settings(case), "keep")
