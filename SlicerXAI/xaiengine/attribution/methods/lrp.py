"""Layer-wise relevance propagation for convolutional networks (Bach 2015, Montavon 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import RelevanceSettings

if TYPE_CHECKING:
    from torch import Tensor

    from ..case import Case
    from ..forward import Attribution, TargetForward


@register
class LayerwiseRelevance(AttributionMethod):
    name, title, family = "lrp", "Layer-wise relevance propagation", "gradient"
    effect = {"regression": -0.06}
    aliases = ("layerwise_relevance_propagation",)
    needs = ("differentiable", "layers")
    signed = True
    unit = "relevance"
    Settings = RelevanceSettings

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from dataclasses import replace

        from ..relevance import COMPOSITES, relevance

        settings = self.settings(case)
        rules = replace(COMPOSITES[settings.composite], gamma=settings.lrp_gamma, epsilon=settings.lrp_epsilon)

        def of(forward: TargetForward, inputs: Tensor, baseline: Tensor) -> Attribution:
            return relevance(forward, inputs, rules)

        return case.by_module(self.title, of, linear=True)
