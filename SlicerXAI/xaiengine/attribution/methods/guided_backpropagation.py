"""Only positive gradients pass back through active ReLUs (Springenberg 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class GuidedBackpropagation(AttributionMethod):
    name, title, family = "guided_backpropagation", "Guided backpropagation", "gradient"
    effect = {"regression": -0.03}
    sanity = {"segmentation": -0.1}
    needs = ("differentiable", "layers", "free_batch")
    unit = "modified gradient"
    per_input_unit = True
    unreliable_on = ("classification", "regression", "segmentation")
    caution = "It shows edges of the image whatever the model has learned."

    def passes(self, case: Case) -> Passes:
        return Passes(2, 2) * case.rowwise_passes

    def run(self, case: Case) -> Attribution:
        from ..backpropagation import guided_backpropagation

        return case.by_module(self.title, lambda forward, inputs, baseline: guided_backpropagation(forward, inputs))
