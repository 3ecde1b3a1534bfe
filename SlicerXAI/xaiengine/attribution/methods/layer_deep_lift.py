"""DeepLift of a layer's units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LayerDeepLift(AttributionMethod):
    name, title, family = "layer_deep_lift", "Layer deep lift", "layer"
    effect = {"regression": 0.37}
    needs = ("differentiable", "layers", "free_batch")
    unreliable_on = ("regression",)

    def passes(self, case: Case) -> Passes:
        return Passes(4, 4) * case.rowwise_passes

    def run(self, case: Case) -> Attribution:
        from ..layer_runs import layer_run

        return layer_run(case, "layer_deep_lift")
