import captum.metrics
import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as skimage_ssim
from support.small_networks import LinearModel, SmallClassifier, images, seeded
from xaiengine.attribution.forward import TargetForward
from xaiengine.core.errors import InputError, ModelError
from xaiengine.core.similarity import spearman, structural_similarity, top_overlap
from xaiengine.evaluation.controls import edge_map, random_map, smoothness_of
from xaiengine.evaluation.curves import GameSetting, deletion, insertion, insertion_deletion, ranks_of, tile_curves
from xaiengine.evaluation.localization import average_precision, effective_heat_ratio, found_causes, localization
from xaiengine.evaluation.randomization import cascading_randomization
from xaiengine.evaluation.sensitivity import infidelity, run_to_run, sensitivity_max, sensitivity_n
from xaiengine.targets.targets import ClassTarget


@pytest.fixture(params=[(8, 10), (6, 8, 4)])
def linear(request):
    """A linear model, its exact attribution, and the setting for its games."""
    weight, inputs = images((1, 1, *request.param), seed=3).abs(), images((1, 1, *request.param)).abs()
    forward = TargetForward(LinearModel(weight), ClassTarget(0))
    setting = GameSetting(forward, inputs, torch.zeros_like(inputs), normalized=True, steps=20)
    return setting, (weight * inputs)[0, 0].numpy()


def plain_insertion_area(contribution, order, steps):
    """The definition, voxel by voxel: a copy of the image for every step."""
    total, size = contribution.sum(), contribution.size
    counts = np.round(np.linspace(0, size, steps + 1)).astype(int)
    values = []
    for count in counts:
        shown = np.zeros(size)
        for voxel in order[:count]:
            shown[voxel] = contribution.ravel()[voxel]
        values.append(shown.sum() / total)
    return sum((values[i] + values[i + 1]) / 2 * (counts[i + 1] - counts[i]) / size for i in range(steps))


def test_insertion_equals_its_definition(linear):
    setting, contribution = linear
    order = np.argsort(-contribution.ravel(), kind="stable")
    wanted = plain_insertion_area(contribution, order, 20)
    assert insertion(setting, contribution).area == pytest.approx(wanted, abs=1e-5)


def test_deletion_mirrors_insertion_for_a_linear_model(linear):
    setting, contribution = linear
    shown, hidden = insertion(setting, contribution), deletion(setting, contribution)
    np.testing.assert_allclose(shown.values + hidden.values, 1, atol=1e-5)


def test_the_true_map_beats_random_maps_and_a_random_map_does_not(linear):
    setting, contribution = linear
    assert insertion_deletion(setting, contribution).beats_random
    assert not insertion_deletion(setting, random_map(contribution.shape, 99), orders=12).beats_random


def test_curves_end_at_the_scan_and_at_the_baseline(linear):
    setting, contribution = linear
    curve = insertion(setting, contribution)
    assert curve.values[0] == pytest.approx(0, abs=1e-6) and curve.values[-1] == pytest.approx(1, abs=1e-6)


def test_a_baseline_with_the_same_prediction_is_refused():
    inputs = images((1, 1, 6, 6))
    setting = GameSetting(TargetForward(LinearModel(torch.ones(1, 1, 6, 6)), ClassTarget(0)), inputs, inputs.clone())
    with pytest.raises(ModelError, match="same of the scan and of the baseline"):
        insertion_deletion(setting, np.zeros((6, 6)))


def test_tiles_are_removed_by_their_mean(linear):
    setting, contribution = linear
    curves = tile_curves(setting, contribution, 2)
    assert curves.area > 0
    assert tile_curves(setting, -contribution, 2).area == pytest.approx(-curves.area, abs=1e-5)
    first = [slice(0, 2)] * contribution.ndim
    boosted = np.zeros_like(contribution)
    boosted[tuple(first)] = 1
    drop = 1 - tile_curves(setting, boosted, 2).morf.values[1]
    hidden = int(np.ceil(contribution.size / 2**contribution.ndim / 20))
    if hidden == 1:
        assert drop == pytest.approx(contribution[tuple(first)].sum() / contribution.sum(), abs=1e-5)


def test_ranks_put_the_highest_first():
    assert ranks_of(np.array([[0.1, 3.0], [2.0, 0.1]])).tolist() == [[2, 0], [1, 3]]


def test_sensitivity_n_of_a_linear_model_is_one(linear):
    setting, contribution = linear
    found = sensitivity_n(setting, contribution, points=5, subsets=30)
    np.testing.assert_allclose(found.correlations, 1, atol=1e-4)
    assert abs(sensitivity_n(setting, random_map(contribution.shape, 5), subsets=60).mean) < 0.4


def test_infidelity_of_the_true_map_is_zero(linear):
    setting, contribution = linear
    found = infidelity(setting, contribution, 64)
    assert found.raw < 1e-8 and found.scaled < 1e-6
    assert infidelity(setting, np.zeros_like(contribution), 64).scaled == pytest.approx(1)


def test_infidelity_equals_captum_for_the_same_perturbations():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 9, 9))
    baseline = torch.zeros_like(inputs)
    values = images((1, 1, 9, 9), seed=7)
    setting = GameSetting(TargetForward(network, ClassTarget(1)), inputs, baseline)
    found = infidelity(setting, values[0, 0].numpy(), 40, block=(3, 3), seed=2, per_input_unit=True)
    draws = np.random.default_rng(2)
    boxes = iter([tuple(int(draws.integers(0, 7)) for _ in range(2)) for _ in range(40)])

    def perturb(rows):
        moved = rows.clone()
        for row in range(len(rows)):
            y, x = next(boxes)
            moved[row, :, y : y + 3, x : x + 3] = 0
        return rows - moved, moved

    wanted = captum.metrics.infidelity(network, perturb, inputs, values, target=1, n_perturb_samples=40)
    assert found.raw == pytest.approx(float(wanted), rel=1e-4)


def test_sensitivity_max_of_a_constant_map_is_zero_and_of_a_linear_one_its_slope():
    inputs = images((1, 1, 8, 8))
    assert sensitivity_max(lambda rows: np.ones((8, 8)), inputs).largest == 0
    found = sensitivity_max(lambda rows: rows[0, 0].numpy(), inputs, radius=0.1, draws=4)
    scale = 0.1 * float(inputs.max() - inputs.min())
    assert 0 < found.mean <= found.largest <= scale * 8 / float(inputs.norm())


def test_run_to_run_measures_the_spread_over_seeds():
    base = np.ones((20, 20))
    found = run_to_run(lambda seed: base + 0.1 * random_map((20, 20), seed), range(6))
    assert found.relative_sd == pytest.approx(0.1, rel=0.15)
    assert run_to_run(lambda seed: edge_map(random_map((9, 9), 0)), [1, 2]).lowest_spearman == pytest.approx(1)


def test_effective_heat_ratio_by_hand():
    truth = np.array([[True, True, False, False]])
    assert effective_heat_ratio(np.array([[1.0, 0.5, 0.0, 0.0]]), truth) == 1
    assert effective_heat_ratio(np.array([[0.0, 0.0, 1.0, 0.0]]), truth) == 0
    # Heat 1 inside and 0.5 outside: all quantiles above 0 keep the inner voxel alone.
    values = np.array([[1.0, 0.0, 0.5, 0.05]])
    assert effective_heat_ratio(values, truth) == pytest.approx(0.05 * (1 / 1.5 + 1) + 0.9)


def test_localization_by_hand():
    truth = np.zeros((4, 4), bool)
    truth[0, :2] = True
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3], values[0, 1] = 1.0, 0.8, 0.6
    found = localization(values, truth)
    assert (found.pointing, found.top) == (1, 0.5)
    assert found.iou == pytest.approx(2 / 3) and found.dice == pytest.approx(0.8)
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_average_precision_treats_ties_alike():
    truth = np.array([True, False, True, False])
    assert average_precision(np.zeros(4), truth) == average_precision(np.zeros(4), truth[::-1]) == 0.5


def test_found_causes_counts_both_or_one():
    first, second = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    first[:2, :2], second[6:, 6:] = True, True
    values = first.astype(float)
    assert found_causes(values, [first, second]) == 1
    assert found_causes(values + 0.5 * second, [first, second]) == 2


def test_empty_truth_is_refused():
    with pytest.raises(InputError, match="marks no voxel"):
        localization(np.ones((3, 3)), np.zeros((3, 3)))


def test_similarities_equal_scipy_and_skimage():
    first, second = images((1, 24, 24))[0].numpy(), images((1, 24, 24), seed=5)[0].numpy()
    second = second + first
    assert spearman(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    scaled = [(values - values.min()) / np.ptp(values).astype(np.float64) for values in (first, second)]
    _, wanted = skimage_ssim(*scaled, data_range=1.0, gaussian_weights=True, use_sample_covariance=False, full=True)
    assert structural_similarity(first, second) == pytest.approx(float(wanted.mean()), abs=1e-6)


def test_top_overlap_counts_shared_voxels():
    first, second = np.arange(100.0), np.arange(100.0)
    second[99] = -1
    assert top_overlap(first, second, 0.1) == pytest.approx(0.9)
    assert spearman(np.ones(5), np.arange(5)) == 0


def test_smoothness_is_recovered_from_a_map():
    for sigma in (1.0, 2.0, 4.0):
        assert smoothness_of(random_map((96, 96), 3, sigma)) == pytest.approx(sigma, rel=0.1)
    assert smoothness_of(random_map((96, 96), 3)) < 0.3


def test_an_edge_map_survives_randomization_and_a_weight_map_does_not():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 24, 24))

    def from_weights(model):
        with torch.no_grad():
            return model.early[0](inputs)[0, 0].numpy()

    assert not cascading_randomization(lambda model: edge_map(inputs[0, 0].numpy()), network, runs=1).passed
    noise = lambda model: random_map((24, 24), int(1e6 * abs(float(model.head.weight[0, 0].detach()))))  # noqa: E731
    assert cascading_randomization(noise, network, runs=2).passed
    found = cascading_randomization(from_weights, network, stages=4, runs=1)
    assert found.layers[-1] == "early.0"
    np.testing.assert_allclose(found.spearman[:-1], 1)  # only the last stage reaches the first layer


def test_randomization_leaves_the_network_as_it_was():
    network = seeded(SmallClassifier, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cascading_randomization(lambda model: np.ones((4, 4)), network, runs=1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
