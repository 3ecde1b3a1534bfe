"""Settings and result of the information bottleneck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from ...core.errors import OptionError

Mode = Literal["full", "converged", "reference"]
Direction = Literal["keep", "destroy"]
Autocast = Literal["off", "auto", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class BottleneckSettings:
    """How the mask is optimized. The defaults of None depend on ``mode`` and ``direction``.

    mode: "full" runs until the map has moved by less than 8 % in ten steps, about a hundred of them, with a bounded
        mask (:mod:`.stopping`); "converged" until the map has changed by less than ``tolerance`` (relative L1 of the
        bits per cell) in each of ``patience`` steps running, a third of the passes, which may be a pause on the way
        and half of the bits away from the end; both within ``min_steps`` and ``max_steps`` (15 and 45, and 40 and 160
        for "full"). "reference" runs the published ``steps``, which stop in mid-descent, so that bits of different
        scans are not comparable.
    direction: "keep" finds what suffices for the prediction (IBA, Schulz et al. 2020), "destroy" all that must
        go to lose it (Inverse IBA, Khakzar et al. 2021).
    beta: weight of the mean information per neuron (10 to keep, 30 to destroy).
    copies: noisy copies of each sample and step; with ``antithetic``, half of them mirror the other half, which
        makes 2 as good as 10 independent ones.
    learning_rate, adam_betas: of Adam; 1 and (0.9, 0.999) as published for "reference", 1.5 and (0.8, 0.99) for
        "converged", which end nearer the map of 100 steps and sooner, 2.5 and (0.8, 0.95) for "full".
    sigma: Gaussian smoothing of the mask, in cells. initial_alpha: logit of the mask at the start.
    seed: with the row's id, the seed of each row's own noise.
    autocast: "bfloat16" or "float16" for the passes (the information stays in float32); "auto" times both.
    rows_per_pass: most rows (samples x copies) in one pass; None derives it from memory.
    memory_budget: bytes that one pass may take; None takes half of what is free.
    noise_check_copies: noisy copies for the question whether pure noise gives the prediction too.
    """

    mode: Mode = "converged"
    direction: Direction = "keep"
    beta: float | None = None
    steps: int = 10
    min_steps: int = 0
    max_steps: int = 0
    tolerance: float = 0.02
    patience: int = 2
    copies: int = 2
    antithetic: bool = True
    learning_rate: float | None = None
    adam_betas: tuple[float, float] | None = None
    sigma: float = 1.0
    initial_alpha: float = 5.0
    seed: int = 0
    autocast: Autocast = "off"
    rows_per_pass: int | None = None
    memory_budget: int | None = None
    noise_check_copies: int | None = None

    def __post_init__(self) -> None:
        usual = (40, 160) if self.mode == "full" else (15, 45)
        for name, steps in zip(("min_steps", "max_steps"), usual):
            if getattr(self, name) == 0:
                object.__setattr__(self, name, steps)
        for name, allowed in (
            ("mode", ("full", "converged", "reference")),
            ("direction", ("keep", "destroy")),
            ("autocast", ("off", "auto", "bfloat16", "float16")),
        ):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}.", f"Use {', '.join(allowed)}.")
        for name in ("steps", "min_steps", "max_steps", "patience", "copies"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} is {getattr(self, name)}.", "Use 1 or more.")
        for name in ("learning_rate", "tolerance"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise OptionError(f"{name} is {getattr(self, name)}.", "Use a number above 0.")
        if self.min_steps > self.max_steps:
            raise OptionError(f"min_steps {self.min_steps} is above max_steps {self.max_steps}.", "Swap them.")
        if self.antithetic and self.copies % 2:
            raise OptionError(
                f"copies is {self.copies}, which does not split into mirrored pairs.",
                "Use an even number, or turn antithetic off.",
            )
        if self.sigma < 0 or (self.beta is not None and self.beta < 0):
            raise OptionError("sigma and beta cannot be negative.", "Use 0 or more.")
        if self.rows_per_pass is not None and self.rows_per_pass < 1:
            raise OptionError(f"rows_per_pass is {self.rows_per_pass}.", "Use 1 or more.")

    @classmethod
    def published(cls, **changes: Any) -> BottleneckSettings:
        """The published optimization to the letter: 10 steps of 10 independent noisy copies."""
        return cls(**{"mode": "reference", "copies": 10, "antithetic": False, **changes})

    @property
    def information_weight(self) -> float:
        if self.beta is not None:
            return self.beta
        return 10.0 if self.direction == "keep" else 30.0

    @property
    def rate(self) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        return {"reference": 1.0, "converged": 1.5, "full": 2.5}[self.mode]

    def rate_at(self, step: int) -> float:
        """In the "full" mode it falls as 1 / step after 40 steps, so that the noise of the copies averages out."""
        return self.rate * min(1.0, 40 / step) if self.mode == "full" else self.rate

    @property
    def decays(self) -> tuple[float, float]:
        if self.adam_betas is not None:
            return self.adam_betas
        return {"reference": (0.9, 0.999), "converged": (0.8, 0.99), "full": (0.8, 0.95)}[self.mode]

    @property
    def most_steps(self) -> int:
        return self.steps if self.mode == "reference" else self.max_steps

    @property
    def check_copies(self) -> int:
        if self.noise_check_copies is not None:
            return self.noise_check_copies
        return 2 if self.mode == "reference" else 8


@dataclass(frozen=True)
class BottleneckMap:
    """What the bottleneck found, for N rows.

    bits: (N, *cells) bits in each cell of the layer, summed over channels; ``bits.py`` brings them to voxels.
    total_bits: (N,). steps: (N,) forward steps taken. converged: (N,) bool, whether the map came to rest.
    change_curve, bits_curve, loss_curve: (steps, N) relative change of the map, total bits and mean loss of the
        model at each step; NaN where not known (the first change, the last loss, rows that had finished).
    signal_loss: (N,) the objective for the unchanged activation. noise_loss: (N,) for pure noise.
    predicted_from_noise: (N,) share of noisy copies that give the explained answer without any information
        (NaN if the objective cannot tell): such an answer has 0 bits, whatever the map looks like.
    inactive_energy: largest share of a row's squared deviation that lies in neurons which the statistics call
        inactive; what it says cannot be seen.
    passes: passes forward and back through the layers after the bottleneck. warnings: to be shown to the user.
    All on the CPU, float32.
    """

    bits: Tensor
    total_bits: Tensor
    steps: Tensor
    converged: Tensor
    change_curve: Tensor
    bits_curve: Tensor
    loss_curve: Tensor
    signal_loss: Tensor
    noise_loss: Tensor
    predicted_from_noise: Tensor
    passes: int
    precision: str
    warnings: tuple[str, ...]
    settings: BottleneckSettings
    inactive_energy: float = 0.0


USUAL_STEPS = {"full": 100, "converged": 30}
"""Steps that the schedules take as a rule."""


def expected_steps(schedule: str) -> int:
    """Noisy copies that run forward and back behind the layer until a map is made."""
    steps = USUAL_STEPS.get(schedule, BottleneckSettings().steps)
    return steps * BottleneckSettings().copies
