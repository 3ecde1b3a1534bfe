"""Attention times its positive gradients, propagated over the blocks (Chefer 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from torch import Tensor

    from ..case import Case
    from ..forward import Attribution, TargetForward


@register
class GradientAttention(AttributionMethod):
    name, title, family = "gradient_attention", "Gradient-weighted attention", "layer"
    aliases = ("chefer",)
    needs = ("differentiable", "layers")
    signed = False
    unit = "attention"

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..attention import attention_map

        def of(forward: TargetForward, inputs: Tensor, baseline: Tensor) -> Attribution:
            return attention_map(forward, inputs, "gradient_attention")

        return case.by_module(self.title, of, linear=True)
