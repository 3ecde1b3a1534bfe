"""The variance of the gradient over noisy copies of the input (Adebayo 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import NoiseSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class VarGrad(AttributionMethod):
    name, title, family = "vargrad", "VarGrad", "gradient"
    effect = {"regression": -0.07}
    sanity = {"segmentation": 0.52}
    needs = ("differentiable",)
    signed = False
    unit = "squared change per input unit"
    unreliable_on = ("classification", "regression", "segmentation")
    Settings = NoiseSettings

    def passes(self, case: Case) -> Passes:
        return self.settings(case).samples * case.gradient_pass(rowwise=True)

    def run(self, case: Case) -> Attribution:
        from ..noisy import noisy_gradients

        return noisy_gradients(case, self.settings(case), "vargrad")
