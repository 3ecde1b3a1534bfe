"""The signed gradient with respect to the input (Simonyan 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class Saliency(AttributionMethod):
    name, title, family = "saliency", "Saliency", "gradient"
    effect = {"regression": -0.03}
    sanity = {"segmentation": 0.03}
    aliases = ("gradient",)
    needs = ("differentiable",)
    unit = "change per input unit"
    per_input_unit = True

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..gradient import saliency

        return saliency(case.forward(), case.inputs)
