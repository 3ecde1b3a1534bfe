"""Attention rollout: attention multiplied over the blocks, whatever the target (Abnar and Zuidema 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..registry import AttributionMethod, Passes, register

if TYPE_CHECKING:
    from ..case import Case
    from ..forward import Attribution


@register
class AttentionRollout(AttributionMethod):
    name, title, family = "attention_rollout", "Attention rollout", "layer"
    aliases = ("rollout",)
    needs = ("differentiable", "layers")
    signed = False
    unit = "attention"

    def passes(self, case: Case) -> Passes:
        return case.gradient_pass()

    def run(self, case: Case) -> Attribution:
        from ..attention import attention_map

        return case.by_module(
            self.title, lambda forward, inputs, baseline: attention_map(forward, inputs, "rollout"), linear=True
        )
