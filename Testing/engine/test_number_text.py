"""Numbers for people keep their sense: enough digits, and the right side of a bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from xaiengine.core.number_text import beside, percent, significant


@pytest.mark.parametrize("digits", [1, 2, 3, 5])
def test_a_number_is_off_by_at_most_half_a_unit_of_its_last_significant_digit(digits):
    values = 10 ** np.random.default_rng(0).uniform(-9, 9, 400) * np.random.default_rng(1).choice([-1, 1], 400)
    for value in values:
        assert abs(float(significant(value, digits)) - value) <= 0.5001 * 10 ** (1 - digits) * abs(value)


def test_no_number_has_more_than_two_digits_after_leading_zeros_unless_they_are_whole():
    assert [significant(value) for value in (0.996, 9.96, 99.6, 0.0100, 1e-5, 0.0, 12345.6)] == [
        "1.0", "10", "100", "0.010", "1.0e-05", "0", "12346",
    ]  # fmt: skip
    assert significant(math.nan) == "not a number" and significant(-math.inf) == "minus infinite"
    assert percent(0.5) == "50 %"


def test_a_number_never_lands_on_the_other_side_of_a_bound():
    random = np.random.default_rng(0)
    for value in 0.5 + random.normal(0, 1, 200) * 10 ** random.uniform(-9, -1, 200):
        written = float(beside(value, 0.5))
        assert (written > 0.5) == (value > 0.5) and (written < 0.5) == (value < 0.5)
    assert beside(0.31, None) == "0.31" and beside(0.5, 0.5) == "0.50"
