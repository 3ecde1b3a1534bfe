"""Counterfactual series: inversion, paths, flips and figures, on a generator by formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from support.counterfactual_standins import SIZE, DirectAnswer, DiskBrightness, LinearSpace, disk, slope_of
from xaiengine.core.errors import InputError, OptionError
from xaiengine.counterfactual.generator.inversion import invert, pyramid_l1
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry
from xaiengine.counterfactual.generator.realism import Domain, check_domain, domain_score, identity
from xaiengine.counterfactual.series.difference import blend_mask, changed_region, share_inside
from xaiengine.counterfactual.series.paths import GradientPath, LatentPath, RefinedPath
from xaiengine.counterfactual.series.series import Along, make_series, place_of, smallest_flip
from xaiengine.counterfactual.series.series_metrics import series_figures, shows_flip, verdict
from xaiengine.counterfactual.series.similarity import mean_similarity, similarity_map
from xaiengine.counterfactual.series.span import reach_of, spread_shifts

SPACE = LinearSpace()
GEOMETRY = LatentGeometry.of(SPACE)
DIRECTION = GEOMETRY.unit(SPACE.covariance @ slope_of(SPACE))


def noisy(images: torch.Tensor, amount: float = 0.02) -> torch.Tensor:
    return images + amount * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def path_of(seed: int = 0) -> LatentPath:
    return LatentPath(SPACE, SPACE.sample(1, seed)[0], DIRECTION)


def value_at_start(seed: int = 0) -> float:
    return float(DirectAnswer()(SPACE.decode(SPACE.sample(1, seed))))


def test_similarity_is_that_of_scikit_image():
    first = SPACE.decode(SPACE.sample(3, 1))
    second = noisy(first, 0.1)
    for number, value in enumerate(mean_similarity(first, second)):
        pair = first[number, 0].numpy(), second[number, 0].numpy()
        options = {"data_range": 2.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        _, expected = structural_similarity(*pair, full=True, **options)
        inner = slice(5, -5)  # the libraries treat the border differently
        found = similarity_map(first, second)[number].numpy()
        np.testing.assert_allclose(found[inner, inner], expected[inner, inner], atol=1e-4)
        assert float(value) == pytest.approx(float(found.mean()), abs=1e-5)


def test_pyramid_adds_the_halvings():
    first, second = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    assert float(pyramid_l1(first, second)) == pytest.approx(4.0)
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)[None, None]
    assert float(pyramid_l1(first, checks)) == pytest.approx(1.0)


@pytest.mark.parametrize("refine", ["latent", "plus"])
def test_refinement_brings_the_answer_back_from_a_bad_start(refine, monkeypatch):
    images = noisy(SPACE.decode(SPACE.sample(4, 2)))
    encode = SPACE.encode
    monkeypatch.setattr(SPACE, "encode", lambda given: encode(given) + 0.2 * SPACE.std)
    start = invert(SPACE, DirectAnswer(), GEOMETRY, images, steps=0, refine="none")
    found = invert(SPACE, DirectAnswer(), GEOMETRY, images, steps=80, refine=refine)
    first_gap = (start.reconstructed_values - start.values).abs()
    gap = (found.reconstructed_values - found.values).abs()
    assert (gap < 0.15 * first_gap).all()
    assert (found.l1 <= start.l1).all()
    torch.testing.assert_close(found.encoded_l1, start.l1)
    assert found.answer_in_loss and (found.refined is None) == (refine == "latent")


def test_without_gradients_only_the_image_is_rebuilt():
    images = noisy(SPACE.decode(SPACE.sample(2, 3)))
    found = invert(SPACE, DirectAnswer(differentiable=False), GEOMETRY, images, steps=10)
    assert not found.answer_in_loss
    assert (pyramid_l1(found.reconstructions, images) <= pyramid_l1(SPACE.decode(SPACE.encode(images)), images)).all()


def test_an_unknown_refinement_is_refused():
    with pytest.raises(OptionError, match="latent, plus or none"):
        invert(SPACE, DirectAnswer(), GEOMETRY, SPACE.decode(SPACE.sample(1)), refine="w")


def test_a_refined_path_moves_every_latent_of_w_plus():
    start = SPACE.sample(1, 5)
    refined = SPACE.expand(start)
    shifts = torch.tensor([-1.0, 0.0, 2.0])
    found = RefinedPath(SPACE, start[0], DIRECTION, *refined).images(shifts)
    torch.testing.assert_close(found, LatentPath(SPACE, start[0], DIRECTION).images(shifts), atol=1e-5, rtol=1e-4)


def test_the_gradient_path_of_a_linear_answer_is_the_straight_one():
    start = SPACE.sample(1, 6)[0]
    found = GradientPath(SPACE, start, DirectAnswer(), GEOMETRY, reach=3.0)
    shifts = torch.tensor([-3.0, -1.1, 0.0, 0.6, 3.0])
    torch.testing.assert_close(found.latents(shifts), start + shifts[:, None] * DIRECTION, atol=2e-3, rtol=1e-3)


def test_a_gradient_path_may_move_the_leading_latents_only():
    start = SPACE.sample(1, 6)[0]
    found = GradientPath(SPACE, start, DirectAnswer(), GEOMETRY, reach=2.0, leading=4).latents(torch.tensor([2.0]))
    assert (found[0, 4:] == start[4:]).all() and (found[0, :4] != start[:4]).any()


def test_the_flip_is_at_the_closed_form_and_is_the_nearest_one():
    slope = float(slope_of(SPACE) @ DIRECTION)
    for seed in range(4):
        along = Along(path_of(seed), DirectAnswer(), 6.0)
        flip = smallest_flip(along, 0.0)
        assert flip.shift == pytest.approx(-value_at_start(seed) / slope, abs=0.02)
        assert (flip.value > 0) != (along(0.0) > 0)


def test_the_nearer_of_two_flips_is_taken():
    along = Along(path_of(), lambda images: torch.tensor([1.0]).repeat(len(images)), 6.0)
    along._answer = None  # every answer is known beforehand
    shifts = [6.0 * step / 12 for step in range(-12, 13)]
    along._known = {shift: -1.0 if (shift > 4.4 or shift < -1.9) else 1.0 for shift in shifts}
    along._answer = lambda images: pytest.fail("not asked")
    along.many = lambda wanted: [(-1.0 if (shift > 4.4 or shift < -1.9) else 1.0) for shift in wanted]
    assert smallest_flip(along, 0.0).shift == pytest.approx(-1.9, abs=0.02)


def test_no_flip_within_reach_is_none():
    along = Along(path_of(), DirectAnswer(DiskBrightness(gain=0.01, constant=5.0)), 6.0)
    assert smallest_flip(along, 0.0) is None
    assert reach_of(None, along) == 6.0


@pytest.mark.parametrize("guess", [None, 0.7, -40.0])
@pytest.mark.parametrize("wanted", [-3.0, 0.5, 2.5])
def test_a_wanted_answer_is_reached_whatever_the_guess(wanted, guess):
    along = Along(path_of(), DirectAnswer(), 6.0)
    found = place_of(along, wanted, 0.01, guess)
    assert found.reached and found.value == pytest.approx(wanted, abs=0.01)


def test_the_closed_form_needs_no_search_when_it_is_right():
    slope = float(slope_of(SPACE) @ DIRECTION)
    asked = []

    def answer(images):
        asked.append(len(images))
        return DirectAnswer()(images)

    along = Along(path_of(), answer, 6.0)
    guess = (2.0 - value_at_start()) / slope
    assert place_of(along, 2.0, 0.01, guess).shift == guess
    assert sum(asked) == 1


def test_an_answer_out_of_reach_gives_the_nearest():
    along = Along(path_of(), DirectAnswer(), 1.0)
    found = place_of(along, 1e3, 0.01)
    assert not found.reached and abs(found.shift) == pytest.approx(1.0)


def test_no_image_is_made_twice():
    made = []

    class Counting(LatentPath):
        def images(self, shifts):
            made.extend(shifts.tolist())
            return super().images(shifts)

    along = Along(Counting(SPACE, SPACE.sample(1)[0], DIRECTION), DirectAnswer(), 4.0)
    smallest_flip(along, 0.0)
    place_of(along, 1.0, 0.01)
    assert len(made) == len(set(made))


def test_series_are_symmetric_with_the_reconstruction_in_the_middle():
    shifts = spread_shifts(11, -2.5, 2.5)
    np.testing.assert_allclose(shifts, np.linspace(-2.5, 2.5, 11), atol=1e-6)
    series = make_series(path_of(), DirectAnswer(), shifts)
    assert series.base == 5 and not series.differences[5].any()
    torch.testing.assert_close(series.reconstruction, SPACE.decode(SPACE.sample(1))[0])
    steps = series.values.diff()
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)


def test_changed_region_covers_the_change_and_little_more():
    difference = torch.zeros(2, 1, SIZE, SIZE)
    difference[0, 0] = disk()
    region = changed_region(difference)
    assert region[0][disk() > 0].all() and region[0].sum() < 2.5 * disk().sum()
    assert not region[1].any()
    assert float(share_inside(difference, region)[0]) == 1.0
    mask = blend_mask(difference[:1])[0, 0]
    assert (mask[disk() > 0] > 0.99).all() and float(mask[0, 0]) == 0.0 and float(mask.max()) <= 1.0


def test_figures_of_a_series_that_changes_the_disk_alone():
    space = LinearSpace(mixed=False)
    geometry = LatentGeometry.of(space)
    direction = geometry.unit(space.covariance @ slope_of(space))
    along = Along(LatentPath(space, space.mean, direction), DirectAnswer(), 6.0)
    flip = smallest_flip(along, 0.0)
    reach = reach_of(flip, along)
    series = make_series(along.path, DirectAnswer(), spread_shifts(7, -reach, reach))
    frame = along.path.images(torch.tensor([flip.shift]))[0]
    region = disk() > 0
    figures = series_figures(series, 0, flip, frame, has_decision=True, unit=127.5, region=region)
    assert figures.spearman == pytest.approx(1.0) and figures.flips
    assert figures.off_target == pytest.approx(0.0, abs=1e-4)
    assert figures.l1_outside == pytest.approx(0.0, abs=1e-3)
    step = abs(float(direction[0])) * 0.15 * abs(flip.shift)  # the disk's picture has the brightness 0.15
    assert figures.flip_change == pytest.approx(step * float(disk().mean()) * 127.5, rel=1e-3)
    assert figures.region_part == pytest.approx(float(disk().mean()))


def test_verdict_says_when_the_counterfactual_does_not_speak_for_the_scan():
    series = make_series(path_of(), DirectAnswer(), spread_shifts(5, -1.0, 1.0))
    figures = series_figures(series, 0, None, None, has_decision=True, unit=1.0, latent_distance=3.0)
    options = {"figures": figures, "wanted": 0.9, "reached": False, "distance_limit": 1.5}
    speaks, text = verdict(gap=0.3, largest_gap=0.1, **options)
    assert not speaks and "no valid explanation of this scan" in text
    assert "not reached" in text and "no change" in text and "realism" in text
    assert verdict(gap=0.05, largest_gap=0.1, **options)[0]
    assert not verdict(gap=float("nan"), largest_gap=0.1, **options)[0]


def test_verdict_claims_a_flip_only_if_a_frame_shows_it():
    path = path_of()
    series = make_series(path, DirectAnswer(), spread_shifts(5, -1.0, 1.0))
    low, high = float(series.values.min()), float(series.values.max())
    middle = float((series.values[series.base] + high) / 2)
    assert shows_flip(series, middle) and not shows_flip(series, high + 1) and not shows_flip(series, low - 1)
    assert not shows_flip(series, None)
    figures = replace(series_figures(series, 0, None, None, has_decision=True, unit=1.0), flips=True, flip_shift=2.0)
    figures = replace(figures, flip_change=0.5)
    options = {"gap": 0.01, "largest_gap": 0.1, "figures": figures, "wanted": None, "reached": True}
    options["distance_limit"] = 1.5
    assert "crosses the decision threshold at" in verdict(**options)[1]
    text = verdict(**options, flip_is_shown=False)[1]
    assert "No frame of this series crosses" in text and "+2.00 SD" in text


def test_domain_score_tells_noise_from_the_domain():
    domain = Domain(0.02, 1.0, "test")
    inside = domain_score(SPACE, GEOMETRY, noisy(SPACE.decode(SPACE.sample(1, 4)), 0.01), domain)
    outside = domain_score(SPACE, GEOMETRY, torch.rand(1, 1, SIZE, SIZE) * 2 - 1, domain)
    assert inside.score < 2.5 and inside.inside and outside.score > 5
    check_domain(inside, "scan", "disks")
    with pytest.raises(InputError, match="domain score"):
        check_domain(outside, "scan", "disks")


def test_identity_ignores_the_direction_and_nothing_else():
    start, other = SPACE.sample(2, 7)
    frames = SPACE.decode(torch.stack([start, start + 3 * DIRECTION, other]))
    same, moved, stranger = identity(SPACE, GEOMETRY, frames[0], frames, DIRECTION).tolist()
    assert same == pytest.approx(1.0, abs=1e-3) and moved > 0.99
    assert abs(stranger) < 0.75
    assert identity(SPACE, GEOMETRY, frames[0], frames[1:2], None)[0] < moved
