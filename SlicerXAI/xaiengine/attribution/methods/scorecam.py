"""Score-CAM: feature maps weighted by what each keeps of the answer as a mask of the input (Wang 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution

USUAL_CHANNELS = 64
"""Of the layers that are explained by default."""


@register
class ScoreCam(AttributionMethod):
    name, title, family = "scorecam", "Score-CAM", "cam"
    effect = {"regression": 0.39}
    sanity = {"segmentation": -0.04}
    needs = ("layers", "free_batch")
    signed = False
    unit = "weighted activation"
    unreliable_on = ("regression",)

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass() + Passes(USUAL_CHANNELS) * case.rowwise_passes

    def run(self, case: Case) -> Attribution:
        from ..class_activation import class_activation

        return class_activation(case, "scorecam")
