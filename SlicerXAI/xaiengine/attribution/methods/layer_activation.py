"""A layer's activation, which does not depend on the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LayerActivation(AttributionMethod):
    name, title, family = "layer_activation", "Layer activation", "layer"
    effect = {"regression": 0.22}
    sanity = {"segmentation": 0.01}
    needs = ("layers", "free_batch")
    unreliable_on = ("classification", "regression", "segmentation")
    signed = False
    caution = "It does not depend on the target."

    def passes(self, case: Case) -> Passes:
        return case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..layer_runs import layer_run

        return layer_run(case, "layer_activation")
