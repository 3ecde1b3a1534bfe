"""LeGrad: positive gradients of the target with respect to the attention, over all blocks (Bousselham 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LeGrad(AttributionMethod):
    name, title, family = "legrad", "LeGrad", "layer"
    aliases = ()
    needs = ("differentiable", "layers")
    signed = False
    unit = "attention"

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..attention import attention_map

        return case.by_module(
            self.title, lambda forward, inputs, baseline: attention_map(forward, inputs, "legrad"), linear=True
        )
