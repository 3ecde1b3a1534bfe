"""A series as an animated GIF, for talks: the image, and beside it what changed, there and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.atomic import written_whole
from ..core.number_text import beside
from ..counterfactual.series.difference import window_of
from .film_strip import picture_of
from .style import DIVERGING

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..counterfactual.series.series import Series

SMALLEST_SIDE = 256
LARGEST_SIDE = 512
CAPTION_PIXELS = 30
BACKGROUND, TEXT = (16, 16, 20), (232, 232, 232)


def write_animation(
    path: Path,
    series: Series,
    shown: torch.Tensor,
    answer_name: str,
    milliseconds: int = 220,
    decision: float | None = None,
) -> Path:
    """Write a GIF that runs from the lowest to the highest shift and back, for ever; its images say SYNTHETIC."""
    window = window_of(series.differences)
    frames = [
        _frame(
            series.frames[number],
            series.differences[number],
            window,
            f"{answer_name} {beside(float(shown[number]), decision)}   ({float(series.shifts[number]):+.1f} SD)",
        )
        for number in range(len(series.frames))
    ]
    turning = frames + frames[-2:0:-1]
    with written_whole(path) as temporary:
        turning[0].save(
            temporary, format="GIF", save_all=True, append_images=turning[1:], duration=milliseconds, loop=0
        )
    return path


def _frame(image: torch.Tensor, difference: torch.Tensor, window: float, caption: str) -> Image:
    from matplotlib import colormaps
    from PIL import Image, ImageDraw

    side = image.shape[-1]
    scale = max(1, round(SMALLEST_SIDE / side)) if side < LARGEST_SIDE else 1
    size = (image.shape[-2] * scale, image.shape[-1] * scale)
    picture = (picture_of(image) * 255).round().astype(np.uint8)
    left = Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    signed = difference.mean(0).cpu().numpy().T / (2 * window) + 0.5
    colored = (colormaps[DIVERGING](np.clip(signed, 0, 1))[..., :3] * 255).round().astype(np.uint8)
    right = Image.fromarray(colored).resize(size, Image.Resampling.BILINEAR)
    whole = Image.new("RGB", (2 * size[0] + 6, size[1] + CAPTION_PIXELS), BACKGROUND)
    whole.paste(left, (0, CAPTION_PIXELS))
    whole.paste(right, (size[0] + 6, CAPTION_PIXELS))
    draw = ImageDraw.Draw(whole)
    draw.text((8, 9), caption, fill=TEXT)
    place = (size[0] // 2, CAPTION_PIXELS + size[1] - 12)
    draw.text(place, "SYNTHETIC", fill=TEXT, anchor="mm", stroke_width=2, stroke_fill=(0, 0, 0))
    return whole
