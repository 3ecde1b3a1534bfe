"""Only positive gradients pass back through every ReLU (Zeiler and Fergus 2014)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class Deconvolution(AttributionMethod):
    name, title, family = "deconvolution", "Deconvolution", "gradient"
    effect = {"regression": 0.01}
    sanity = {"segmentation": -0.04}
    needs = ("differentiable", "layers", "free_batch")
    unit = "modified gradient"
    per_input_unit = True
    unreliable_on = ("classification", "regression", "segmentation")
    caution = "It shows edges of the image whatever the model has learned."

    def passes(self, case: Case) -> Passes:
        return Passes(2, 2) * case.rowwise_passes

    def run(self, case: Case) -> Attribution:
        from ..backpropagation import deconvolution

        return case.by_module(self.title, lambda forward, inputs, baseline: deconvolution(forward, inputs))
