"""The picture of a map's checks shows what was measured and nothing else."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from xaiengine.figures.evaluation_picture import draw_evaluation

CURVES = {"insertion": SimpleNamespace(fractions=np.linspace(0, 1, 5), values=np.linspace(0.2, 0.9, 5))}
SENSITIVITY = (np.array([1, 4, 16]), np.array([0.2, 0.4, 0.6]))
CASCADE = SimpleNamespace(layers=["last", "first"], spearman=np.array([0.5, -0.1]), ssim=np.array([0.4, 0.1]))


def evaluation(curves=None, sensitivity=None, cascade=None):
    return SimpleNamespace(curves=curves or {}, sensitivity=sensitivity, cascade=cascade)


def panels(path) -> int:
    """Axes: each has one long gray line, that of its values."""
    gray = (np.asarray(Image.open(path).convert("L")) < 190).sum(0) > 200
    return int(np.count_nonzero(np.diff(gray.astype(int)) == 1))


@pytest.mark.parametrize(
    "found, count",
    [(evaluation(CURVES), 1), (evaluation(CURVES, cascade=CASCADE), 2), (evaluation(CURVES, SENSITIVITY, CASCADE), 3)],
)
def test_there_is_a_panel_for_each_measure(found, count, tmp_path):
    assert draw_evaluation(tmp_path / "picture.png", found, "map")
    assert panels(tmp_path / "picture.png") == count


def test_without_any_there_is_no_picture(tmp_path):
    assert not draw_evaluation(tmp_path / "picture.png", evaluation(), "map")
    assert not list(tmp_path.iterdir())
