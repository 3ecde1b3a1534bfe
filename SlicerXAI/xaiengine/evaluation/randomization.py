"""Sanity check: a map that survives when the model forgets what it learned explains the image, not the model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..core.errors import ModelError
from ..core.similarity import spearman, structural_similarity

CASCADE_STAGES = 5
FAITHFUL_SPEARMAN = 0.2
"""Above this correlation with the map of a fully randomized model, a method fails the check."""


@dataclass(frozen=True)
class Cascade:
    """Similarity of maps to the trained model's, after each stage; the last stage has no trained layer left.

    ``layers``: name of the layer randomized at each stage, from the output on. ``spearman`` of |map|; ``ssim`` of
    |map| scaled to 0..1. ``runs`` random models were averaged, ``error`` is the SD of the last Spearman over them.
    """

    layers: tuple[str, ...]
    spearman: np.ndarray
    ssim: np.ndarray
    error: float
    runs: int

    @property
    def final(self) -> float:
        """|Spearman| with the map of the fully randomized model."""
        return float(abs(self.spearman[-1]))

    @property
    def passed(self) -> bool:
        return self.final < FAITHFUL_SPEARMAN


def cascading_randomization(
    explain: Callable[[nn.Module], np.ndarray],
    network: nn.Module,
    stages: int = CASCADE_STAGES,
    runs: int = 3,
    seed: int = 0,
) -> Cascade:
    """Randomize the layers of a copy from the last to the first in ``stages`` steps (Adebayo 2018).

    ``explain`` takes a network to a map (spatial...). Layers with ``reset_parameters`` are initialized again, others
    draw from a normal distribution of the same mean and SD. A map that is zero or cannot be made after
    randomization counts as uncorrelated.

    Raises ModelError when the network has no parameters.
    """
    names = layers_with_parameters(network)
    if not names:
        raise ModelError("The model has no parameters to randomize.", "Leave out the randomization check.")
    groups = [list(group) for group in np.array_split(np.array(names[::-1], dtype=object), min(stages, len(names)))]
    reference = np.abs(explain(network))
    ranks = np.zeros((runs, len(groups)))
    structures = np.zeros((runs, len(groups)))
    for run in range(runs):
        twin = copy.deepcopy(network)
        with torch.random.fork_rng():
            torch.manual_seed(seed + run)
            for stage, group in enumerate(groups):
                for name in group:
                    randomize(twin.get_submodule(name))
                found = _map_or_zero(explain, twin, reference.shape)
                ranks[run, stage] = spearman(reference, found)
                structures[run, stage] = structural_similarity(reference, found)
    spread = float(ranks[:, -1].std(ddof=1)) if runs > 1 else float("nan")
    last = tuple(group[-1] or type(network).__name__ for group in groups)
    return Cascade(last, ranks.mean(0), structures.mean(0), spread, runs)


def _map_or_zero(explain: Callable[[nn.Module], np.ndarray], network: nn.Module, shape: tuple) -> np.ndarray:
    try:
        found = np.abs(explain(network))
    except ModelError:
        return np.zeros(shape)
    return found if np.isfinite(found).all() else np.zeros(shape)


def layers_with_parameters(network: nn.Module) -> list[str]:
    """Modules that own parameters, in the order of the network's definition; the network itself is named ""."""
    return [name for name, module in network.named_modules() if list(module.parameters(recurse=False))]


@torch.no_grad()
def randomize(module: nn.Module) -> None:
    """Initialize a module again from the global generator; normalization layers also forget their statistics."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
        return
    for parameter in module.parameters(recurse=False):
        spread = float(parameter.std()) if parameter.numel() > 1 else 1.0
        parameter.normal_(float(parameter.mean()), max(spread, 1e-3))
