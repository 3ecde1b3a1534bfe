"""A result says which explained slices ended in no lesion, where they are and why, and how much the lesions hold."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from xaiengine.io.grid import Grid
from xaiengine.lesions.slice_maps import SliceMaps
from xaiengine.lesions.slice_outcomes import (
    FAINT,
    IN_A_LESION,
    LEFT_OUT,
    NOT_COUNTED,
    OUTSIDE,
    explained_voxels,
    information_sentence,
    information_share,
    outcome_sentence,
    slice_outcomes,
)

MODEL_GRID = Grid.from_directions((4, 4, 10), (5, 5, 3.0), None, (0, 0, -13.5))
SCAN_GRID = Grid.from_directions((20, 20, 30), (1, 1, 1.0), np.diag([-1.0, -1.0, 1.0]), (20, 20, -15))


def findings(bits, labels, lungs, explained) -> SimpleNamespace:
    count = MODEL_GRID.shape[2]
    asked = np.isin(np.arange(count), explained)
    zeros = np.zeros(count)
    maps = SliceMaps(np.zeros(MODEL_GRID.shape, np.float32), MODEL_GRID, 2, zeros, asked, zeros, zeros, "layer", True)
    regions = SimpleNamespace(lungs=SimpleNamespace(grid=SCAN_GRID, combined=lungs))
    threshold = SimpleNamespace(value=1.0)
    return SimpleNamespace(maps=maps, bits=bits, labels=labels, regions=regions, threshold=threshold, doubtful=None)


@pytest.fixture
def found():
    bits = np.zeros(SCAN_GRID.shape, np.float32)
    labels = np.zeros(SCAN_GRID.shape, np.int32)
    lungs = np.zeros(SCAN_GRID.shape, bool)
    lungs[5:15, 5:15] = True
    bits[8:12, 8:12, 4:8] = 3.0  # a lesion at S -11 to -7: slices 1 and 2
    labels[8:12, 8:12, 4:8] = 1
    bits[8, 8, 14] = 2.0  # one voxel in the lungs at S -1: slice 4
    bits[0, 0, 20] = 2.0  # outside the lungs at S 5: slice 6
    return findings(bits, labels, lungs, [1, 4, 6, 8])


def test_each_explained_slice_is_accounted_for(found):
    outcomes = slice_outcomes(found)
    assert {number: text for number, text in enumerate(outcomes) if text} == {
        1: IN_A_LESION,
        4: LEFT_OUT,
        6: OUTSIDE,
        8: FAINT,
    }
    sentence = outcome_sentence(found, outcomes)
    assert sentence.startswith("3 of 4 explained slices did not end in a lesion: at I 2 mm, ")
    assert "at S 4 mm, " + OUTSIDE in sentence and "at S 10 mm, " + FAINT in sentence
    assert outcome_sentence(found, ["", IN_A_LESION]) == ""


def test_a_slice_whose_place_is_not_counted_says_so(found):
    found.doubtful = SimpleNamespace(labels=np.where(found.bits == 2.0, found.regions.lungs.combined, 0))
    assert slice_outcomes(found)[4] == NOT_COUNTED


def test_the_lesions_part_of_the_information_is_said(found):
    assert information_share(found) == pytest.approx(192 / 196)
    assert information_sentence(found).startswith("98 % of the map's information lies in the reported lesions")
    found.bits[:] = 0
    assert information_share(found) is None and information_sentence(found) == ""


def test_the_mask_of_what_was_explained_covers_the_slabs_of_explained_slices(found):
    asked = explained_voxels(found.maps, SCAN_GRID)
    places = SCAN_GRID.index_to_ras(np.argwhere(asked))
    inside = [abs(places[:, 2] - (-13.5 + 3 * number)) <= 1.5 + 1e-6 for number in (1, 4, 6, 8)]
    assert np.any(inside, axis=0).all() and asked.any(axis=(0, 1)).sum() == 12
