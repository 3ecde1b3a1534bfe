"""Gradient times activation at a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LayerGradientXActivation(AttributionMethod):
    name, title, family = "layer_gradient_x_activation", "Layer gradient x activation", "layer"
    effect = {"regression": 0.7}
    sanity = {"segmentation": 0.17}
    aliases = ("gradient_x_activation",)
    needs = ("differentiable", "layers", "free_batch")
    unreliable_on = ("regression",)

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..layer_runs import layer_run

        return layer_run(case, "layer_gradient_x_activation")
