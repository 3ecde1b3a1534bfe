"""CAM: feature maps weighted as the last linear layer weighs their means (Zhou 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class Cam(AttributionMethod):
    name, title, family = "cam", "CAM", "cam"
    effect = {"regression": 0.7}
    needs = ("differentiable", "layers", "free_batch")
    signed = True
    unit = "weighted activation"
    unreliable_on = ("regression",)

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..class_activation import class_activation

        return class_activation(case, "cam")
