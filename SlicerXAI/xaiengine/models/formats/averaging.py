"""Several networks, or several views of the input, as one network whose outputs are averaged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from ..outputs import OutputSelector


class AveragedNetwork(nn.Module):
    """The mean of the outputs of several networks of one architecture (cross-validation folds)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.folds = nn.ModuleList(networks)
        self._select = OutputSelector()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        total = self._select(self.folds[0](batch))
        for network in self.folds[1:]:
            total = total + self._select(network(batch))
        return total / len(self.folds)


class MirroredNetwork(nn.Module):
    """The mean over all combinations of flips of the input along ``axes`` (0 is the first spatial axis)."""

    def __init__(self, network: nn.Module, axes: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        spatial = [axis + 2 for axis in axes]
        self.flips = [flip for count in range(len(spatial) + 1) for flip in itertools.combinations(spatial, count)]
        self._select = OutputSelector()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(())
        for flip in self.flips:
            output = self._select(self.network(batch.flip(flip) if flip else batch))
            output = output.flip(flip) if flip else output
            total = output if flip == () else total + output
        return total / len(self.flips)


class OneOf(nn.Module):
    """One network of an ensemble by itself: its output is one tensor, as the ensemble's is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._select = OutputSelector()

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self._select(self.network(batch))


def fold_of(network: nn.Module, fold: int) -> nn.Module:
    """One network of an ensemble, over mirrored inputs too where the ensemble is.

    Raises TypeError for a network that is no ensemble.
    """
    if isinstance(network, MirroredNetwork):
        made = MirroredNetwork(fold_of(network.network, fold), ())
        made.flips = list(network.flips)
        return made
    if not isinstance(network, AveragedNetwork):
        raise TypeError(f"{type(network).__name__} is no ensemble")
    return OneOf(network.folds[fold])
