"""AttnLRP: relevance propagated through attention (Achtibat, ICML 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from torch import Tensor

    from ..case import Case
    from ..forward import Attribution, TargetForward


@register
class AttnLrp(AttributionMethod):
    name, title, family = "attnlrp", "AttnLRP", "gradient"
    effect = {"regression": -0.12}
    aliases = ("attention_lrp",)
    needs = ("differentiable", "layers")
    signed = True
    unit = "relevance"

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..relevance import COMPOSITES, relevance

        rules = COMPOSITES["epsilon"]

        def of(forward: TargetForward, inputs: Tensor, baseline: Tensor) -> Attribution:
            return relevance(forward, inputs, rules)

        return case.by_module(self.title, of, linear=True)
