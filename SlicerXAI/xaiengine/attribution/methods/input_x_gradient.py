"""The gradient times the difference to the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class InputXGradient(AttributionMethod):
    name, title, family = "input_x_gradient", "Input x gradient", "gradient"
    effect = {"regression": -0.19}
    sanity = {"segmentation": 0.03}
    needs = ("differentiable",)

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass() + case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..gradient import input_x_gradient

        return input_x_gradient(case.forward(), case.inputs, case.baseline)
