"""Internal influence of a layer's units (Leino 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import LayerSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class InternalInfluence(AttributionMethod):
    name, title, family = "internal_influence", "Internal influence", "layer"
    effect = {"regression": -0.02}
    sanity = {"segmentation": 0.13}
    needs = ("differentiable", "layers", "free_batch")
    Settings = LayerSettings

    def passes(self, case: Case) -> Passes:
        return Passes(1, 1) * (case.rowwise_passes * self.settings(case).layer_steps) + 2 * case.value_pass(
            rowwise=True
        )

    def run(self, case: Case) -> Attribution:
        from ..layer_runs import layer_run

        return layer_run(case, "internal_influence", steps=self.settings(case).layer_steps)
