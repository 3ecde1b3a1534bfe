"""How alike images are: mean absolute difference, and structural similarity as a map."""

from __future__ import annotations

import torch
from torch.nn import functional

SIGMA = 1.5
RADIUS = 5
RANGE = 2.0
"""Of images in [-1, 1]."""


def similarity_map(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """SSIM (Wang et al. 2004, Gaussian window of SD 1.5) at each pixel, mean over channels: (n, S, S).

    Both images are (n, C, S, S) in [-1, 1].
    """
    first, second = first.float(), second.float()
    means = _smooth(first), _smooth(second)
    variances = [_smooth(image.square()) - mean.square() for image, mean in zip((first, second), means)]
    covariance = _smooth(first * second) - means[0] * means[1]
    small, large = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    luminance = (2 * means[0] * means[1] + small) / (means[0].square() + means[1].square() + small)
    structure = (2 * covariance + large) / (variances[0] + variances[1] + large)
    return (luminance * structure).mean(1)


def mean_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean SSIM (n,)."""
    return similarity_map(first, second).mean((1, 2))


def absolute_difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference (n,), in the images' unit; their range is 2."""
    return (first - second).abs().mean((1, 2, 3))


def inside_mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Mean (n,) of maps (n, S, S) over masks (n, S, S) bool; not a number where a mask is empty."""
    weights = where.to(values)
    return (values * weights).sum((1, 2)) / weights.sum((1, 2))


def _smooth(images: torch.Tensor) -> torch.Tensor:
    channels = images.shape[1]
    taps = torch.exp(-torch.arange(-RADIUS, RADIUS + 1, device=images.device).square() / (2 * SIGMA**2))
    taps = (taps / taps.sum()).to(images)
    padded = functional.pad(images, [RADIUS] * 4, mode="reflect")
    across = functional.conv2d(padded, taps.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
    return functional.conv2d(across, taps.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
