"""Conductance of a layer's units (Dhamdhere 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import LayerSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LayerConductance(AttributionMethod):
    name, title, family = "layer_conductance", "Layer conductance", "layer"
    effect = {"regression": 0.37}
    sanity = {"segmentation": -0.0}
    needs = ("differentiable", "layers", "free_batch")
    unreliable_on = ("regression",)
    Settings = LayerSettings

    def passes(self, case: Case) -> Passes:
        return Passes(1, 1) * (case.rowwise_passes * self.settings(case).layer_steps) + 2 * case.value_pass(
            rowwise=True
        )

    def run(self, case: Case) -> Attribution:
        from ..layer_runs import layer_run

        return layer_run(case, "layer_conductance", steps=self.settings(case).layer_steps)
