"""Integrated gradients along the straight path from the baseline (Sundararajan 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import PathSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class IntegratedGradients(AttributionMethod):
    name, title, family = "integrated_gradients", "Integrated gradients", "gradient"
    effect = {"regression": 0.21}
    sanity = {"segmentation": 0.02}
    aliases = ("ig",)
    needs = ("differentiable",)
    Settings = PathSettings

    def passes(self, case: Case) -> Passes:
        return (self.settings(case).steps or case.usual_path_steps) * case.gradient_pass() + case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..gradient import integrated_gradients

        settings = self.settings(case)
        return integrated_gradients(
            case.forward(),
            case.inputs,
            case.baseline,
            steps=settings.steps or None,
            max_steps=settings.max_steps or case.most_path_steps,
            batch_size=case.batch_size,
        )
