"""GradientShap of a layer's units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import LayerSampleSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LayerGradientShap(AttributionMethod):
    name, title, family = "layer_gradient_shap", "Layer gradient shap", "layer"
    effect = {"regression": 0.71}
    sanity = {"segmentation": -0.15}
    needs = ("differentiable", "layers", "free_batch")
    unreliable_on = ("regression",)
    Settings = LayerSampleSettings

    def passes(self, case: Case) -> Passes:
        return Passes(1, 1) * (case.rowwise_passes * self.settings(case).samples) + 2 * case.value_pass(rowwise=True)

    def run(self, case: Case) -> Attribution:
        from ..layer_runs import layer_run

        return layer_run(case, "layer_gradient_shap", samples=self.settings(case).samples)
