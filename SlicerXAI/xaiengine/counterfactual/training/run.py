"""The loop of a training: steps, log, figures, sample pictures, and states to resume from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...core.errors import CancelledError
from ...core.progress import Progress
from ..generator.generator_metrics import Features
from .checkpoint import resume, save_state
from .joint import ScoreTarget
from .metrics import held_out_figures, sample_grid, write_grid
from .training import GeneratorTrainer

_LOG_EVERY = 20


@dataclass
class TrainingRun:
    """A training in a folder.

    ``mark`` says whose training the folder may hold (see ``fingerprint``). ``held_out`` (n, C, S, S) in [-1, 1] are
    for figures and pictures; ``save_every`` and ``figures_every`` count steps (0: at the end only).
    """

    trainer: GeneratorTrainer
    folder: Path
    mark: str
    held_out: torch.Tensor
    features: Features
    target: ScoreTarget | None = None
    shown: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid
    save_every: int = 500
    figures_every: int = 0
    progress: Progress = field(default_factory=Progress)
    log: Callable[[str], None] = lambda text: None
    rows: list[dict[str, Any]] = field(default_factory=list)
    resumed_at: int = 0

    def resume(self) -> bool:
        """Continue what the folder holds. Raises InputError if that is another training."""
        rows = resume(self.folder, self.trainer, self.mark)
        if rows is None:
            return False
        self.rows, self.resumed_at = rows, self.trainer.step_number
        self.log(f"The training goes on at step {self.resumed_at}.")
        return True

    def run(self) -> dict[str, float]:
        """Train to the end; returns the last figures.

        Raises:
            DivergedError: a loss was not a number; the last saved state stays.
            ResourceError: the disk is full; the last saved state stays.
            CancelledError: the user stopped; the state was saved.
        """
        trainer = self.trainer
        steps = trainer.settings.steps
        recent: list[dict[str, float]] = []
        while trainer.step_number < steps:
            recent.append(trainer.step())
            number = trainer.step_number
            if number % _LOG_EVERY == 0 or number == steps:
                self.rows.append({"step": number, "images": trainer.seen, **_means(recent)})
                recent = []
            if self.figures_every and number % self.figures_every == 0 and number < steps:
                self._measure()
            if self.save_every and number % self.save_every == 0 or number == steps:
                save_state(self.folder, trainer, self.mark, self.rows)
            try:
                self.progress.update(number, steps)
            except CancelledError:
                save_state(self.folder, trainer, self.mark, self.rows)
                raise
        return self._measure()

    def _measure(self) -> dict[str, float]:
        number = self.trainer.step_number
        space = self.trainer.latent_space()
        figures = held_out_figures(space, self.held_out, self.features, self.target, self.shown)
        if self.rows and int(self.rows[-1]["step"]) == number:
            self.rows[-1] |= figures
        else:
            self.rows.append({"step": number, "images": self.trainer.seen, **figures})
        self.log(f"Step {number}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        write_grid(self.folder / f"samples_{number:07d}.png", sample_grid(space, self.held_out, self.target))
        return figures


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: sum(row[name] for row in rows if name in row) / sum(name in row for row in rows) for name in names}
