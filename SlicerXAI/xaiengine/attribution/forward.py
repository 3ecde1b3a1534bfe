"""The network as a function from inputs to the explained number, counted, checked and cancellable."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from ..core.errors import ModelError
from ..core.progress import Progress
from ..targets.targets import Target

if TYPE_CHECKING:
    from ..inference.window_layers import LayerLattice


class Forward(Protocol):
    """A network as a function from inputs (N, C, spatial...) to the explained number of each row.

    Two implementations: :class:`TargetForward` for whole inputs and slices, and
    :class:`xaiengine.attribution.window_forward.WindowedForward` for segmentations through windows.
    """

    network: nn.Module

    @property
    def passes(self) -> int:
        """Evaluations of the network so far: rows, or windows."""
        ...

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Values (N,)."""
        ...

    def values(self, inputs: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
        """Values (N,) without gradients."""
        ...

    def gradient(self, inputs: torch.Tensor) -> torch.Tensor:
        """The derivative of each row's value with respect to that row, in the inputs' shape."""
        ...

    def value_and_gradient(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]: ...

    def output(self, inputs: torch.Tensor) -> torch.Tensor:
        """The model's own output for a batch: (N, K), or (N, K, spatial...) blended from the windows."""
        ...


class TargetForward(nn.Module):
    """Inputs (N, C, spatial...) to target values (N,).

    Every row of a batch is one counted pass, reported to ``progress``; cancelling raises from there. Values that
    are not numbers raise ModelError, so that no map is made of them.
    """

    def __init__(
        self,
        network: nn.Module,
        target: Target,
        select_output: Callable[[Any], torch.Tensor] = lambda output: output,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.target = target
        self.select_output = select_output
        self.progress = progress
        self._passes = 0

    @property
    def passes(self) -> int:
        return self._passes

    def output(self, inputs: torch.Tensor) -> torch.Tensor:
        """The model's own output for a batch."""
        result = self.select_output(self.network(inputs))
        self._passes += len(inputs)
        if self.progress is not None:
            self.progress.advance(len(inputs))
        return result

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = self.target.value(self.output(inputs))
        if not bool(torch.isfinite(values.detach()).all()):
            raise ModelError(
                f"The model returns values that are not numbers for the {self.target.name} of a changed scan.",
                "Choose another baseline (blurred or mean), or look for a division by the image's spread.",
            )
        return values

    @torch.no_grad()
    def values(self, inputs: torch.Tensor, batch_size: int = 8) -> torch.Tensor:
        """Target values (N,) without gradients, ``batch_size`` rows at a time."""
        return torch.cat([self(chunk) for chunk in inputs.split(batch_size)])

    def gradient(self, inputs: torch.Tensor) -> torch.Tensor:
        """The derivative of each row's value with respect to that row, in the inputs' shape."""
        return self.value_and_gradient(inputs)[1]

    def value_and_gradient(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            values = self(leaf)
            if not values.requires_grad:
                raise ModelError(
                    f"The {self.target.name} does not depend on the scan in a differentiable way.",
                    "Choose a perturbation method (occlusion, RISE), which needs no gradient.",
                )
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient


class RowByRow(nn.Module):
    """A network that takes one sample at a time, for callers that give several."""

    def __init__(self, network: nn.Module, select_output: Callable[[Any], torch.Tensor]) -> None:
        super().__init__()
        self.network, self.select_output = network, select_output

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.select_output(self.network(row)) for row in inputs.split(1)])


@dataclass(frozen=True)
class Attribution:
    """What a method gives, before it returns to the scan.

    ``map`` is (N, C, spatial...) on the input's voxels, or (N, 1, cells...) on the ``lattice`` of a ``layer``.
    ``unit`` is that of its values; that of the method where it is empty. ``convergence`` holds the figures that tell
    how far it can be trusted (completeness, steps, standard errors), ``by_row`` those of each row where they differ;
    ``extras`` further maps of the same shape, by name; ``notes`` what the reader must know; ``others`` the results at
    further layers.
    """

    map: torch.Tensor
    unit: str = ""
    convergence: dict[str, float] = field(default_factory=dict)
    extras: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    layer: str = ""
    lattice: LayerLattice | None = None
    by_row: tuple[dict[str, float], ...] = ()
    others: tuple[Attribution, ...] = ()

    def summed(self) -> torch.Tensor:
        """The map summed over input channels, (N, spatial...)."""
        return self.map.sum(1)


def completeness_error(attribution: torch.Tensor, difference: torch.Tensor) -> float:
    """Largest |Σ map - (f(x) - f(baseline))| of the samples, relative to the largest |f(x) - f(baseline)|."""
    gap = (attribution.double().flatten(1).sum(1) - difference.double()).abs().max()
    return float(gap / difference.double().abs().max().clamp_min(1e-12))


@contextlib.contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """A seed for code that draws from the global generators (captum does); both are put back afterwards."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(state)


@contextlib.contextmanager
def out_of_place(network: nn.Module) -> Iterator[None]:
    """Activations that write into their input do not, inside the block: hooks would see overwritten tensors."""
    changed: list[Any] = [module for module in network.modules() if getattr(module, "inplace", False) is True]
    for module in changed:
        module.inplace = False
    try:
        yield
    finally:
        for module in changed:
            module.inplace = True
