"""Found lesions against known ones, and burden over seeds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid
from xaiengine.lesions.comparison import compare_lesions
from xaiengine.lesions.components import label_mask
from xaiengine.lesions.lungs.lungs import Lungs
from xaiengine.lesions.quantify import quantify_lesions
from xaiengine.lesions.repeatability import spread_over_seeds

GRID = Grid.from_directions((30, 20, 20), (2.0, 1.0, 1.0), None, (5.0, 6.0, 7.0))


def block(start, size) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size))] = True
    return mask


def test_shifted_block_by_hand():
    reference, found = block((5, 5, 5), (4, 4, 4)), block((7, 5, 5), (4, 4, 4))
    result = compare_lesions(label_mask(found, GRID), reference, GRID)
    assert result.dice == pytest.approx(2 * 32 / 128)
    assert result.volume_error_ml == 0 and result.volume_error_percent == 0
    assert result.largest_centroid_distance_mm == pytest.approx(4.0)
    (lesion,) = result.references
    assert lesion.detected and lesion.covered_share == pytest.approx(0.5)
    assert lesion.dice == pytest.approx(0.5)
    assert (result.false_count, result.false_ml) == (0, 0)


def test_missed_and_false_lesions_are_counted():
    reference = block((2, 2, 2), (5, 5, 5)) | block((20, 10, 10), (3, 3, 3))
    found = block((2, 2, 2), (5, 5, 5)) | block((20, 2, 2), (2, 2, 2))
    result = compare_lesions(label_mask(found, GRID), reference, GRID)
    assert [lesion.detected for lesion in result.references] == [True, False]
    assert result.detected_count == 1
    assert result.references[1].found_label == 0 and math.isnan(result.references[1].centroid_distance_mm)
    assert (result.false_count, result.false_ml) == (1, pytest.approx(8 * 0.002))
    assert result.largest_found_dice == pytest.approx(2 * 125 / (125 + 152))
    assert result.volume_error_ml == pytest.approx((133 - 152) * 0.002)


def test_a_touch_is_no_detection():
    reference = block((5, 5, 5), (5, 5, 5))
    found = block((9, 9, 9), (5, 5, 5))
    result = compare_lesions(label_mask(found, GRID), reference, GRID)
    assert not result.references[0].detected
    assert result.references[0].found_label == 1 and result.false_count == 0


def test_nothing_known_and_nothing_found_agree():
    empty = np.zeros(GRID.shape, bool)
    result = compare_lesions(empty.astype(int), empty, GRID)
    assert result.dice == 1 and result.references == () and math.isnan(result.volume_error_percent)
    only_found = compare_lesions(label_mask(block((1, 1, 1), (2, 2, 2)), GRID), empty, GRID)
    assert only_found.dice == 0 and only_found.false_count == 1


def test_another_shape_is_refused():
    with pytest.raises(InputError, match="differ in shape"):
        compare_lesions(np.zeros((3, 3, 3), int), np.zeros(GRID.shape, bool), GRID)


def measured(size: int):
    mask = block((2, 2, 2), (size, 5, 5))
    everything = np.ones(GRID.shape, bool)
    return quantify_lesions(label_mask(mask, GRID), mask * 1.0, GRID, Lungs(everything, ~everything, GRID))


def test_spread_over_seeds_by_hand():
    total = spread_over_seeds([measured(2), measured(4), measured(6)])[0]
    assert total.seeds == 3
    assert total.mean_ml == pytest.approx(0.2) and total.sd_ml == pytest.approx(0.1)
    assert total.mean_percent == pytest.approx(100 * 100 / 12000)
    assert total.sd_percent == pytest.approx(100 * 50 / 12000)


def test_spread_of_a_single_seed_is_unknown():
    total = spread_over_seeds([measured(2)])[0]
    assert total.mean_ml == pytest.approx(0.1) and math.isnan(total.sd_ml)
    with pytest.raises(InputError, match="no run"):
        spread_over_seeds([])


def test_runs_over_different_regions_are_refused():
    mask = block((2, 2, 2), (3, 5, 5))
    everything = np.ones(GRID.shape, bool)
    other = quantify_lesions(
        label_mask(mask, GRID), mask * 1.0, GRID, Lungs(everything, ~everything, GRID), lobes={"lobe": everything}
    )
    with pytest.raises(InputError, match="different regions"):
        spread_over_seeds([measured(2), other])
