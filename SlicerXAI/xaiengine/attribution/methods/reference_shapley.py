"""Shapley values of regions, healthy reference scans in place of what is left out (Shapley 1953, Castro 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import ReferencePermutationSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class ReferenceShapley(AttributionMethod):
    name, title, family = "reference_shapley", "Shapley values against healthy scans", "perturbation"
    effect = {"regression": 0.8}
    aliases = ("healthy_shapley",)
    unit = "change per voxel"
    recommended_on = ("regression",)
    Settings = ReferencePermutationSettings

    def passes(self, case: Case) -> Passes:
        settings = self.settings(case)
        return (settings.regions * settings.reference_permutations) * case.value_pass()

    def run(self, case: Case) -> Attribution:
        from ..case import joined
        from ..reference_game import ReferenceGame, reference_shapley

        settings = self.settings(case)
        examples = case.reference_examples()
        parts = []
        for piece in case.pieces(rowwise=True):
            labels = case.labels(piece.row, settings.regions)
            game = ReferenceGame(piece.forward, piece.inputs, examples, labels, piece.batch_size)
            parts.append(reference_shapley(game, settings.reference_permutations, case.seed))
        return joined(parts)
