"""Shapley values against healthy scans: closed forms, all coalitions by hand, and the way from scans to a map."""

import itertools
import math

import numpy as np
import pytest
import torch
import xaiengine as xai
from support.prediction_models import BrightBall
from torch import nn
from xaiengine.attribution.bottleneck.reference_store import find_examples, stored_examples_path
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.gradient import expected_gradients
from xaiengine.attribution.reference_game import ReferenceGame, reference_shapley
from xaiengine.attribution.registry import METHODS
from xaiengine.targets.targets import RegressionTarget

SIZE = 12


class Product(nn.Module):
    """The product of the image's means in its left and right half, plus that of the right half: not additive."""

    def forward(self, inputs):
        left, right = inputs[..., : SIZE // 2].mean((1, 2, 3)), inputs[..., SIZE // 2 :].mean((1, 2, 3))
        return (left * right + right)[:, None]


def quarters() -> torch.Tensor:
    labels = torch.ones(SIZE, SIZE, dtype=torch.long)
    labels[:, SIZE // 2 :] += 1
    labels[SIZE // 2 :] += 2
    return labels


def game_of(network, inputs, examples, seam=0.0) -> ReferenceGame:
    return ReferenceGame(TargetForward(network, RegressionTarget(0, "value")), inputs, examples, quarters(), 3, seam)


def images(count, seed):
    return torch.as_tensor(np.random.default_rng(seed).normal(1, 0.5, (count, 1, SIZE, SIZE)), dtype=torch.float32)


def values_by_all_coalitions(network, inputs, example) -> np.ndarray:
    """The definition, coalition by coalition."""
    players, labels = range(4), quarters().numpy()

    def value(kept):
        mask = torch.as_tensor(np.isin(labels, [player + 1 for player in kept]))
        with torch.no_grad():
            return float(network(torch.where(mask, inputs, example))[0, 0])

    found = np.zeros(4)
    for player in players:
        others = [other for other in players if other != player]
        for size in range(4):
            weight = math.factorial(size) * math.factorial(3 - size) / math.factorial(4)
            for kept in itertools.combinations(others, size):
                found[player] += weight * (value((*kept, player)) - value(kept))
    return found


def scores(found) -> np.ndarray:
    return np.array([float(found.map[0, 0][quarters() == number].sum()) for number in range(1, 5)])


def test_values_are_those_of_all_coalitions_averaged_over_the_examples():
    inputs, examples = images(1, 1), images(2, 2)
    found = reference_shapley(game_of(Product(), inputs, examples), permutations=1200, seed=3)
    expected = np.mean([values_by_all_coalitions(Product(), inputs, example[None]) for example in examples], 0)
    assert np.allclose(scores(found), expected, atol=0.02 * np.abs(expected).max())
    assert found.convergence["reference_examples"] == 2
    assert found.convergence["completeness_error"] < 1e-6


@pytest.mark.parametrize("seam", [0.0, 0.1])
def test_scores_add_up_to_what_the_scan_has_more_than_the_examples(seam):
    inputs, examples = images(1, 4), images(3, 5)
    found = reference_shapley(game_of(Product(), inputs, examples, seam), permutations=6)
    with torch.no_grad():
        gain = Product()(inputs)[0, 0] - Product()(examples)[:, 0].mean()
    assert np.isclose(float(found.map.sum()), float(gain), atol=1e-5)


def test_an_additive_model_is_explained_exactly_by_a_single_pair_of_orders():
    class Sum(nn.Module):
        def forward(self, inputs):
            return inputs.sum((1, 2, 3))[:, None]

    inputs, examples = images(1, 6), images(1, 7)
    found = reference_shapley(game_of(Sum(), inputs, examples), permutations=2)
    difference = (inputs - examples)[0, 0]
    expected = [float(difference[quarters() == number].sum()) for number in range(1, 5)]
    assert np.allclose(scores(found), expected, atol=1e-4)


# ------------------------------------------------------------------ from scans to a map


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))


def volume(seed, ball=False) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0.5, 0.02, (24, 24, 24)).astype(np.float32)
    if ball:
        values[4:12, 4:12, 4:12] += 1.0
    return values


def test_fitted_scans_stand_in_for_healthy_anatomy_and_are_found_again():
    model = xai.wrap(BrightBall(3, torch.tensor([-0.05, 0.05])), labels=["healthy", "ball"])
    reference = xai.fit_reference(model, [volume(seed) for seed in range(5)], ["bright"], examples=3)
    assert len(reference.examples) == 3
    heat = xai.explain(model, volume(9, ball=True), "reference_shapley", "ball", reference=reference, regions=27)
    values = heat["reference_shapley"].map
    assert values[4:12, 4:12, 4:12].sum() > 0.8 * np.abs(values).sum()
    reference.save()
    assert len(find_examples(model)) == 3
    again = xai.explain(model, volume(9, ball=True), "healthy-shapley", "ball", regions=27)
    assert np.allclose(again["reference_shapley"].map, values, atol=1e-6)


def test_without_healthy_scans_of_its_size_the_method_says_what_to_do():
    model = xai.wrap(BrightBall(3, torch.tensor([-0.05, 0.05])), labels=["healthy", "ball"])
    with pytest.raises(xai.XAIError, match=r"none are known.*fit-reference"):
        xai.explain(model, volume(1), "reference_shapley", "ball")
    larger = [np.pad(volume(seed), 4, mode="edge") for seed in range(2)]
    reference = xai.fit_reference(model, larger, ["bright"])
    with pytest.raises(xai.XAIError, match=r"none of the 2 known ones has the scan's size"):
        xai.explain(model, volume(1), "reference_shapley", "ball", reference=reference)


def test_scans_are_kept_with_the_same_chance_and_none_if_none_are_wanted():
    model = xai.wrap(BrightBall(3, torch.tensor([-0.05, 0.05])), labels=["healthy", "ball"])
    scans = [np.full((16, 16, 16), number / 20, np.float32) + volume(number)[:16, :16, :16] for number in range(20)]
    kept = xai.fit_reference(model, scans, ["bright"], examples=4).examples
    numbers = {min(range(20), key=lambda n: abs(float(np.mean(scans[n])) - float(item.mean()))) for item in kept}
    assert len(numbers) == 4 and max(numbers) > 3  # not just the first
    reference = xai.fit_reference(model, scans[:2], ["bright"], examples=0)
    reference.save()
    assert reference.examples == () and not stored_examples_path(model.digest).exists()


def test_the_method_is_known_by_both_names():
    assert METHODS.resolved("healthy shapley") is METHODS["reference_shapley"]


# ------------------------------------------------------------------ expected gradients


def test_expected_gradients_are_the_mean_of_integrated_gradients_over_the_examples():
    """A quadratic has a closed form: (x - b) · (x + b), whose mean over examples is x² - mean b²."""

    class Squares(nn.Module):
        def forward(self, inputs):
            return inputs.square().sum((1, 2, 3))[:, None]

    inputs, examples = images(1, 8), images(5, 9)
    forward = TargetForward(Squares(), RegressionTarget(0, "value"))
    found = expected_gradients(forward, inputs, examples, steps=2, batch_size=3)
    torch.testing.assert_close(found.map, inputs.square() - examples.square().mean(0, keepdim=True))
    assert found.convergence["completeness_error"] < 1e-5 and found.convergence["reference_examples"] == 5


def test_both_methods_on_references_point_at_the_ball():
    model = xai.wrap(BrightBall(3, torch.tensor([-0.05, 0.05])), labels=["healthy", "ball"])
    reference = xai.fit_reference(model, [volume(seed) for seed in range(4)], ["bright"])
    heat = xai.explain(model, volume(9, ball=True), "expected_gradients", "ball", reference=reference)
    values = heat["reference_gradients"].map
    assert values[4:12, 4:12, 4:12].sum() > 0.8 * np.abs(values).sum()


def test_healthy_scans_of_one_size_give_statistics_of_places_and_those_of_two_sizes_of_channels():
    model = xai.wrap(BrightBall(3, torch.tensor([-0.05, 0.05])), labels=["healthy", "ball"])
    scans = [volume(seed) for seed in range(5)]
    places = xai.fit_reference(model, scans, ["bright"])["bright"]
    assert places.scope == "position"
    few = xai.fit_reference(model, scans[:4], ["bright"])["bright"]
    larger = np.pad(volume(7), 4, mode="edge")
    both = xai.fit_reference(model, [*scans, larger], ["bright"])["bright"]
    assert few.scope == both.scope == "channel" and both.scans == 6
    asked = xai.fit_reference(model, [*scans, larger], ["bright"], statistics="channel")["bright"]
    torch.testing.assert_close(both.mean, asked.mean)
    torch.testing.assert_close(both.std, asked.std)
    # statistics of places serve a scan of another size through their channels, which the result says
    heat = xai.explain(model, larger, "iba", "ball", layers="bright", reference={"bright": places})
    assert heat["iba"].convergence["reference_per_position"] == 0.0
    assert any("anywhere in 5 samples from 5 scans" in note for note in heat.notes)
