"""Expected gradients: integrated gradients averaged over healthy reference scans as baselines (Erion 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import ReferenceGradientSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class ReferenceGradients(AttributionMethod):
    name, title, family = "reference_gradients", "Expected gradients against healthy scans", "gradient"
    effect = {"regression": 0.75}
    aliases = ("expected_gradients",)
    needs = ("differentiable",)
    recommended_on = ("regression",)
    Settings = ReferenceGradientSettings

    def passes(self, case: Case) -> Passes:
        return (8 * self.settings(case).reference_steps) * case.gradient_pass(rowwise=True)

    def run(self, case: Case) -> Attribution:
        from ..case import joined
        from ..gradient import expected_gradients

        steps, examples = self.settings(case).reference_steps, case.reference_examples()
        return joined(
            [
                expected_gradients(piece.forward, piece.inputs, examples, steps=steps, batch_size=piece.batch_size)
                for piece in case.pieces(rowwise=True)
            ]
        )
