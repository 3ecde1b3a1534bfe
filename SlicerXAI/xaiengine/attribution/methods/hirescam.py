"""HiResCAM: gradient times activation, cell by cell (Draelos and Carin 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class HiResCam(AttributionMethod):
    name, title, family = "hirescam", "HiResCAM", "cam"
    effect = {"regression": 0.7}
    sanity = {"segmentation": 0.17}
    needs = ("differentiable", "layers", "free_batch")
    signed = True
    unit = "weighted activation"
    unreliable_on = ("regression",)

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..class_activation import class_activation

        return class_activation(case, "hirescam")
