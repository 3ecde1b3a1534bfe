"""LayerCAM: positive gradients times activation, cell by cell (Jiang 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class LayerCam(AttributionMethod):
    name, title, family = "layercam", "LayerCAM", "cam"
    effect = {"regression": 0.62}
    sanity = {"segmentation": 0.26}
    needs = ("differentiable", "layers", "free_batch")
    signed = False
    unit = "weighted activation"
    unreliable_on = ("regression", "segmentation")

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..class_activation import class_activation

        return class_activation(case, "layercam")
