"""Where series of counterfactual images begin and end."""

import math

import numpy as np
import pytest
import torch
from xaiengine.counterfactual.series.series import Along, Place, smallest_flip
from xaiengine.counterfactual.series.span import counterfactual_end, span_note, span_of, spread_shifts, usual_shifts


class Line:
    """Images whose one pixel is the shift."""

    reach = math.inf

    def images(self, shifts: torch.Tensor) -> torch.Tensor:
        return shifts[:, None, None, None]


def along(start: float, slope: float = 1.0, reach: float = 4.0) -> Along:
    return Along(Line(), lambda images: start + slope * images.flatten(), reach)


@pytest.mark.parametrize("frames", [3, 11, 12])
@pytest.mark.parametrize("low, high", [(-2.5, 2.5), (-0.4, 2.0), (-2.0, 0.4), (0.0, 3.0), (-3.0, 0.0), (-0.01, 3.0)])
def test_shifts_hold_zero_and_the_wider_end(low, high, frames):
    shifts = spread_shifts(frames, low, high).numpy()
    assert len(shifts) == frames and 0.0 in shifts and (np.diff(shifts) > 0).all()
    assert shifts.min() >= low - 1e-6 and shifts.max() <= high + 1e-6
    assert (high if high >= -low else low) == pytest.approx(shifts[-1] if high >= -low else shifts[0], abs=1e-6)
    for side in (shifts[shifts <= 0], shifts[shifts >= 0]):
        np.testing.assert_allclose(np.diff(side), np.diff(side)[:1].repeat(max(0, len(side) - 1)), rtol=1e-5)


def test_no_way_to_go_is_one_frame():
    assert spread_shifts(11, 0.0, 0.0).tolist() == [0.0]


@pytest.mark.parametrize(
    "start, slope, expected",
    [
        (0.0, 1.0, (-3.0, 2.0)),
        (0.0, 2.0, (-1.5, 1.0)),
        (0.0, -1.0, (-2.0, 3.0)),
        (-3.5, 1.0, (0.0, 5.5)),
        (4.0, 1.0, (-7.0, 0.0)),
    ],
)
def test_usual_shifts_are_where_the_surrogate_reaches_the_ends_of_the_answers(start, slope, expected):
    assert usual_shifts(start, slope, (-3.0, 2.0)) == pytest.approx(expected)


def test_without_a_surrogate_every_shift_is_usual():
    assert usual_shifts(1.0, 0.0, (-3.0, 2.0)) == usual_shifts(1.0, 2.0, None) == (-math.inf, math.inf)


@pytest.mark.parametrize("start, slope", [(-2.8, 1.0), (2.0, 1.0), (-2.8, -1.0)])
def test_both_sides_stop_where_answers_become_unusual_but_never_before_the_flip(start, slope):
    way = along(start, slope)
    flip = smallest_flip(way, 0.0)
    usual = usual_shifts(start, slope, (-3.0, 2.2))
    low, high = span_of("both", flip, way, usual)
    reach = 1.25 * abs(flip.shift)
    if flip.shift > 0:
        assert high == pytest.approx(reach) and low == pytest.approx(-0.2)
    else:
        assert low == pytest.approx(-reach) and high == pytest.approx(0.2)
    assert span_of("symmetric", flip, way, usual) == pytest.approx((-reach, reach))
    assert span_of("toward", flip, way, usual) == pytest.approx((0, reach) if flip.shift > 0 else (-reach, 0))
    assert abs(counterfactual_end(flip, way, low, high)) == pytest.approx(reach)


def test_a_flip_among_unusual_answers_is_still_shown():
    flip = Place(3.0, 0.1)
    assert span_of("both", flip, along(-3.0), usual_shifts(-3.0, 1.0, (-4.0, -1.0)))[1] == pytest.approx(3.75)


def test_without_a_flip_series_go_all_the_way_and_end_where_the_answer_moved_most():
    way = Along(Line(), lambda images: 5 + images.flatten().clamp_min(-0.5), 4.0)
    assert span_of("both", None, way, (-0.1, 0.1)) == (-4.0, 4.0)
    assert counterfactual_end(None, way, -4.0, 4.0) == 4.0
    assert span_of("toward", None, way) == (0.0, 4.0)


@pytest.mark.parametrize(
    "low, high, end", [(-0.4, 2.0, "ends at -0.40 SD"), (-2.0, 0.0, "has no images"), (-2.0, 2.0, ""), (-1.8, 2.0, "")]
)
def test_a_shorter_side_is_told_with_its_end(low, high, end):
    note = span_note(spread_shifts(11, low, high))
    assert end in note and bool(note) == bool(end)
