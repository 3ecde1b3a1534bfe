"""Which slices pass the gate, by hand."""

import numpy as np
import pytest
from xaiengine.lesions.slice_selection import gated_slices

PROBABILITY = np.array([0.1, 0.9, 0.1, 0.5, 0.6, 0.45, 0.1, 0.45, 0.95, 0.5, 0.3, 0.8])


@pytest.mark.parametrize(
    ("lower", "upper", "extent", "step", "slices"),
    [
        (0.5, 0.0, 0.0, 2.5, [1, 3, 4, 8, 9, 11]),
        (0.4, 0.0, 0.0, 2.5, [1, 3, 4, 5, 7, 8, 9, 11]),
        (0.4, 0.75, 0.0, 2.5, [1, 7, 8, 9, 11]),
        (0.4, 0.75, 4.0, 2.5, [1, 7, 8, 9]),  # the surer, the thinner: at 0.9 a slice of 1.6 mm, at 0.8 one of 3.2 mm
        (0.4, 0.75, 4.0, 1.5, [7, 8, 9]),
        (0.4, 0.75, 4.0, 5.0, [1, 7, 8, 9, 11]),
        (0.99, 0.0, 0.0, 2.5, []),
    ],
)
def test_runs_of_slices(lower, upper, extent, step, slices):
    found = gated_slices(PROBABILITY, step, lower=lower, upper=upper, extent_mm=extent)
    assert found.tolist() == slices


def test_a_sure_single_slice_of_3_mm_counts_and_a_thin_doubtful_one_does_not():
    probability = np.array([0.0, 0.99, 0.0, 0.76, 0.0])
    assert gated_slices(probability, 3.0, lower=0.4, upper=0.75, extent_mm=4.0).tolist() == [1]
    assert gated_slices(probability, 4.0, lower=0.4, upper=0.75, extent_mm=4.0).tolist() == [1, 3]


def test_a_scan_without_slices_above_the_gate_gives_none():
    assert gated_slices(np.zeros(5), 1.0, lower=0.5, upper=0.0, extent_mm=0).size == 0
