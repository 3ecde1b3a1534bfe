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
        (0.4, 0.75, 4.0, 2.5, [7, 8, 9]),
        (0.4, 0.75, 4.0, 5.0, [1, 7, 8, 9, 11]),
        (0.99, 0.0, 0.0, 2.5, []),
    ],
)
def test_runs_of_slices(lower, upper, extent, step, slices):
    found = gated_slices(PROBABILITY, step, lower=lower, upper=upper, extent_mm=extent)
    assert found.tolist() == slices


def test_a_scan_without_slices_above_the_gate_gives_none():
    assert gated_slices(np.zeros(5), 1.0, lower=0.5, upper=0.0, extent_mm=0).size == 0


def test_a_component_needs_a_peak():
    from support.lesion_patients import grid_of
    from xaiengine.lesions.components import find_lesions

    grid = grid_of((1.0, 1.0, 1.0), (20, 20, 20))
    bits = np.zeros(grid.shape, np.float32)
    bits[2:6, 2:6, 2:6], bits[12:16, 12:16, 12:16] = 1.5, 1.5
    bits[3, 3, 3] = 3.0
    lungs = np.ones(grid.shape, bool)
    assert find_lesions(bits, lungs, grid, 1.0, minimal_volume_ml=0.01).max() == 2
    labels = find_lesions(bits, lungs, grid, 1.0, minimal_volume_ml=0.01, minimal_peak=2.4)
    assert labels.max() == 1 and labels[3, 3, 3] == 1 and (labels > 0).sum() == 64
