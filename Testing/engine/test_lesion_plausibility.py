"""What is kept apart from the lesions, on parts whose density and place are set by hand."""

from dataclasses import replace

import numpy as np
import pytest
from support.lesion_patients import grid_of
from xaiengine.lesions.plausibility import apart, weigh_evidence
from xaiengine.lesions.slice_maps import SliceMaps

GRID = grid_of((1.0, 1.0, 2.0), (40, 40, 20))


def maps_of(probability):
    """Maps whose slices are those of the grid; all of them explained."""
    count = len(probability)
    return SliceMaps(
        density=np.zeros(GRID.shape, np.float32),
        grid=GRID,
        slice_axis=2,
        probability=np.asarray(probability, np.float32),
        explained=np.ones(count, bool),
        bits=np.zeros(count),
        steps=np.zeros(count, int),
        layer="layer",
        cells_measured=True,
    )


def weighed(part, hu, lungs=None, relative_peak=0.0, bits=None):
    labels = np.asarray(part, np.int32)
    lungs = np.ones(GRID.shape, bool) if lungs is None else lungs
    bits = (labels > 0).astype(np.float32) if bits is None else bits
    maps = maps_of(np.linspace(0, 0.95, 20))
    return weigh_evidence(labels, bits, lungs, GRID, maps, hu=hu, relative_peak=relative_peak)


def cube(value=1, low=15, size=8, k=6, height=6):
    part = np.zeros(GRID.shape, np.int32)
    part[low : low + size, low : low + size, k : k + height] = value
    return part


@pytest.mark.parametrize(
    ("inside", "words"),
    [(30.0, ""), (-300.0, ""), (250.0, "contrast agent"), (700.0, "bone"), (-90.0, "fat")],
)
def test_density_decides(inside, words):
    (evidence,) = weighed(cube(), np.where(cube() > 0, inside, -850.0))
    assert (words in evidence.reason) if words else evidence.reason == ""


def test_shares_slices_and_probability_by_hand():
    hu = np.full(GRID.shape, -850.0)
    part = cube()
    hu[part > 0] = 20.0
    hu[15:17, 15:23, 6:12] = -90.0  # a quarter
    hu[22:23, 15:23, 6:12] = 200.0  # an eighth
    (evidence,) = weighed(part, hu)
    assert evidence.fat == pytest.approx(0.25) and evidence.dense == pytest.approx(0.125)
    assert evidence.slices == 6 and evidence.probability == pytest.approx(0.95 * 11 / 19, abs=1e-6)
    assert evidence.border == 0.0 and evidence.reason == ""


def test_a_sliver_along_the_border_is_kept_apart_and_a_mass_at_the_border_is_not():
    lungs = np.zeros(GRID.shape, bool)
    lungs[10:30] = True
    sliver, mass = np.zeros(GRID.shape, np.int32), np.zeros(GRID.shape, np.int32)
    sliver[10:13, 5:35, 4:16] = 1
    mass[10:20, 10:24, 4:12] = 1
    hu = np.full(GRID.shape, 20.0)
    assert "border" in weighed(sliver, hu, lungs)[0].reason
    assert weighed(mass, hu, lungs)[0].reason == ""


def test_a_long_part_with_some_contrast_agent_is_a_vessel_and_a_compact_one_is_not():
    vessel, mass = np.zeros(GRID.shape, np.int32), cube()
    vessel[4:36, 19:22, 9:11] = 1
    for part, words in ((vessel, "as a vessel is"), (mass, "")):
        hu = np.where(part > 0, 20.0, -850.0)
        where = np.argwhere(part > 0)
        hu[tuple(where[: len(where) // 10].T)] = 250.0
        (evidence,) = weighed(part, hu)
        assert (words in evidence.reason) if words else evidence.reason == ""
    (evidence,) = weighed(vessel, np.where(vessel > 0, 20.0, -850.0))
    assert evidence.reason == "" and evidence.length > 2, "without contrast agent its shape says nothing"


def test_the_border_is_seen_on_coarse_voxels_too():
    grid = grid_of((3.05, 3.05, 10.0), GRID.shape)
    lungs = np.zeros(GRID.shape, bool)
    lungs[10:30] = True
    sliver = np.zeros(GRID.shape, np.int32)
    sliver[10, 5:35, 4:16] = 1
    maps = replace(maps_of(np.ones(20)), grid=grid)
    (evidence,) = weigh_evidence(sliver, sliver.astype(np.float32), lungs, grid, maps, hu=np.full(GRID.shape, 20.0))
    assert evidence.border == 1.0 and "border" in evidence.reason


def test_a_faint_part_is_compared_with_the_strongest_plausible_one():
    vessel, strong, faint = cube(1, 2, 6), cube(2, 15, 6), cube(3, 28, 6)
    labels = vessel + strong + faint
    hu = np.where(vessel > 0, 300.0, 20.0)
    bits = np.select([vessel > 0, strong > 0, faint > 0], [100.0, 10.0, 4.0], 0.0).astype(np.float32)
    evidence = weighed(labels, hu, relative_peak=0.5, bits=bits)
    assert "contrast" in evidence[0].reason and evidence[1].reason == "" and "40 %" in evidence[2].reason
    counted, others = apart(labels, evidence)
    assert np.array_equal(counted > 0, strong > 0) and counted.max() == 1
    assert np.array_equal(others, (vessel > 0) + 2 * (faint > 0))


def test_without_densities_place_alone_decides():
    (evidence,) = weighed(cube(), None)
    assert np.isnan(evidence.fat) and np.isnan(evidence.dense) and evidence.reason == ""
