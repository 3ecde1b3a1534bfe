"""The mean gradient over noisy copies of the input (Smilkov 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import NoiseSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class SmoothGrad(AttributionMethod):
    name, title, family = "smoothgrad", "SmoothGrad", "gradient"
    effect = {"regression": -0.01}
    sanity = {"segmentation": -0.01}
    needs = ("differentiable",)
    unit = "change per input unit"
    per_input_unit = True
    Settings = NoiseSettings

    def passes(self, case: Case) -> Passes:
        return self.settings(case).samples * case.gradient_pass(rowwise=True)

    def run(self, case: Case) -> Attribution:
        from ..noisy import noisy_gradients

        return noisy_gradients(case, self.settings(case), "smoothgrad")
