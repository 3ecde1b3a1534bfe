"""LeGrad: positive gradients of the target with respect to the attention, over all blocks (Bousselham 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from torch import Tensor

    from ..case import Case
    from ..forward import Attribution, TargetForward


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

        def of(forward: TargetForward, inputs: Tensor, baseline: Tensor) -> Attribution:
            return attention_map(forward, inputs, "legrad")

        return case.by_module(self.title, of, linear=True)
