"""DeepLiftShap: DeepLift averaged over several baselines (Lundberg and Lee 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import BaselineSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class DeepLiftShap(AttributionMethod):
    name, title, family = "deep_lift_shap", "DeepLiftShap", "gradient"
    effect = {"regression": 0.44}
    needs = ("differentiable", "layers", "free_batch")
    Settings = BaselineSettings

    def passes(self, case: Case) -> Passes:
        return Passes(4, 2) * (case.rowwise_passes * self.settings(case).shap_baselines)

    def run(self, case: Case) -> Attribution:
        from ..backpropagation import deep_lift_shap

        return case.by_module(self.title, deep_lift_shap, linear=True, baselines=self.settings(case).shap_baselines)
