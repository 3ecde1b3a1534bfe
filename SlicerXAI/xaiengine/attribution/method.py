"""What there is to know of a method: what it needs, what it costs, how far its maps can be relied on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..targets.targets import RegressionTarget, Target
from .case import Case
from .forward import Attribution

Family = Literal["information", "gradient", "cam", "layer", "perturbation"]
Run = Callable[[Case], Attribution]
_ON_VALUES = "On regression models its map stays partly the same when the weights are random; do not rely on it alone."


@dataclass(frozen=True)
class Method:
    """A method of attribution.

    ``run`` gives a map (N, C or 1, spatial...) on the input's voxels. ``passes`` estimates the forward passes per
    job, a backward pass counted as two. ``signed`` maps have evidence against the target below 0. ``sane`` is False
    for methods that fail the randomization check; ``caution`` says why. ``sane_on_values`` is False for those that
    fail it on regression models (planted scans, rank correlation above 0.2).
    """

    name: str
    title: str
    family: Family
    run: Run
    passes: Callable[[Case], float]
    needs: tuple[str, ...] = ("differentiable",)
    signed: bool = True
    sane: bool = True
    caution: str = ""
    per_input_unit: bool = False
    sane_on_values: bool = True

    @property
    def uses_layers(self) -> bool:
        return self.family in ("cam", "layer") or "layers" in self.needs

    def caution_for(self, target: Target) -> str:
        """What to say beside its maps; empty when they passed the check for this kind of target."""
        if not self.caution and not self.sane_on_values and isinstance(target, RegressionTarget):
            return _ON_VALUES
        return self.caution
