"""Ways through a generator's latents along which an image is changed; shifts are counted in standard deviations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from ..directions.gradient import answer_gradients
from ..directions.style import shifted_images
from ..generator.latent_geometry import LatentGeometry

if TYPE_CHECKING:
    from ..explained_images import ImageAnswer
    from ..generator.latent_space import LatentSpace

STEP = 0.25
"""SDs between two gradients of a local path."""


class CounterfactualPath(ABC):
    """Images of one start latent (D,) by how far it is shifted; 0 is the reconstruction."""

    reach: float = float("inf")
    """Largest shift, on either side, for which there are images."""

    def __init__(self, space: LatentSpace, start: torch.Tensor) -> None:
        self.space = space
        self.start = start

    @abstractmethod
    def images(self, shifts: torch.Tensor) -> torch.Tensor:
        """Images (m, C, S, S) at shifts (m,)."""

    def latents(self, shifts: torch.Tensor) -> torch.Tensor:
        """Latents (m, D) at shifts (m,), for how far from typical they are; those of the start where styles move."""
        return self.start.expand(len(shifts), -1)


class LatentPath(CounterfactualPath):
    """z + t d."""

    def __init__(self, space: LatentSpace, start: torch.Tensor, direction: torch.Tensor) -> None:
        super().__init__(space, start)
        self.direction = direction

    def latents(self, shifts: torch.Tensor) -> torch.Tensor:
        return self.start + shifts.to(self.start)[:, None] * self.direction

    def images(self, shifts: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.space.decode(self.latents(shifts))


class RefinedPath(CounterfactualPath):
    """A start that was refined in W+: every latent of W+ moves by t d."""

    def __init__(
        self,
        space: LatentSpace,
        start: torch.Tensor,
        direction: torch.Tensor,
        w_plus: torch.Tensor,
        code: torch.Tensor | None,
    ) -> None:
        super().__init__(space, start)
        self.direction, self.w_plus, self.code = direction, w_plus, code

    def latents(self, shifts: torch.Tensor) -> torch.Tensor:
        return self.start + shifts.to(self.start)[:, None] * self.direction

    def images(self, shifts: torch.Tensor) -> torch.Tensor:
        w, code = self.space.split(shifts.to(self.start)[:, None] * self.direction)
        with torch.no_grad():
            moved = None if code is None else self.code + code
            return self.space.decode_plus(self.w_plus + w[:, None], moved)


class StylePath(CounterfactualPath):
    """Styles s + t v (K,); latents and spatial code stay."""

    def __init__(
        self, space: LatentSpace, start: torch.Tensor, direction: torch.Tensor, sizes: tuple[int, ...]
    ) -> None:
        super().__init__(space, start)
        self.direction, self.sizes = direction, sizes

    def images(self, shifts: torch.Tensor) -> torch.Tensor:
        moved = shifts.to(self.start)[:, None] * self.direction
        with torch.no_grad():
            return shifted_images(self.space, self.start.expand(len(shifts), -1), moved, self.sizes)


class GradientPath(CounterfactualPath):
    """The path of this one image along Σ∇f(G(z)), renewed every quarter of an SD, both ways.

    It serves where no direction is good for all images, as where the place of a finding lies in a spatial code.
    """

    def __init__(
        self,
        space: LatentSpace,
        start: torch.Tensor,
        answer: ImageAnswer,
        geometry: LatentGeometry,
        reach: float,
        leading: int = 0,
    ) -> None:
        """``leading``: the number of latents that move, from the first on; 0 moves all."""
        super().__init__(space, start)
        self.reach = reach
        self._leading = leading or space.dimension
        self._nodes = self._walk(answer, geometry, max(1, round(reach / STEP)))

    def latents(self, shifts: torch.Tensor) -> torch.Tensor:
        middle = len(self._nodes) // 2
        place = (shifts.to(self.start) / self.reach * middle + middle).clamp(0, len(self._nodes) - 1)
        lower = place.floor().long().clamp(max=len(self._nodes) - 2)
        part = (place - lower)[:, None]
        return self._nodes[lower] * (1 - part) + self._nodes[lower + 1] * part

    def images(self, shifts: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.space.decode(self.latents(shifts))

    def _walk(self, answer: ImageAnswer, geometry: LatentGeometry, steps: int) -> torch.Tensor:
        """Nodes (2 steps + 1, D) from the lowest answer to the highest; both ways are walked as one batch."""
        sign = torch.tensor([[-1.0], [1.0]], device=self.start.device)
        ends = self.start.repeat(2, 1)
        nodes = [ends]
        part = geometry.moving(self._leading)
        for _ in range(steps):
            gradients, _ = answer_gradients(self.space, answer, ends)
            move = part.steepest(gradients[:, : self._leading])
            length = part.length(move).clamp_min(1e-12)[:, None]
            ends = ends.clone()
            ends[:, : self._leading] += sign * move / length * (self.reach / steps)
            nodes.append(ends)
        walked = torch.stack(nodes)
        return torch.cat([walked[1:, 0].flip(0), walked[:1, 0], walked[1:, 1]])
