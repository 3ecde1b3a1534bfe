"""How networks are called: with an input that they may write into, and as often as a stable output needs.

Networks that change their input in place (``x -= mean``, ``x.clamp_()``, a first ``ReLU(inplace=True)``) would
otherwise change the scan between two passes, and cannot be differentiated with respect to it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

FIRST_SEED = 20240


def own_input(network: nn.Module) -> nn.Module:
    """The network, which from now on receives a copy of every tensor that it is called with.

    A hook on the network itself, so that names of layers stay and every caller is served; TorchScript, which takes
    no hooks, is wrapped. Calling this again changes nothing.
    """
    if isinstance(network, torch.jit.ScriptModule):
        return Program(network)
    if not any(hook is _with_copies for hook in network._forward_pre_hooks.values()):
        network.register_forward_pre_hook(_with_copies)
    return network


def _with_copies(_network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(item.clone() if isinstance(item, torch.Tensor) else item for item in arguments)


class Program(nn.Module):
    """A TorchScript program, called with a copy of its input."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, batch: torch.Tensor) -> Any:
        return self.program(batch.clone())


class OneByOne(nn.Module):
    """A network without layers that takes one image at a time, called with any number of them."""

    def __init__(self, network: nn.Module, select: Any) -> None:
        super().__init__()
        self.network = network
        self._select = select

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._select(self.network(row)) for row in batch.split(1)])


class MeanOfPasses(nn.Module):
    """The mean output of a random network over ``passes`` passes with fixed seeds, each image by itself.

    So it is the same for the same image, wherever in a batch it lies. The caller's random state is kept.
    """

    def __init__(self, network: nn.Module, select: Any, passes: int) -> None:
        super().__init__()
        self.network = network
        self.passes = passes
        self._select = select

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._mean(row) for row in batch.split(1)])

    def _mean(self, row: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(())
        for number in range(self.passes):
            with seeded(FIRST_SEED + number, row.device):
                output = self._select(self.network(row))
            total = output if number == 0 else total + output
        return total / self.passes


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within the block PyTorch's, NumPy's and Python's random numbers start at a seed; afterwards they go on."""
    devices = [device] if device is not None and device.type == "cuda" else []
    plain, numbers = random.getstate(), np.random.get_state()  # noqa: NPY002  a network may use the global state
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)  # noqa: NPY002
