"""Distances of attribution from a structure, against closed forms on simple shapes."""

from __future__ import annotations

import numpy as np
import pytest
from xaiengine.evaluation.attention_distance import distance_curve, receptive_field
from xaiengine.io.distance import signed_distance


def plane_mask(size=(40, 8, 8), depth=10):
    mask = np.zeros(size, bool)
    mask[:depth] = True
    return mask


def test_distance_is_measured_in_mm_from_the_surface_between_voxels():
    mask = plane_mask()
    distance = signed_distance(mask, (2.0, 5.0, 5.0))[:, 4, 4]
    expected = (np.arange(40) - 9.5) * 2.0  # the surface lies between voxels 9 and 10
    assert np.allclose(distance, expected)  # the border of the scan, beyond voxel 0, is no surface


def test_shares_and_radii_of_attribution_at_known_distances():
    mask = plane_mask()
    values = np.zeros(mask.shape)
    values[5, 4, 4] = 3.0  # inside
    values[14, 4, 4] = -4.0  # 9 mm outside
    values[29, 4, 4] = 3.0  # 39 mm outside
    curve = distance_curve(values, mask, (2.0, 5.0, 5.0), bin_mm=2.0)
    assert curve.outside_share == pytest.approx(0.7)
    assert curve.radius_50_mm == pytest.approx(9.0)
    assert curve.radius_90_mm == pytest.approx(39.0)
    assert curve.share[-1] == pytest.approx(1.0)
    up_to = {float(d): s for d, s in zip(curve.distance_mm, curve.share)}
    assert up_to[8.0] == pytest.approx(0.3) and up_to[10.0] == pytest.approx(0.7)
    assert curve.attribution.sum() == pytest.approx(10.0)
    assert curve.volume_ml.sum() == pytest.approx(mask.size * 0.05)


def test_everything_inside_has_radius_zero_and_an_empty_map_no_share():
    mask = plane_mask()
    inside = distance_curve(mask * 1.0, mask, (1.0, 1.0, 1.0))
    assert inside.radius_90_mm == 0.0 and inside.outside_share == 0.0
    nothing = distance_curve(np.zeros(mask.shape), mask, (1.0, 1.0, 1.0))
    assert nothing.share.max() == 0.0 and nothing.radius_90_mm == 0.0
    with pytest.raises(ValueError):
        signed_distance(np.zeros((3, 3, 3), bool), (1, 1, 1))


def test_the_receptive_field_of_a_gaussian_has_its_closed_form_radii():
    """In three dimensions |g| = exp(-r²/2s²) holds half its sum within 1.538 s, 90 % within 2.500 s; the root mean
    square radius of g² is s √1.5."""
    sigma, size, spacing = 8.0, (41, 41, 61), (2.0, 2.0, 1.5)
    voxel = (20, 20, 30)
    axes = [(np.arange(n) - c) * s for n, c, s in zip(size, voxel, spacing)]
    square = axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2] ** 2
    found = receptive_field(np.exp(-square / (2 * sigma**2)), voxel, spacing)
    assert found.radius_50_mm == pytest.approx(1.538 * sigma, rel=0.02)
    assert found.radius_90_mm == pytest.approx(2.500 * sigma, rel=0.02)
    assert found.rms_mm == pytest.approx(sigma * 1.5**0.5, rel=0.01)
