"""A map laid over a picture pixel by pixel, in the picture's own size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.atomic import written_whole

STRENGTH = 0.7
_SUPPORTS, _OPPOSES = np.array([220.0, 40.0, 30.0]), np.array([40.0, 90.0, 230.0])


def draw_overlay(path: Path | str, picture: np.ndarray, values: np.ndarray) -> Path:
    """Write a PNG of a picture (I, J, 1) or (3, I, J, 1): red where the map (I, J, 1) supports, blue where it opposes.

    The color's strength is the map's share of its 99.5th percentile; nothing is colored where the map is 0.
    """
    from PIL import Image

    path = Path(path)
    channels = np.asarray(picture, dtype=np.float32).reshape(-1, *picture.shape[-3:-1])
    low, high = np.percentile(channels, (0.5, 99.5))
    gray = np.clip((channels - low) / max(high - low, 1e-12), 0, 1) * 255
    base = np.moveaxis(gray if len(gray) == 3 else gray[:1].repeat(3, 0), 0, -1)
    end = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max()) or 1.0
    share = np.clip(np.abs(values[..., 0]) / end, 0, 1)[..., None] * STRENGTH
    color = np.where(values[..., :1] >= 0, _SUPPORTS, _OPPOSES)
    mixed = np.rint(base * (1 - share) + color * share).astype(np.uint8)
    with written_whole(path) as temporary:
        Image.fromarray(mixed.transpose(1, 0, 2)).save(temporary, format="PNG")
    return path
