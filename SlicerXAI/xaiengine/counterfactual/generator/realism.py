"""Whether images still look like the generator's domain, without a discriminator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...core.errors import InputError
from ...core.similarity import pearson
from ..series.similarity import absolute_difference

if TYPE_CHECKING:
    from .latent_geometry import LatentGeometry
    from .latent_space import LatentSpace

FAR_LATENT = 1.5
"""Root mean square of whitened coordinates from which a latent is unlike those in use, which lie near 1."""
DOMAIN_LIMIT = 3.0
"""An image is refused when it is reconstructed so many times worse than the median of the generator's own domain."""


@dataclass(frozen=True)
class Domain:
    """How the encoder alone reconstructs images of the generator's domain, and where their latents lie.

    ``l1`` and ``distance`` are medians; ``measured_on`` says over what images.
    """

    l1: float
    distance: float
    measured_on: str


@dataclass(frozen=True)
class DomainScore:
    """How unlike the generator's domain one image is, see :func:`domain_score`; 1 is typical."""

    score: float
    l1: float
    distance: float
    limit: float

    @property
    def inside(self) -> bool:
        return self.score <= self.limit


def own_domain(space: LatentSpace, geometry: LatentGeometry, latents: torch.Tensor) -> Domain:
    """The domain measured on the generator's own images, for generators whose training did not measure it.

    An encoder reconstructs generated images more easily than real ones, so that real images score above 1 here.
    """
    with torch.no_grad():
        images = space.decode(latents)
        encoded = space.encode(images)
        l1 = absolute_difference(space.decode(encoded), images)
    return Domain(float(l1.median()), float(geometry.distance(encoded).median()), "generated images")


def domain_score(
    space: LatentSpace, geometry: LatentGeometry, image: torch.Tensor, domain: Domain, limit: float = DOMAIN_LIMIT
) -> DomainScore:
    """The score of an image (1, C, S, S).

    The larger of two ratios to the median of the domain: of the encoder's reconstruction error, and of the
    encoded latent's distance from the mean.
    """
    with torch.no_grad():
        encoded = space.encode(image)
        l1 = float(absolute_difference(space.decode(encoded), image))
        distance = float(geometry.distance(encoded))
    score = max(l1 / max(domain.l1, 1e-6), distance / max(domain.distance, 1e-6))
    return DomainScore(score, l1, distance, limit)


def check_domain(score: DomainScore, name: str, generator: str) -> None:
    """Refuse an image unlike the generator's domain. Raises InputError with the score."""
    if not score.inside:
        raise InputError(
            f"{name} is unlike the images that {generator} was trained on: domain score {score.score:.1f}, at most "
            f"{score.limit:g} is taken (1 is typical; reconstruction error {score.l1:.3f}, latent distance "
            f"{score.distance:.2f}).",
            "Choose a scan of the generator's kind, or train a generator on scans of this kind; the option "
            "domain_limit lets it pass.",
        )


def identity(
    space: LatentSpace,
    geometry: LatentGeometry,
    reconstruction: torch.Tensor,
    frames: torch.Tensor,
    direction: torch.Tensor | None,
) -> torch.Tensor:
    """Whether frames (n, C, S, S) still show the same patient as the reconstruction (C, S, S): correlations
    (n,).

    Frames and reconstruction are encoded again; the whitened latents are correlated after the part along
    ``direction`` (D,), which is meant to change, has been taken out. 1 is the same; images of different
    patients give about 0.
    """
    with torch.no_grad():
        white = geometry.whiten(space.encode(torch.cat([reconstruction[None], frames])))
    if direction is not None:
        along = geometry.whiten(geometry.mean + direction[None].to(geometry.mean))[0]
        along = along / along.norm().clamp_min(1e-12)
        white = white - (white @ along)[:, None] * along
    own, others = white[0].cpu().numpy(), white[1:].cpu().numpy()
    return torch.tensor([pearson(own, other) for other in others])
