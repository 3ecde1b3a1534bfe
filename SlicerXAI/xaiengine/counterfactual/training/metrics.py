"""Figures and pictures of a generator in training, on images that it is not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ...core.atomic import written_whole
from ..generator.generator_metrics import Features, likeness
from ..generator.latent_geometry import LatentGeometry
from ..generator.latent_space import LatentSpace
from ..series.similarity import absolute_difference, mean_similarity
from .joint import SCORE_LATENT, SCORE_SCALE, ScoreTarget

_BATCH = 64
_COLUMNS = 8


@torch.no_grad()
def held_out_figures(
    space: LatentSpace,
    images: torch.Tensor,
    features: Features,
    target: ScoreTarget | None = None,
    shown: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid,
) -> dict[str, float]:
    """How well held-out images (n, C, S, S) are reconstructed and how real sampled ones look.

    ``l1``, ``ssim``: means over reconstructions. ``prediction_difference``: median of |f(x) - f(G(E(x)))|, shown
    values (probabilities); ``prediction_correlation`` over the images. ``frechet``, ``precision``, ``recall`` of as
    many sampled images. ``domain_l1``, ``domain_distance``: medians by which later images are called unlike.
    """
    device = space.device
    sampled = space.sample(len(images), seed=0)
    made = torch.cat([space.decode(part).clamp(-1, 1).cpu() for part in sampled.split(_BATCH)])
    found = likeness(features, images, made)
    figures = {"frechet": found.frechet, "precision": found.precision, "recall": found.recall}
    if space.encoder is None:
        return figures
    latents = torch.cat([space.encode(part.to(device)) for part in images.split(_BATCH)])
    again = torch.cat([space.decode(part).cpu() for part in latents.split(_BATCH)])
    l1 = absolute_difference(again, images)
    distance = LatentGeometry.of(space).distance(latents)
    figures |= {
        "l1": float(l1.mean()),
        "ssim": float(mean_similarity(again, images).mean()),
        "domain_l1": float(l1.median()),
        "domain_distance": float(distance.median()),
    }
    if target is not None:
        said, repeated = (
            torch.cat([target.score(part.to(device)).cpu() for part in pictures.split(_BATCH)])
            for pictures in (images, again)
        )
        figures["prediction_difference"] = float((shown(said) - shown(repeated)).abs().median())
        if float(said.std()) > 0 and float(repeated.std()) > 0:
            figures["prediction_correlation"] = float(torch.corrcoef(torch.stack([said, repeated]))[0, 1])
    return figures


@torch.no_grad()
def sample_grid(space: LatentSpace, images: torch.Tensor, target: ScoreTarget | None = None) -> np.ndarray:
    """Pictures side by side, uint8 (rows, columns[, 3]): sampled images; in joint training held-out images (first
    row), their reconstructions, the same for the lowest, middle and highest score, and sampled images."""
    rows = []
    if space.encoder is not None:
        chosen = images[:_COLUMNS].to(space.device)
        latents = space.encode(chosen)
        rows += [chosen, space.decode(latents)]
        for score in () if target is None else (target.low, (target.low + target.high) / 2, target.high):
            moved = latents.clone()
            moved[:, SCORE_LATENT] = score / SCORE_SCALE
            rows.append(space.decode(moved))
        count = len(chosen)
    else:
        count = _COLUMNS
    for seed in range(2 if rows else 6):
        rows.append(space.decode(space.sample(count, seed)))
    tiles = torch.stack(rows).clamp(-1, 1).cpu()  # (rows, columns, C, I, J)
    n_rows, columns, channels, wide, high = tiles.shape
    arranged = tiles.permute(0, 4, 1, 3, 2).reshape(n_rows * high, columns * wide, channels)
    pixels = ((arranged + 1) * 127.5).round().byte().numpy()
    return pixels[..., 0] if channels == 1 else pixels


def write_grid(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary)
