"""Thresholds on the map: calibrated on healthy lungs, Otsu's, given."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu
from xaiengine.core.errors import InputError, OptionError
from xaiengine.lesions.threshold import absolute_threshold, calibrated_threshold, otsu_threshold


@pytest.mark.parametrize("fraction", [0.5, 0.1, 0.01, 0.003])
def test_calibration_is_the_lowest_value_that_few_enough_voxels_exceed(fraction):
    rng = np.random.default_rng(0)
    scans = [rng.exponential(size=(10, 10, 7)).astype(np.float32), rng.exponential(2, size=300).astype(np.float32)]
    values = np.concatenate([scan.ravel() for scan in scans])
    threshold = calibrated_threshold(scans, fraction).value
    assert (values > threshold).mean() <= fraction
    lower = values[values < threshold].max()
    assert (values > lower).mean() > fraction


def test_calibration_with_ties_does_not_exceed_the_fraction():
    values = np.r_[np.zeros(90), np.full(10, 3.0)]
    assert calibrated_threshold([values], 0.05).value == 3.0
    assert calibrated_threshold([values], 0.1).value == 0.0


def test_calibration_refuses_what_cannot_be_calibrated():
    with pytest.raises(InputError, match="too few"):
        calibrated_threshold([np.zeros(50)], 0.01)
    with pytest.raises(InputError, match="too few"):
        calibrated_threshold([], 0.01)
    with pytest.raises(InputError, match="not finite"):
        calibrated_threshold([np.r_[np.zeros(500), np.nan]], 0.01)
    with pytest.raises(OptionError, match="fraction"):
        calibrated_threshold([np.zeros(500)], 0.0)


@pytest.mark.parametrize("seed", range(4))
def test_otsu_equals_scikit_image(seed):
    rng = np.random.default_rng(seed)
    values = np.r_[rng.normal(1, 0.3, 4000), rng.normal(4, 1.0, 900)]
    width = np.ptp(values) / 512
    assert otsu_threshold(values).value == pytest.approx(threshold_otsu(values, nbins=512), abs=1.01 * width)


def test_otsu_parts_two_separate_classes_in_the_middle_of_their_gap():
    values = np.r_[np.zeros(700), np.full(300, 10.0)]
    assert otsu_threshold(values).value == pytest.approx(5.0, abs=0.1)


def test_otsu_floor_keeps_healthy_lungs_dark():
    values = np.random.default_rng(0).exponential(1e-4, 5000)
    assert (values > otsu_threshold(values).value).any()
    assert not (values > otsu_threshold(values, floor=0.01).value).any()


def test_otsu_of_a_constant_map_finds_nothing():
    values = np.full(100, 0.3)
    assert not (values > otsu_threshold(values).value).any()
    with pytest.raises(InputError, match="no voxel"):
        otsu_threshold(np.empty(0))


@pytest.mark.parametrize("bits", [-1.0, float("nan"), float("inf")])
def test_an_absolute_threshold_is_a_number(bits):
    assert absolute_threshold(0.25).value == 0.25
    with pytest.raises(OptionError, match="bits per voxel"):
        absolute_threshold(bits)
