"""Lengths and angles between latents, counted in the standard deviations with which they vary.

A step of fixed length is nothing along a latent that varies much, and leaves everything that the generator has
ever seen along one that hardly varies. So directions have Mahalanobis length one: a shift of 1 along any of
them is one standard deviation, whatever the units of the latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .latent_space import LatentSpace


@dataclass(frozen=True, eq=False)
class LatentGeometry:
    """Mean (D,) and the lower triangular root L (D, D) of the covariance, Σ = L Lᵀ, of a generator's latents."""

    mean: torch.Tensor
    root: torch.Tensor

    @classmethod
    def of(cls, space: LatentSpace) -> LatentGeometry:
        """The spread that the generator's latents have in use, as its training measured it."""
        return cls(space.mean, space.covariance_root)

    def moving(self, leading: int) -> LatentGeometry:
        """The geometry in which a direction of the ``leading`` latents is a step of one SD; 0 or all take them all.

        All latents move as they vary together, along Σ b. Where the leading ones move and the rest stays (the style
        beside a spatial code), each counts by its own SD: a style that goes with others is moved without them, else
        latents that merely tell the same would be dragged along, and undo in the image what the one does.
        """
        if not 0 < leading < self.dimension:
            return self
        deviations = self.root[:leading].square().sum(1).sqrt()
        return LatentGeometry(self.mean[:leading], torch.diag(deviations))

    @property
    def dimension(self) -> int:
        return len(self.mean)

    def whiten(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (n, D) in coordinates of mean 0 and covariance 1."""
        return self._solve(latents - self.mean)

    def colored(self, white: torch.Tensor) -> torch.Tensor:
        """The latents (n, D) of whitened coordinates (n, D)."""
        return self.mean + white @ self.root.T

    def distance(self, latents: torch.Tensor) -> torch.Tensor:
        """How far latents (n, D) lie from the mean, (n,): the root mean square of the whitened coordinates.

        About 1 for latents as they are drawn, whatever their number D.
        """
        return self.whiten(latents).square().mean(1).sqrt()

    def inner(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """dᵀ Σ⁻¹ e of directions (..., D): 0 if the scores along the one do not change along the other."""
        return (self._solve(first) * self._solve(second)).sum(-1)

    def length(self, direction: torch.Tensor) -> torch.Tensor:
        """Length (...) of directions (..., D) in standard deviations."""
        return self.inner(direction, direction).sqrt()

    def unit(self, direction: torch.Tensor) -> torch.Tensor:
        """The direction (D,) with a length of one standard deviation; zero stays zero."""
        length = self.length(direction)
        return direction / length if float(length) > 1e-12 else torch.zeros_like(direction)

    def score(self, direction: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """dᵀ Σ⁻¹ (z - mean), (n,): grows by exactly t when latents move by t along a unit direction."""
        return self.whiten(latents) @ self._solve(direction)

    def steepest(self, gradients: torch.Tensor) -> torch.Tensor:
        """Σ g (..., D): of all steps of one standard deviation, the one along which a linear function rises most."""
        return gradients @ self.root @ self.root.T

    def _solve(self, values: torch.Tensor) -> torch.Tensor:
        flat = values.reshape(-1, self.dimension)
        return torch.linalg.solve_triangular(self.root, flat.T, upper=False).T.reshape(values.shape)


def orthogonal(geometry: LatentGeometry, directions: torch.Tensor) -> torch.Tensor:
    """Directions (k, D) made orthogonal in the latents' metric and scaled to one SD, the first one kept
    (Gram-Schmidt).

    Moving along one then leaves the scores of the others as they are.
    """
    kept: list[torch.Tensor] = []
    for direction in directions:
        rest = geometry.unit(direction)
        for _ in range(2):  # the second pass removes what rounding left
            for other in kept:
                rest = rest - geometry.inner(rest, other) * other
        kept.append(geometry.unit(rest))
    return torch.stack(kept)
