"""Directions on a generator and a model by formulas: what is found is compared with the closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.counterfactual_standins import (
    DIMENSION,
    DirectAnswer,
    DiskBrightness,
    LinearSpace,
    angle_cosine,
    slope_of,
)
from xaiengine.core.errors import InputError, ModelError, OptionError
from xaiengine.counterfactual.directions.directions import Direction, FinderSettings, find, surrogate
from xaiengine.counterfactual.directions.gradient import answer_gradients
from xaiengine.counterfactual.directions.linear import ridge_coefficients
from xaiengine.counterfactual.directions.scoring import area_under_curve, score_direction
from xaiengine.counterfactual.directions.store import DirectionSet
from xaiengine.counterfactual.directions.style import StyleSpread, channel_effects, shifted_images, style_directions
from xaiengine.counterfactual.directions.weights import weight_directions
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry, orthogonal
from xaiengine.counterfactual.generator.latent_sample import LatentSample, draw_sample
from xaiengine.counterfactual.series.attributes import active_subspace, attributes, sliced_inverse_regression
from xaiengine.tasks.find_directions.finding import weak_points


@pytest.fixture(scope="module")
def space() -> LinearSpace:
    return LinearSpace()


@pytest.fixture(scope="module")
def geometry(space) -> LatentGeometry:
    return LatentGeometry.of(space)


@pytest.fixture(scope="module")
def sample(space) -> LatentSample:
    return draw_sample(space, DirectAnswer(), 2000, seed=3)


def test_whitened_latents_have_unit_covariance(space, geometry):
    white = geometry.whiten(space.sample(20000, 1))
    np.testing.assert_allclose(white.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(torch.cov(white.T), np.eye(DIMENSION), atol=0.04)
    latents = space.sample(5, 2)
    np.testing.assert_allclose(geometry.colored(geometry.whiten(latents)), latents, atol=1e-4)


def test_scores_grow_by_the_shift(space, geometry):
    direction = geometry.unit(torch.ones(DIMENSION))
    latents = space.sample(4, 0)
    difference = geometry.score(direction, latents + 2.5 * direction) - geometry.score(direction, latents)
    np.testing.assert_allclose(difference, 2.5, rtol=1e-3)


@pytest.mark.parametrize("method", ["covariance", "logistic", "ridge", "gradient"])
def test_every_linear_finder_gives_the_closed_form(space, geometry, sample, method):
    """f(G(z)) = bᵀz: of all shifts of one SD, Σ b changes it most."""
    (found,) = find(method, space, DirectAnswer(), geometry, sample)
    expected = geometry.unit(space.covariance @ slope_of(space))
    assert angle_cosine(found.vector, expected) > 0.99
    assert float(geometry.length(found.vector)) == pytest.approx(1.0, abs=1e-3)
    largest = float((slope_of(space) @ space.covariance @ slope_of(space)).sqrt())
    assert float(slope_of(space) @ found.vector) == pytest.approx(largest, rel=0.03)
    assert found.slope == pytest.approx(largest, rel=0.05)


def test_plain_ridge_coefficients_point_where_latents_hardly_vary(space, geometry, sample):
    """A shift of one SD along them changes the answer by far less than one along the pattern."""
    centered = sample.latents - sample.latents.mean(0)
    plain = ridge_coefficients(centered, sample.values - sample.values.mean(), 1e-4 * float(centered.var()))
    step = abs(float(slope_of(space) @ geometry.unit(plain)))
    best = float((slope_of(space) @ space.covariance @ slope_of(space)).sqrt())
    assert angle_cosine(plain, slope_of(space)) > 0.95
    assert step < 0.2 * best
    (found,) = find("ridge", space, DirectAnswer(), geometry, sample)
    assert float(slope_of(space) @ found.vector) > 0.97 * best


def test_a_hundred_latents_are_nearly_as_good_as_two_thousand(space, geometry, sample):
    (all_of_them,) = find("covariance", space, DirectAnswer(), geometry, sample)
    few = LatentSample(sample.latents[:100], sample.values[:100])
    (found,) = find("covariance", space, DirectAnswer(), geometry, few)
    assert angle_cosine(found.vector, all_of_them.vector) > 0.9


def test_black_box_finders_take_no_gradient(space, geometry, sample):
    blind = DirectAnswer(differentiable=False)
    for method in ("covariance", "logistic", "ridge"):
        assert find(method, space, blind, geometry, sample)
    with pytest.raises(ModelError, match="cannot be differentiated"):
        find("gradient", space, blind, geometry, sample)


def test_gradients_are_those_of_the_formula(space):
    gradients, values = answer_gradients(space, DirectAnswer(), space.sample(3, 5))
    np.testing.assert_allclose(gradients, slope_of(space).expand(3, -1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, DirectAnswer()(space.decode(space.sample(3, 5))).detach(), rtol=1e-5)


class TwoCauses(torch.nn.Module):
    """The brightness of two halves of the picture, of which the second counts by its square."""

    def forward(self, images):
        left, right = images[:, 0, :, :16].mean((1, 2)), images[:, 0, :, 16:].mean((1, 2))
        return (30 * left + 60 * right.square())[:, None]


@pytest.mark.parametrize("method", ["covariance", "gradient"])
def test_attributes_are_orthogonal_and_leave_each_others_scores(space, geometry, method):
    answer = DirectAnswer(TwoCauses())
    found = find(method, space, answer, geometry, draw_sample(space, answer, 1500, seed=1), FinderSettings(count=3))
    vectors = torch.stack([item.vector for item in found])
    products = geometry.inner(vectors[:, None], vectors[None])
    np.testing.assert_allclose(products, np.eye(len(found)), atol=1e-3)
    latents = space.sample(5, 8)
    moved = geometry.score(vectors[1], latents + 3 * vectors[0]) - geometry.score(vectors[1], latents)
    np.testing.assert_allclose(moved, 0, atol=0.02)


def test_active_subspace_spans_the_directions_that_matter(space, geometry):
    gradients = torch.stack([slope_of(space) * weight for weight in torch.linspace(0.5, 2, 20)])
    (first,) = active_subspace(geometry, gradients, 1)
    assert angle_cosine(geometry.unit(first), geometry.unit(space.covariance @ slope_of(space))) > 0.999


def test_a_candidate_that_repeats_the_first_is_passed_over(space, geometry, sample):
    first = geometry.unit(space.covariance @ slope_of(space))
    other = geometry.unit(torch.ones(DIMENSION))
    found = attributes(geometry, first, torch.stack([first * 1.001, other]), 2)
    assert len(found) == 2
    assert abs(float(geometry.inner(found[0], found[1]))) < 1e-3
    assert angle_cosine(sliced_inverse_regression(*sample.centered(), 1)[0], first) > 0.97


def test_gram_schmidt_keeps_the_first(geometry):
    directions = torch.randn(4, DIMENSION, generator=torch.Generator().manual_seed(2))
    found = orthogonal(geometry, directions)
    assert angle_cosine(found[0], directions[0]) > 0.99999
    np.testing.assert_allclose(geometry.inner(found[:, None], found[None]), np.eye(4), atol=1e-3)


def test_surrogate_is_the_least_squares_line():
    scores = torch.linspace(-2, 2, 50)
    intercept, slope = surrogate(scores, 3 * scores + 0.5)
    assert (intercept, slope) == (pytest.approx(0.5), pytest.approx(3))


def test_area_under_curve_counts_pairs():
    scores, truth = np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])
    assert area_under_curve(scores, truth) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert area_under_curve(scores, np.ones(4, bool)) is None


def test_held_out_figures_of_a_good_and_of_a_useless_direction(space, geometry, sample):
    fitted, held_out = sample.divided()
    (good,) = find("covariance", space, DirectAnswer(), geometry, fitted)
    figures = score_direction(good, space, DirectAnswer(), geometry, held_out, images=12, reach=6.0)
    assert figures["auc"] > 0.98 and figures["r2"] > 0.97
    assert figures["flip_rate"] == 1.0 and figures["spearman"] == pytest.approx(1.0)
    blind = torch.randn(DIMENSION, generator=torch.Generator().manual_seed(1))
    blind = geometry.unit(blind - geometry.inner(blind, good.vector) * good.vector)
    useless = good.__class__("useless", "covariance", "latent", blind, 0.0, float(fitted.values.mean()))
    figures = score_direction(useless, space, DirectAnswer(), geometry, held_out, images=12, reach=6.0)
    assert figures["flip_rate"] < 0.3 and figures["r2"] < 0.1


def test_answers_beyond_the_usual_do_not_count_against_a_direction(space, geometry, sample):
    low, high = (float(value) for value in sample.values.quantile(torch.tensor([0.05, 0.95])))

    class Wavering(DirectAnswer):
        """Falls again beyond the usual answers, by little."""

        def __call__(self, images):
            plain = super().__call__(images)
            return plain - 1.1 * (plain - high).clamp_min(0) - 1.1 * (plain - low).clamp_max(0)

    fitted, held_out = sample.divided()
    (good,) = find("covariance", space, DirectAnswer(), geometry, fitted)
    judged = {"images": 12, "reach": 6.0}
    everywhere = score_direction(good, space, Wavering(), geometry, held_out, **judged)
    usual = score_direction(good, space, Wavering(), geometry, held_out, values_range=(low, high), **judged)
    assert everywhere["spearman"] < 0.9 < usual["spearman"]


def test_sampled_answers_are_the_models(space):
    sample = draw_sample(space, DirectAnswer(), 70, seed=9)
    expected = DirectAnswer()(space.decode(space.sample(70, 9))).detach()
    np.testing.assert_allclose(sample.values, expected, rtol=1e-5)
    assert spearmanr(sample.values, sample.latents @ slope_of(space)).statistic > 0.999


def test_pairs_share_all_but_the_leading_latents(space):
    sample = draw_sample(space, DirectAnswer(), 61, seed=2, leading=4)
    first, second = sample.latents.tensor_split(2)
    assert len(sample.values) == 62
    assert (first[:, 4:] == second[:, 4:]).all() and (first[:, :4] != second[:, :4]).all()
    correlation = torch.corrcoef((first - second)[:, :4].T) - torch.eye(4)
    assert correlation.abs().max() < 0.5
    latents, values = sample.centered()
    np.testing.assert_allclose(values, latents @ slope_of(space), rtol=2e-3, atol=1e-3)
    for part in sample.divided():
        one, other = part.latents.tensor_split(2)
        assert (one[:, 4:] == other[:, 4:]).all()


class LastPicture(torch.nn.Module):
    """The disk's brightness, drowned by something that is not to be moved."""

    def forward(self, images):
        return DiskBrightness()(images) + 300 * images[:, 0, :, 30:].mean((1, 2))[:, None]


@pytest.mark.parametrize("method", ["covariance", "logistic", "ridge"])
def test_within_pairs_what_is_not_moved_does_not_disturb(geometry, space, method):
    """Few samples: the direction of the leading latents is found in spite of the rest, and leaves the rest alone."""
    answer, leading = DirectAnswer(LastPicture()), 4
    slope = torch.autograd.functional.jacobian(lambda z: answer(space.decode(z[None])).sum(), space.mean)[:leading]
    expected = space.std[:leading].square() * slope
    sample = draw_sample(space, answer, 200, seed=5, leading=leading)
    (found,) = find(method, space, answer, geometry, sample, FinderSettings(leading=leading))
    assert angle_cosine(found.vector[:leading], expected) > 0.97
    assert not found.vector[leading:].any()
    figures = score_direction(found, space, answer, geometry, sample, images=4, reach=2.0)
    assert figures["pair_accuracy"] > 0.9


def test_a_constant_answer_has_no_direction(space):
    with pytest.raises(ModelError, match="the same of all 50 images"):
        draw_sample(space, DirectAnswer(DiskBrightness(gain=0.0)), 50)


def test_answers_that_are_not_numbers_are_refused(space):
    with pytest.raises(ModelError, match="not numbers"):
        draw_sample(space, DirectAnswer(DiskBrightness(gain=float("nan"))), 50)


def test_an_unknown_method_is_refused_with_those_there_are(space, geometry, sample):
    with pytest.raises(OptionError, match="covariance"):
        find("magic", space, DirectAnswer(), geometry, sample)


@pytest.fixture(scope="module")
def small_space():
    from xaiengine.counterfactual.generator.generator import Generator, GeneratorSettings
    from xaiengine.counterfactual.generator.latent_space import LatentSpace

    torch.manual_seed(0)
    settings = GeneratorSettings(size=32, latent_size=8, mapping_layers=1, width=4, maximum_width=6, noise=False)
    return LatentSpace(Generator(settings))


class MeanBrightness(torch.nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * 10


def test_a_style_shift_is_the_same_as_moving_the_layers_style(small_space):
    latents = small_space.sample(3, 1)
    styles = StyleSpread.of(small_space, small_space.sample(50, 2))
    shift = torch.zeros(3, len(styles.spread))
    shift[:, 2] = 0.7
    moved = small_space.generator.styles(latents)
    moved[0] = moved[0].clone()
    moved[0][:, 2] += 0.7
    expected = small_space.generator.synthesis_from_styles(moved)
    np.testing.assert_allclose(shifted_images(small_space, latents, shift, styles.sizes), expected, atol=1e-6)


def test_style_search_finds_the_channel_that_moves_the_answer_most(small_space):
    answer = DirectAnswer(MeanBrightness())
    latents = small_space.sample(4, 1)
    styles = StyleSpread.of(small_space, small_space.sample(200, 2))
    effects = channel_effects(small_space, answer, latents, styles)
    assert effects.shape == (2, sum(styles.sizes))
    rise = ((effects[1] - effects[0]) / 2).abs()
    best = int(rise.argmax())
    direct = []
    for sign in (-2, 2):
        shift = torch.zeros(4, len(styles.spread))
        shift[:, best] = sign * styles.spread[best]
        direct.append(answer(shifted_images(small_space, latents, shift, styles.sizes)).mean())
    assert float(direct[1] - direct[0]) / 2 == pytest.approx(float((effects[1] - effects[0])[best] / 2), rel=1e-3)
    first, second = style_directions(effects, styles.spread, 3, 2)
    assert int((first != 0).sum()) == 3 and not ((first != 0) & (second != 0)).any()
    assert first[best] != 0


def test_style_directions_raise_the_answer(small_space):
    answer = DirectAnswer(MeanBrightness())
    sample = draw_sample(small_space, answer, 120, seed=0)
    geometry = LatentGeometry.of(small_space)
    (found,) = find("style", small_space, answer, geometry, sample, FinderSettings(style_images=3))
    path = found.path(small_space, sample.latents[0])
    values = answer(path.images(torch.tensor([-1.0, 0.0, 1.0])))
    assert values[0] < values[1] < values[2]
    np.testing.assert_allclose(path.images(torch.zeros(1)), small_space.decode(sample.latents[:1]), atol=1e-5)


def test_weight_directions_are_the_singular_vectors_of_the_style_layers(small_space):
    found = weight_directions(small_space, 3)
    generator = small_space.generator
    modules = [generator.style_module(kind, number) for kind, number, _ in generator.style_layers()]
    stacked = torch.cat([module.style.weight * module.style.scale for module in modules])
    energies = [float((stacked @ vector).norm()) for vector in found]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] == pytest.approx(float(torch.linalg.matrix_norm(stacked, 2)), rel=1e-4)


def directions_of(space, geometry, sample) -> DirectionSet:
    (found,) = find("covariance", space, DirectAnswer(), geometry, sample)
    return DirectionSet((found,), "a" * 64, "b" * 64, "probability of opaque", 1.0, 2.0, {"samples": 2000})


def test_stored_directions_come_back(space, geometry, sample, tmp_path):
    kept = directions_of(space, geometry, sample)
    kept.save(tmp_path / "directions.safetensors")
    found = DirectionSet.load(tmp_path / "directions.safetensors")
    assert found.described() == kept.described()
    torch.testing.assert_close(found.directions[0].vector, kept.directions[0].vector)


@pytest.mark.parametrize(
    "model, generator, target, message",
    [
        ("c" * 64, "b" * 64, "probability of opaque", "another model"),
        ("a" * 64, "c" * 64, "probability of opaque", "another generator"),
        ("a" * 64, "b" * 64, "probability of clear", "not for the probability of clear"),
    ],
)
def test_directions_of_others_are_refused(space, geometry, sample, model, generator, target, message):
    kept = directions_of(space, geometry, sample)
    with pytest.raises(InputError, match=message):
        kept.check(model, generator, target)
    kept.check("a" * 64, "b" * 64, "probability of opaque")


def test_a_file_that_holds_no_directions_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, str(tmp_path / "other.safetensors"))
    (tmp_path / "text.safetensors").write_text("hello", encoding="utf-8")
    for name in ("other", "text", "absent"):
        with pytest.raises(InputError, match="cannot be read as directions"):
            DirectionSet.load(tmp_path / f"{name}.safetensors")


def test_a_direction_is_chosen_by_number_name_or_method(space, geometry, sample):
    kept = directions_of(space, geometry, sample)
    for wanted in ("", "0", "covariance", kept.directions[0].name):
        assert kept.chosen(wanted) is kept.directions[0]
    with pytest.raises(InputError, match="0 Covariance"):
        kept.chosen("nothing")


def test_a_weak_direction_is_told_with_where_its_figure_comes_from():
    weak = Direction("ridge 1", "ridge", "latent", torch.ones(5), 1.0, figures={"spearman": 0.78, "flip_rate": 1.0})
    (told,) = weak_points(weak)
    assert "held-out images (mean Spearman 0.78" in told
    assert weak_points(replace(weak, figures={"spearman": 0.95, "flip_rate": 1.0})) == []
