"""Pictures of series: generated images say so, and no prediction appears on the other side of the decision."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from xaiengine.figures.animation import write_animation
from xaiengine.figures.film_strip import draw_film_strip, film_strip

COUNT, SIDE = 5, 16


@pytest.fixture
def a_series():
    frames = torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return SimpleNamespace(
        frames=frames,
        differences=frames - frames[2:3],
        shifts=torch.linspace(-2, 2, COUNT),
        values=torch.linspace(0, 1, COUNT),
        base=2,
    )


SETTINGS = {"title": "X", "answer_name": "probability of x", "decision": 0.5, "unit": 1.0, "unit_name": ""}
SHOWN = torch.tensor([0.1, 0.31, 0.4996, 0.5003, 0.9], dtype=torch.float64)


def texts(figure) -> list[str]:
    return [item.get_text() for item in figure.findobj(Text) if item.get_text()]


def test_generated_images_say_so_and_the_scan_does_not(a_series):
    figure = film_strip(torch.zeros(1, SIDE, SIDE), a_series, SHOWN, 0.4, **SETTINGS)
    marked = ["SYNTHETIC" in texts(axes) for axes in figure.axes if axes.images]
    # the scan, then each frame above its difference
    assert marked[0] is False and sum(marked) == COUNT


def test_a_value_beside_the_decision_keeps_its_side(a_series):
    said = texts(film_strip(torch.zeros(1, SIDE, SIDE), a_series, SHOWN, 0.4, **SETTINGS))
    captions = [text.split("\n")[1] for text in said if text.endswith(("SD",)) is False and "\n" in text]
    assert {"0.4996", "0.5003"} <= set(captions) and "0.50" not in captions


def test_both_themes_and_the_animation_are_written(a_series, tmp_path):
    for theme, bright in (("dark", False), ("print", True)):
        path = draw_film_strip(
            tmp_path / f"{theme}.png", torch.zeros(1, SIDE, SIDE), a_series, SHOWN, 0.4, **SETTINGS, theme=theme
        )
        assert (Image.open(path).convert("L").getpixel((1, 1)) > 128) == bright
    path = write_animation(tmp_path / "a.gif", a_series, SHOWN, "probability", decision=0.5)
    assert Image.open(path).n_frames == 2 * COUNT - 2
