"""The bottleneck carried from a layer back to the input (Zhang 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import BottleneckSettingsOptions

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution

INPUT_PASSES = 240
"""Noisy images of the prior and of the mask: four copies in each of 60 steps."""


@register
class InputInformationBottleneck(AttributionMethod):
    name, title, family = "input_iba", "Input information bottleneck", "information"
    needs = ("differentiable", "layers", "free_batch")
    signed = False
    unit = "bits/voxel"
    Settings = BottleneckSettingsOptions

    def passes(self, case: Case) -> Passes:
        from ..bottleneck.settings import expected_steps

        tail = Passes(2, 0, expected_steps(self.settings(case).schedule)) * case.rowwise_passes
        return tail + Passes(1, 1) * (case.rowwise_passes * INPUT_PASSES)

    def run(self, case: Case) -> Attribution:
        return case.input_bits(self.settings(case))
