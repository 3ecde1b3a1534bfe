"""GradientShap: gradients at random points of paths from random baselines (Lundberg 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import GradientShapSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class GradientShap(AttributionMethod):
    name, title, family = "gradient_shap", "GradientShap", "gradient"
    effect = {"regression": 0.37}
    sanity = {"segmentation": 0.02}
    needs = ("differentiable",)
    Settings = GradientShapSettings

    def passes(self, case: Case) -> Passes:
        return self.settings(case).samples * case.gradient_pass(rowwise=True)

    def run(self, case: Case) -> Attribution:
        from ..case import joined
        from ..gradient import gradient_shap

        settings = self.settings(case)
        baselines = case.shap_baselines(settings.shap_baselines)
        return joined(
            [
                gradient_shap(
                    piece.forward,
                    piece.inputs,
                    baselines,
                    samples=settings.samples,
                    seed=case.seed,
                    batch_size=piece.batch_size,
                )
                for piece in case.pieces()
            ]
        )
