"""Quantiles and overlaps of units, against plain stretched maps kept in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from xaiengine.attribution.placement import placed
from xaiengine.network.feature_grid import FeatureGrid, stretched
from xaiengine.semantics.dissection.activation_store import ActivationStore, MaskStore, StoredSample
from xaiengine.semantics.dissection.blocks import BlockGrid, Thinning
from xaiengine.semantics.dissection.counting import ImageCounts, hit_voxels, overlaps
from xaiengine.semantics.dissection.quantiles import sampled_window, unit_thresholds
from xaiengine.semantics.dissection.statistics import bootstrap, chance_overlaps, detectors, draws_of_images, iou_of

SHAPES = {
    "whole steps": ((7, 7), (28, 28), (4.0, 4.0), (1.5, 1.5)),
    "large steps": ((3, 4), (48, 64), (16.0, 16.0), (7.5, 7.5)),
    "odd steps": ((5, 6), (23, 31), (23 / 5, 31 / 6), (1.8, 25 / 12)),
    "not centered": ((6, 6), (26, 26), (4.0, 4.0), (0.0, 3.5)),
    "cells are voxels": ((12, 9), (12, 9), (1.0, 1.0), (0.0, 0.0)),
    "finer than voxels": ((12, 12), (7, 7), (7 / 12, 7 / 12), (-5 / 24, -5 / 24)),
    "a single cell": ((1, 4), (9, 16), (9.0, 4.0), (4.0, 1.5)),
    "volumes": ((4, 5, 3), (16, 20, 9), (4.0, 4.0, 3.0), (1.5, 1.5, 1.0)),
}


def grid_of(name: str) -> tuple[FeatureGrid, BlockGrid]:
    cells, voxels, scale, offset = SHAPES[name]
    places = FeatureGrid(cells, scale, offset, measured=True)
    return places, BlockGrid(places, voxels)


def activations(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Units of different kinds: smooth, sparse, with few values, constant, negative."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((6, *shape), generator=generator)
    values[1] = values[1].sub(0.8).clamp_min(0)
    values[2] = (values[2] > 1).float() * (1 + seed % 3)
    values[3] = 0.25
    values[4] = -values[4].abs() - 3
    values[5] = values[5].exp() ** 2
    return values


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("level", [-4.0, 0.0, 0.25, 1.1])
def test_hot_blocks_hold_exactly_the_voxels_above_the_threshold(name, level):
    places, grid = grid_of(name)
    values = activations(SHAPES[name][0])
    thresholds = torch.full((6,), level)
    found = torch.zeros((6, grid.voxel_count), dtype=torch.bool)
    for block in grid.hot(values, thresholds):
        units, voxels = hit_voxels(block, grid)
        assert not found[units, voxels].any()  # no voxel comes twice
        found[units, voxels] = True
    plain = placed(values, places, SHAPES[name][1]).flatten(1)
    clear = (plain - level).abs() > 1e-5
    assert torch.equal(found[clear], (plain > level)[clear])


def test_few_voxels_are_computed_for_a_high_threshold():
    _, grid = grid_of("large steps")
    values = torch.zeros(1, 3, 4)
    values[0, 1, 2] = 1.0
    computed = sum(block.values.numel() for block in grid.hot(values, torch.tensor([0.8])))
    assert 0 < computed <= 0.1 * grid.voxel_count


def test_thinned_voxels_are_all_of_them_in_turn():
    _, grid = grid_of("odd steps")
    values = activations(SHAPES["odd steps"][0])
    thresholds = torch.zeros(6)
    whole = sum(float((block.values > 0).sum()) for block in grid.hot(values, thresholds))
    turns = [Thinning(3, turn) for turn in range(9)]
    parts = sum(float((b.values > 0).sum()) for turn in turns for b in grid.hot(values, thresholds, turn))
    assert parts == whole
    assert sum(grid.sampled_count(turn) for turn in turns) == grid.voxel_count


def plain_share_above(images: list[torch.Tensor], name: str, thresholds: torch.Tensor) -> np.ndarray:
    places, _ = grid_of(name)
    maps = torch.cat([placed(image, places, SHAPES[name][1]).flatten(1) for image in images], 1)
    return (maps > thresholds[:, None]).double().mean(1).numpy()


def found_thresholds(images: list[torch.Tensor], name: str, quantile: float, stride: int = 1):
    _, grid = grid_of(name)
    stacked = torch.stack(images).transpose(0, 1).flatten(1)
    extremes = (stacked.amin(1), stacked.amax(1))
    sweep = lambda: ((image, grid) for image in images)
    window = sampled_window(((image, grid) for image in images[::7]), quantile)
    turns = stride ** len(grid.axes)
    total = sum(grid.sampled_count(Thinning(stride, turn % turns)) for turn in range(len(images)))
    return unit_thresholds(sweep, total, window, extremes, quantile, stride=stride)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("quantile", [0.99, 0.9])
def test_thresholds_leave_the_wanted_share_of_voxels_above(name, quantile):
    images = [activations(SHAPES[name][0], seed) for seed in range(40)]
    found = found_thresholds(images, name, quantile)
    above = plain_share_above(images, name, found.values)
    places, _ = grid_of(name)
    maps = torch.cat([placed(image, places, SHAPES[name][1]).flatten(1) for image in images], 1)
    just_below = torch.tensor([float(row[row <= t].max()) for row, t in zip(maps, found.values + 1e-6)])
    with_ties = (maps >= just_below[:, None] - 1e-5).double().mean(1).numpy()
    assert found.rank_error < 1e-3
    assert (above <= 1 - quantile + 1e-3).all()
    assert (with_ties >= 1 - quantile - 1e-3).all()


def test_thresholds_from_a_part_of_the_voxels_keep_their_rank():
    images = [activations(SHAPES["large steps"][0], seed) for seed in range(64)]
    found = found_thresholds(images, "large steps", 0.99, stride=2)
    above = plain_share_above(images, "large steps", found.values)
    assert abs(above[[0, 1, 4, 5]] - 0.01).max() < 1e-3
    assert above[3] == 0


def test_a_window_in_the_wrong_place_is_moved():
    images = [activations((7, 7), seed) for seed in range(12)]
    _, grid = grid_of("whole steps")
    stacked = torch.stack(images).transpose(0, 1).flatten(1)
    right = found_thresholds(images, "whole steps", 0.99)
    for window in ((-9.0, -8.5), (50.0, 60.0), (0.0, 0.0)):
        wrong = tuple(torch.full((6,), end) for end in window)
        found = unit_thresholds(
            lambda: ((image, grid) for image in images),
            12 * 28 * 28,
            wrong,
            (stacked.amin(1), stacked.amax(1)),
            0.99,
        )
        assert plain_share_above(images, "whole steps", found.values) == pytest.approx(
            plain_share_above(images, "whole steps", right.values), abs=1e-3
        )


def random_masks(generator: np.random.Generator, voxels: tuple[int, ...], concepts: int) -> dict[int, np.ndarray]:
    """Blocks, which may overlap; some concepts are absent."""
    masks = {}
    for concept in range(concepts):
        if generator.random() < 0.7:
            mask = np.zeros(voxels, dtype=bool)
            start = [generator.integers(0, max(1, size // 2)) for size in voxels]
            mask[tuple(slice(a, a + max(1, size // 3)) for a, size in zip(start, voxels))] = True
            masks[concept] = mask
    return masks


@pytest.mark.parametrize("name", SHAPES)
def test_overlaps_equal_those_of_stretched_maps(name):
    places, grid = grid_of(name)
    generator = np.random.default_rng(3)
    thresholds = torch.tensor([1.2, 0.3, 0.4137, 0.25, -3.5, 4.0])
    for seed in range(4):
        values = activations(SHAPES[name][0], seed)
        masks = random_masks(generator, SHAPES[name][1], 3)
        concepts = tuple(masks)
        stack = np.stack([masks[number] for number in concepts]) if concepts else np.zeros((0, *SHAPES[name][1]), bool)
        sample = StoredSample(0, values, SHAPES[name][1], concepts, stack)
        area, inside = overlaps(sample, grid, thresholds)
        levels = thresholds.reshape(-1, *[1] * len(places.cells))
        plain = (placed(values, places, SHAPES[name][1]) > levels).numpy()
        assert np.array_equal(area.numpy(), plain.reshape(6, -1).sum(1))
        for column, number in enumerate(concepts):
            expected = [(unit & masks[number]).sum() for unit in plain]
            assert np.array_equal(inside[:, column].numpy(), expected)


def test_what_is_stored_comes_back(tmp_path):
    masks = MaskStore(tmp_path)
    store = ActivationStore(tmp_path, "layer", masks)
    generator = np.random.default_rng(1)
    kept = []
    for image in range(5):
        cells, voxels = ((3, 4), (9, 11)) if image % 2 else ((2, 2), (5, 7))
        values, marks = torch.randn(4, *cells), random_masks(generator, voxels, 4)
        store.add(image, values, voxels, masks.add(marks))
        kept.append((values, voxels, marks))
    for sample, (values, voxels, marks) in zip(store.samples(), kept, strict=True):
        assert torch.equal(sample.activation, values) and sample.voxels == voxels
        assert dict(zip(sample.concepts, sample.masks, strict=True)).keys() == marks.keys()
        assert all(np.array_equal(mask, marks[number]) for number, mask in zip(sample.concepts, sample.masks))
    assert [sample.image for sample in store.samples({1, 4})] == [1, 4]
    assert store.voxel_count == 3 * 35 + 2 * 99


@pytest.fixture
def counted(tmp_path: Path):
    """Counts of 20 images, 5 units and 3 concepts, on disk and in memory."""
    generator = np.random.default_rng(2)
    table = generator.integers(0, 50, (20, 5, 4))
    table[..., 0] += 100
    sizes = generator.integers(60, 200, (20, 3))
    counts = ImageCounts(tmp_path / "counts", 5, 3)
    for image in table:
        counts.add(image)
    return counts, table.astype(float), sizes.astype(float)


def test_bootstrap_equals_one_that_keeps_all_images(counted, monkeypatch):
    counts, table, sizes = counted
    monkeypatch.setattr("xaiengine.semantics.dissection.statistics.LARGEST_BLOCK", 97)  # several parts
    best = np.array([0, 1, 2, 0, 1])
    chance = np.array([0.05, np.nan, 0.12])
    found = bootstrap(counts, sizes, best, 0.1, chance, 30, seed=4)
    weights = draws_of_images(20, 30, 4)
    for draw in range(30):
        images = np.repeat(np.arange(20), weights[draw])
        assert len(images) == 20
        total, size = table[images].sum(0), sizes[images].sum(0)
        iou = total[:, 1:] / (total[:, :1] + size[None] - total[:, 1:])
        assert found.best_iou[draw] == pytest.approx(iou[np.arange(5), best], rel=1e-6)
        floor = np.maximum(0.1, np.nan_to_num(chance))
        label = [u for u in range(5) if iou[u].max() > floor[iou[u].argmax()]]
        expected = np.bincount([iou[u].argmax() for u in label], minlength=3)
        assert np.array_equal(found.units_per_concept[draw], expected)
    low, high = found.interval()
    assert (low <= np.median(found.best_iou, 0)).all() and (np.median(found.best_iou, 0) <= high).all()


def test_iou_of_nothing_is_zero():
    assert iou_of(np.zeros((2, 1)), np.zeros(2), np.zeros(1)).tolist() == [[0.0], [0.0]]
    assert detectors(np.zeros((3, 0)), 0.04, np.zeros(0)).tolist() == [-1, -1, -1]
    assert detectors(np.array([[0.05, 0.3], [0.03, 0.01]]), 0.04, np.array([np.nan, 0.2])).tolist() == [1, -1]
    assert detectors(np.array([[0.05, 0.3]]), 0.04, np.array([np.nan, 0.4])).tolist() == [-1]


def test_chance_is_what_shifted_masks_give():
    """One unit is on in a block of voxels, the concept is another block: the mean overlap of a circular shift is the
    product of their shares."""
    cells = voxels = (20, 20)
    grid = BlockGrid(FeatureGrid(cells, (1.0, 1.0), (0.0, 0.0), True), voxels)
    values = torch.zeros(2, *cells)
    values[0, 3:9, 4:10] = 1.0
    mask = np.zeros(voxels, dtype=bool)
    mask[3:9, 4:10] = True
    samples = [(StoredSample(n, values, voxels, (1,), mask[None]), grid) for n in range(5)]
    found = chance_overlaps(
        samples,
        torch.tensor([0.5, 0.5]),
        np.array([1, 0]),
        np.array([0]),
        np.array([180.0, 0.0]),
        np.array([0.0, 180.0]),
        rolls=400,
        seed=0,
    )
    expected = 5 * 36 * 36 / 400
    assert found.mean[0] == pytest.approx(expected / (360 - expected), rel=0.15)
    assert np.isnan(found.mean[1]) and np.isnan(found.level[0])
    assert found.mean[0] < found.level[1] < 1.0


def test_stretched_places_are_those_of_an_image_resized_from_border_to_border():
    cells, size = 7, 33
    values = torch.randn(2, cells, cells)
    places = FeatureGrid((cells, cells), *zip(*[stretched(cells, size)] * 2), measured=False)
    grid = BlockGrid(places, (size, size))
    resized = torch.nn.functional.interpolate(values[None], (size, size), mode="bilinear", align_corners=False)[0]
    found = torch.zeros(2, size * size)
    for block in grid.hot(values, torch.tensor([0.2, -0.3])):
        units, voxels = hit_voxels(block, grid)
        found[units, voxels] = 1
    assert torch.equal(found > 0, resized.flatten(1) > torch.tensor([[0.2], [-0.3]]))
