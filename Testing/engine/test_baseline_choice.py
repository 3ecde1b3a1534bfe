"""The automatic baseline takes the answer away; a class that is not predicted, and coarse layers, are named."""

import torch
from torch import nn
from xaiengine.attribution.baselines import baseline_like, effective_baseline
from xaiengine.attribution.case_advice import advised
from xaiengine.attribution.feature_maps import coarse_note
from xaiengine.attribution.whole_case import WholeCase
from xaiengine.targets.targets import ClassTarget

BALL = torch.zeros(1, 1, 24, 24)
BALL[..., 6:18, 6:18] = 4.0


def brightest(inputs):
    """Above 0 as long as anything bright is left: a blurred large object keeps it."""
    return inputs.flatten(1).amax(1)


def contrast(inputs):
    """Needs a sharp edge: any blurring takes it away."""
    return inputs.diff(dim=-1).abs().flatten(1).amax(1)


def test_a_blurred_image_that_keeps_the_answer_is_not_taken():
    found, text = effective_baseline(brightest, BALL, "brightness")
    assert torch.equal(found, baseline_like(BALL, "mean"))
    assert "keeps the brightness" in text and "mean" in text


def test_the_blurred_image_is_taken_without_a_word_where_it_serves():
    found, text = effective_baseline(contrast, BALL, "contrast")
    assert torch.equal(found, baseline_like(BALL, "blurred")) and text == ""


def test_a_healthy_reference_comes_first():
    healthy = torch.zeros_like(BALL)
    found, text = effective_baseline(brightest, BALL, "brightness", healthy=healthy)
    assert torch.equal(found, healthy) and text == ""


def test_an_answer_that_nothing_takes_away_is_reported():
    _, text = effective_baseline(lambda inputs: torch.ones(len(inputs)), BALL, "constant")
    assert "No baseline takes the constant away" in text


def test_an_answer_that_every_baseline_raises_is_reported():
    found, text = effective_baseline(lambda inputs: -brightest(inputs), BALL, "darkness")
    assert found.shape == BALL.shape and "No baseline takes the darkness away" in text


class Brightness(nn.Module):
    def forward(self, inputs):
        value = inputs.flatten(1).amax(1)
        return torch.stack([value, 2 - value], 1)


def case_of(index):
    target = ClassTarget(index, "dark" if index else "bright")
    return WholeCase(Brightness(), target, BALL, BALL, (1.0, 1.0), (), (), lambda name: None)


def test_a_class_that_is_not_predicted_is_named():
    told = []
    advised(case_of(1), False, told.append)
    assert len(told) == 1 and "does not predict dark" in told[0]
    told.clear()
    changed = advised(case_of(0), True, told.append)
    assert not torch.equal(changed.baseline, BALL)
    assert len(told) == 1 and "keeps" in told[0]


def test_cells_larger_than_a_tenth_of_the_input_are_reported():
    assert "larger than a tenth" in coarse_note("late", (4, 4), (64, 64))
    assert coarse_note("early", (16, 16), (64, 64)) == ""
