"""The bottleneck at an early layer, where deeper layers need bits too (Khakzar 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register
from ..settings import GateSettings

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class MultilayerInformationBottleneck(AttributionMethod):
    name, title, family = "multilayer_iba", "Multi-layer information bottleneck", "information"
    effect = {"regression": 0.55}
    needs = ("differentiable", "layers", "free_batch")
    signed = False
    unit = "bits/voxel"
    Settings = GateSettings

    def passes(self, case: Case) -> Passes:
        from ..bottleneck.settings import expected_steps

        tail = Passes(2, 0, expected_steps(self.settings(case).schedule)) * case.rowwise_passes
        return tail * max(1, len(case.multilayer_layers))

    def run(self, case: Case) -> Attribution:
        return case.multilayer_bits(self.settings(case))
