"""The picture that a network receives: its input's rows from top to bottom, its columns from left to right."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.atomic import written_whole

SMALLEST_SIDE = 256


def draw_input(path: Path | str, samples: np.ndarray) -> Path:
    """Write a PNG of a network's input.

    Args:
        path: where; its name ends in .png.
        samples: (C, H, W), drawn as the tensor lies: first axis down, second to the right; three channels are red,
            green and blue, other channels lie side by side. (C, I, J, K) gives its three middle planes.

    Returns:
        The path.
    """
    from PIL import Image

    path = Path(path)
    values = np.nan_to_num(np.asarray(samples, dtype=np.float32))
    if values.ndim == 3 and len(values) == 3:
        gray = np.moveaxis(_scaled(values), 0, -1)
    elif values.ndim == 3:
        gray = _beside([_scaled(channel) for channel in values])
    else:
        planes = [np.take(values[0], size // 2, axis=axis) for axis, size in enumerate(values.shape[1:])]
        gray = _beside([_scaled(plane) for plane in planes])
    factor = max(1, -(-SMALLEST_SIDE // max(gray.shape[:2])))
    enlarged = gray.repeat(factor, 0).repeat(factor, 1)
    with written_whole(path) as temporary:
        Image.fromarray(enlarged).save(temporary, format="PNG")
    return path


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values as 8 bits between the 0.5th and the 99.5th percentile."""
    low, high = np.percentile(values, (0.5, 99.5))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return np.rint(np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)


def _beside(planes: list[np.ndarray]) -> np.ndarray:
    height = max(len(plane) for plane in planes)
    padded = [np.pad(plane, ((0, height - len(plane)), (0, 2))) for plane in planes]
    return np.concatenate(padded, 1)[:, :-2]
