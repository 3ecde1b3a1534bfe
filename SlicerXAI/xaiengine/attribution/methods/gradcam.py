"""Grad-CAM: feature maps weighted by their mean gradients (Selvaraju 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class GradCam(AttributionMethod):
    name, title, family = "gradcam", "Grad-CAM", "cam"
    effect = {"regression": 0.65}
    aliases = ("seg_grad_cam",)
    needs = ("differentiable", "layers", "free_batch")
    signed = False
    unit = "weighted activation"
    unreliable_on = ("regression",)

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..class_activation import class_activation

        return class_activation(case, "gradcam")
