"""DeepLift: differences to the baseline handed back by the rescale rule (Shrikumar 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class DeepLift(AttributionMethod):
    name, title, family = "deep_lift", "DeepLift", "gradient"
    effect = {"regression": 0.22}
    needs = ("differentiable", "layers", "free_batch")

    def passes(self, case: Case) -> Passes:
        return Passes(4, 2) * case.rowwise_passes

    def run(self, case: Case) -> Attribution:
        from ..backpropagation import deep_lift

        return case.by_module(self.title, deep_lift, linear=True)
