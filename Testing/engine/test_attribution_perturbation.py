from itertools import permutations

import captum.attr
import numpy as np
import pytest
import torch
from support.small_networks import LinearModel, SmallClassifier, images, seeded
from xaiengine.attribution.coalitions import RegionGame, feature_ablation, kernel_shap, lime, shapley_sampling
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.perturbation import block_voxels, occlusion, positions, rise, smooth_masks
from xaiengine.attribution.regions import region_sums, region_table, supervoxels
from xaiengine.core.errors import OptionError
from xaiengine.targets.targets import ClassTarget


def game_on(network, inputs, labels):
    return RegionGame(TargetForward(network, ClassTarget(1)), inputs, torch.zeros_like(inputs), labels)


@pytest.fixture
def quadrants():
    labels = torch.ones(12, 12, dtype=torch.long)
    labels[:6, 6:], labels[6:, :6], labels[6:, 6:] = 2, 3, 4
    return labels


@pytest.mark.parametrize("shape, block", [((2, 1, 12, 16), (4, 4)), ((1, 1, 8, 8, 12), (4, 4, 4))])
def test_disjoint_occlusion_equals_captum(shape, block):
    network, inputs = seeded(SmallClassifier, len(block)), images(shape)
    found = occlusion(TargetForward(network, ClassTarget(1)), inputs, torch.zeros_like(inputs), block, batch_size=5)
    window = (1, *block)
    wanted = captum.attr.Occlusion(network).attribute(inputs, window, strides=window, target=1, baselines=0)
    torch.testing.assert_close(found.map * np.prod(block), wanted.float(), rtol=1e-4, atol=1e-6)


def test_overlapping_occlusion_equals_captum():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 12, 12))
    forward = TargetForward(network, ClassTarget(1))
    found = occlusion(forward, inputs, torch.zeros_like(inputs), (4, 4), (2, 2))
    wanted = captum.attr.Occlusion(network).attribute(inputs, (1, 4, 4), strides=(1, 2, 2), target=1, baselines=0)
    torch.testing.assert_close(found.map * 16, wanted.float(), rtol=1e-4, atol=1e-6)


def test_occlusion_of_a_linear_model_sums_to_its_contribution():
    weight, inputs = images((1, 1, 8, 8), seed=3), images((1, 1, 8, 8))
    found = occlusion(TargetForward(LinearModel(weight), ClassTarget(0)), inputs, torch.zeros_like(inputs), (2, 2))
    for row, column in ((0, 0), (4, 6)):
        box = (0, 0, slice(row, row + 2), slice(column, column + 2))
        torch.testing.assert_close(found.map[box].sum(), (weight * inputs)[box].sum(), rtol=1e-4, atol=1e-4)


def test_coarse_to_fine_finds_the_same_top_blocks_with_fewer_passes():
    weight = torch.zeros(1, 1, 64, 64)
    weight[0, 0, 9:13, 33:36] = 1.0
    forward, inputs = TargetForward(LinearModel(weight), ClassTarget(0)), torch.ones(1, 1, 64, 64)
    full = occlusion(forward, inputs, torch.zeros_like(inputs), (2, 2))
    quick = occlusion(forward, inputs, torch.zeros_like(inputs), (2, 2), coarse_to_fine=0.2)
    assert full.convergence["blocks"] >= 5 * quick.convergence["blocks"]
    torch.testing.assert_close(quick.map * (full.map > 0), full.map)


def test_occlusion_outside_the_roi_is_skipped():
    weight, inputs = images((1, 1, 8, 8), seed=3), images((1, 1, 8, 8))
    roi = torch.zeros(8, 8, dtype=torch.bool)
    roi[0, 0] = True
    forward = TargetForward(LinearModel(weight), ClassTarget(0))
    found = occlusion(forward, inputs, torch.zeros_like(inputs), (2, 2), roi=roi)
    assert found.convergence["blocks"] == 1
    assert found.map[..., 2:, :].abs().max() == 0


def test_blocks_are_given_in_millimeters():
    assert block_voxels(10, (1.0, 2.5, 5.0), (64, 64, 64)) == (10, 4, 2)
    with pytest.raises(OptionError, match="whole image"):
        block_voxels(100, (1.0, 1.0), (32, 32))


def test_positions_cover_the_image_to_its_edge():
    covered = np.zeros((7, 5), int)
    for row, column in positions((7, 5), (3, 2), (3, 2)):
        covered[row : row + 3, column : column + 2] += 1
    assert covered.min() >= 1 and covered.shape == (7, 5)


def test_feature_ablation_equals_captum(quadrants):
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 12, 12))
    found = feature_ablation(game_on(network, inputs, quadrants))
    wanted = captum.attr.FeatureAblation(network).attribute(
        inputs, baselines=0, target=1, feature_mask=quadrants[None, None] - 1
    )
    torch.testing.assert_close(found.map * 36, wanted.float(), rtol=1e-4, atol=1e-6)


def plain_shapley(game):
    """The definition: mean marginal contribution over all orders."""
    orders = list(permutations(range(game.count)))
    scores = np.zeros(game.count)
    for order in orders:
        kept = torch.zeros(1, game.count, dtype=torch.bool)
        before = float(game.values(kept))
        for region in order:
            kept[0, region] = True
            after = float(game.values(kept))
            scores[region] += (after - before) / len(orders)
            before = after
    return torch.as_tensor(scores, dtype=torch.float32)


def test_kernel_shap_with_all_coalitions_is_the_shapley_value(quadrants):
    game = game_on(seeded(SmallClassifier, 2), images((1, 1, 12, 12)), quadrants)
    found = kernel_shap(game, samples=64)
    torch.testing.assert_close(region_sums(found.map[0, 0], quadrants, 4), plain_shapley(game), rtol=1e-4, atol=1e-5)


def test_shapley_sampling_approaches_the_shapley_value(quadrants):
    game = game_on(seeded(SmallClassifier, 2), images((1, 1, 12, 12)), quadrants)
    found = shapley_sampling(game, permutations=400)
    wanted = plain_shapley(game)
    close_enough = 0.05 * float(wanted.abs().max())
    torch.testing.assert_close(region_sums(found.map[0, 0], quadrants, 4), wanted, atol=close_enough, rtol=0)


@pytest.mark.parametrize("method", [shapley_sampling, kernel_shap])
def test_shapley_methods_are_complete(method):
    labels = torch.as_tensor(supervoxels(images((12, 12)).numpy(), (1, 1), 25), dtype=torch.long)
    game = game_on(seeded(SmallClassifier, 2), images((1, 1, 12, 12)), labels)
    assert method(game).convergence["completeness_error"] < 1e-4


@pytest.mark.parametrize("method", [feature_ablation, shapley_sampling, kernel_shap, lime])
def test_linear_models_are_explained_exactly(method, quadrants):
    weight, inputs = images((1, 1, 12, 12), seed=3), images((1, 1, 12, 12))
    game = RegionGame(TargetForward(LinearModel(weight), ClassTarget(0)), inputs, torch.zeros_like(inputs), quadrants)
    more = {"ridge": 0.0} if method is lime else {}
    found = region_sums(method(game, **more).map[0, 0], quadrants, 4)
    torch.testing.assert_close(found, region_sums((weight * inputs)[0, 0], quadrants, 4), rtol=1e-3, atol=1e-3)


def test_rise_finds_the_pixels_that_count():
    weight = torch.zeros(1, 1, 24, 24)
    weight[0, 0, 4:8, 12:16] = 1.0
    forward, inputs = TargetForward(LinearModel(weight), ClassTarget(0)), torch.ones(1, 1, 24, 24)
    found = rise(forward, inputs, torch.zeros_like(inputs), masks=800, cells=6, batch_size=100)
    place = np.unravel_index(int(found.map[0, 0].argmax()), (24, 24))
    assert weight[0, 0][place] == 1
    assert found.map[0, 0, 18:, :8].abs().max() < 0.4 * found.map.max()


def test_smooth_masks_show_the_asked_part_of_the_image():
    masks = smooth_masks(300, (20, 24, 16), (4, 4, 4), 0.3, torch.Generator().manual_seed(0))
    assert masks.min() >= 0 and masks.max() <= 1
    assert abs(float(masks.mean()) - 0.3) < 0.02


def test_supervoxels_follow_an_edge_and_are_as_many_as_asked():
    image = np.zeros((40, 40))
    image[:, 23:] = 1.0
    labels = supervoxels(image, (1.0, 1.0), 16)
    assert 8 <= labels.max() <= 16 and labels.min() == 1
    assert all(len(np.unique(image[labels == label])) == 1 for label in range(1, labels.max() + 1))


def test_supervoxels_are_isotropic_in_the_patient():
    labels = supervoxels(np.random.default_rng(0).normal(size=(40, 40, 10)), (1.0, 1.0, 4.0), 64, compactness=10)
    assert labels.max() == 64
    extents = [np.ptp(np.argwhere(labels == label), axis=0) + 1 for label in range(1, 65)]
    in_plane, through_plane = np.mean(extents, axis=0)[0], np.mean(extents, axis=0)[2] * 4
    assert abs(in_plane - through_plane) < 3


def test_supervoxels_stay_within_the_mask():
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    labels = supervoxels(np.random.default_rng(0).normal(size=(20, 20)), (1, 1), 20, mask=mask)
    assert (labels[~mask] == 0).all() and (labels[mask] > 0).all()
    assert sorted(np.unique(labels)) == list(range(labels.max() + 1))


def test_region_table_adds_up():
    values = np.array([[1.0, -2.0], [3.0, 0.0]])
    rows = region_table(values, {"top": np.array([[1, 1], [0, 0]]), "empty": np.zeros((2, 2))}, 0.5)
    assert [row.segment for row in rows] == ["top", "empty", "outside all segments"]
    assert [row.attribution for row in rows] == [-1.0, 0.0, 3.0]
    assert (
        rows[0].net == pytest.approx(-1 / 6)
        and rows[0].part == pytest.approx(3 / 6)
        and rows[0].density_per_ml == -1.0
    )
    assert [row.rank for row in rows] == [2, 3, 1]
    assert sum(row.part for row in rows) == pytest.approx(1)


def test_one_region_is_refused():
    inputs = images((1, 1, 4, 4))
    with pytest.raises(OptionError, match="Regions are compared"):
        game_on(seeded(SmallClassifier, 2), inputs, torch.ones(4, 4))
