"""What the bottleneck is made of: mask, information, smoothing, noise, objectives and bits per voxel."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from support.oracles.plain_iba import smooth
from support.spot_detectors import CPU
from xaiengine.attribution.bottleneck.bits import bits_per_voxel
from xaiengine.attribution.bottleneck.bottleneck import BottleneckSettings
from xaiengine.attribution.bottleneck.gaussian import Smoothing, smoothing_matrix
from xaiengine.attribution.bottleneck.mask import BottleneckMask, information, information_gradient
from xaiengine.attribution.bottleneck.objectives import Binary, CrossEntropy, KeepValue, Maximise, ReachLabel
from xaiengine.attribution.bottleneck.passes import RowNoise, parts
from xaiengine.core.errors import ModelError, OptionError


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_information_is_the_divergence_of_two_gaussians():
    mask = torch.tensor([0.0, 0.3, 0.9, 0.999], dtype=torch.float64)
    normalized = torch.tensor([1.5, -2.0, 0.1, 4.0], dtype=torch.float64)
    located = torch.distributions.Normal(mask * normalized, 1 - mask)
    expected = torch.distributions.kl_divergence(located, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(information(mask, normalized), expected)
    assert information(torch.zeros(3), torch.randn(3)).abs().max() == 0


def test_information_is_finite_at_a_mask_of_one_and_its_gradient_is_that_of_autograd():
    mask = torch.tensor([0.0, 0.2, 0.99, 1.0], dtype=torch.float64, requires_grad=True)
    normalized = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    nats = information(mask, normalized)
    assert torch.isfinite(nats).all()
    (expected,) = torch.autograd.grad(nats.sum(), mask)
    torch.testing.assert_close(information_gradient(mask.detach(), normalized), expected)


@pytest.mark.parametrize("direction", ["keep", "destroy"])
def test_gradient_of_the_mask_is_that_of_autograd(direction):
    torch.manual_seed(0)
    activation, mean = torch.randn(2, 3, 5, 4), torch.randn(3, 5, 4)
    std, active = torch.rand(3, 5, 4) + 0.5, (torch.rand(3, 5, 4) > 0.2).float()
    settings = BottleneckSettings(direction=direction, beta=7.0, learning_rate=1.0, adam_betas=(0.0, 0.0))
    mask = BottleneckMask(activation, mean, std, active, Smoothing((5, 4), 1.0, CPU), settings)
    mask.alpha = torch.randn_like(activation)
    mask.refresh()
    to_location, to_spread = torch.randn_like(activation), torch.randn_like(activation)

    alpha = mask.alpha.clone().requires_grad_(True)
    lam = smooth(torch.sigmoid(alpha), 1.0)
    nats = information(lam, (activation - mean) / std) * active
    if direction == "keep":
        location, spread = lam * activation + (1 - lam) * mean, (1 - lam) * std
    else:
        location, spread = lam * mean + (1 - lam) * activation, lam * std
    loss = (location * active * to_location + spread * active * to_spread).sum() + 7.0 * nats.flatten(1).mean(1).sum()
    (expected,) = torch.autograd.grad(loss, alpha)

    seen = []
    mask._adam = seen.append
    torch.testing.assert_close(mask.bits_per_cell(), nats.detach().sum(1) / math.log(2))
    torch.testing.assert_close(mask.noisy_moments()[0], (location * active).detach())
    torch.testing.assert_close(mask.noisy_moments()[1], (spread * active).detach())
    mask.step(to_location, to_spread)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cells", [(9,), (7, 5), (6, 4, 8)])
def test_smoothing_is_a_reflected_gaussian_and_its_adjoint_is_one(cells):
    x, y = torch.randn(2, 3, *cells), torch.randn(2, 3, *cells)
    smoothing = Smoothing(cells, 1.0, CPU)
    if len(cells) > 1:
        torch.testing.assert_close(smoothing(x), smooth(x, 1.0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((smoothing(x) * y).sum(), (x * smoothing.adjoint(y)).sum(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(smoothing(torch.ones(1, *cells)), torch.ones(1, *cells))


def test_smoothing_serves_axes_shorter_than_the_kernel():
    for cells in [(1,), (2,), (1, 2), (2, 1, 3)]:
        smoothed = Smoothing(cells, 1.0, CPU)(torch.rand(1, 4, *cells))
        assert smoothed.shape == (1, 4, *cells) and torch.isfinite(smoothed).all()
    torch.testing.assert_close(smoothing_matrix(2, 1.0).sum(0), torch.ones(2, dtype=torch.float64))
    x = torch.rand(3, 3)
    assert Smoothing((3, 3), 0.0, CPU)(x) is x


def test_class_tokens_are_not_smoothed_and_the_others_as_their_grid():
    x = torch.randn(2, 4, 1 + 12)
    smoothed = Smoothing((13,), 1.0, CPU, grid=(3, 4), leading=1)(x)
    assert torch.equal(smoothed[..., :1], x[..., :1])
    expected = smooth(x[..., 1:].reshape(2, 4, 3, 4), 1.0)
    torch.testing.assert_close(smoothed[..., 1:].reshape(2, 4, 3, 4), expected, rtol=1e-4, atol=1e-5)


def test_noise_of_a_row_is_standard_normal_and_its_own():
    noise = RowNoise(0, [5, 6], CPU)
    first = noise.draw([0, 1], 2, torch.empty(2, 3, 40, 40))
    assert abs(float(first.mean())) < 0.02 and abs(float(first.std()) - 1) < 0.02
    assert abs(float((first[:, 0] * first[:, 1]).mean())) < 0.03
    again = RowNoise(0, [6], CPU).draw([0], 2, torch.empty(1, 3, 40, 40))
    assert torch.equal(again[:, 0], first[:, 1])


@pytest.mark.parametrize(
    "rows, copies, limit, expected",
    [(3, 2, 6, 1), (3, 2, 5, 2), (3, 4, 6, 2), (5, 2, 2, 6), (1, 10, 4, 3), (64, 2, 32, 4)],
)
def test_parts_cover_all_rows_and_copies_once_within_the_limit(rows, copies, limit, expected):
    made = parts(rows, copies, limit)
    seen = torch.zeros(rows, copies)
    for row, copy in made:
        seen[row, copy] += 1
        assert (row.stop - row.start) * (copy.stop - copy.start) <= limit
    assert (seen == 1).all() and len(made) == expected


def test_objectives_are_the_textbook_losses():
    logits, rows = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]]), torch.tensor([0, 1])
    expected = torch.stack([-logits[0].log_softmax(0)[2], -logits[1].log_softmax(0)[1]])
    torch.testing.assert_close(CrossEntropy(torch.tensor([2, 1]))(logits, rows), expected)
    assert CrossEntropy(torch.tensor([2, 1])).met(logits, rows).tolist() == [False, True]
    torch.testing.assert_close(
        Binary(1)(logits, rows), F.binary_cross_entropy_with_logits(logits[:, 1], torch.ones(2), reduction="none")
    )
    absent = Binary(1, positive=torch.tensor([False, True]))
    torch.testing.assert_close(
        absent(logits, rows),
        F.binary_cross_entropy_with_logits(logits[:, 1], torch.tensor([0.0, 1.0]), reduction="none"),
    )
    assert absent.met(logits, rows).tolist() == [True, True]
    torch.testing.assert_close(Binary()(logits[:, 0], rows), Binary(0)(logits, rows))
    torch.testing.assert_close(KeepValue(torch.tensor([1.0, 1.0]), 0)(logits, rows), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(ReachLabel(3.0, 1)(logits, rows), torch.tensor([16.0, 0.0]))
    torch.testing.assert_close(Maximise(0)(logits, rows), torch.tensor([-4.0, 0.0]))


def test_objectives_that_do_not_fit_the_output_are_refused():
    rows = torch.tensor([0])
    for wrong in (
        lambda: CrossEntropy(3)(torch.zeros(1, 3), rows),
        lambda: CrossEntropy(-1)(torch.zeros(1, 3), rows),
        lambda: CrossEntropy(0)(torch.zeros(1, 1), rows),
        lambda: Binary(2)(torch.zeros(1, 2), rows),
    ):
        with pytest.raises(OptionError) as caught:
            wrong()
        assert caught.value.remedy
    with pytest.raises(ModelError, match="for each voxel"):
        Binary()(torch.zeros(1, 2, 4, 4), rows)
    with pytest.raises(ModelError, match="tuple"):
        Binary()((torch.zeros(1, 2),), rows)


@pytest.mark.parametrize(
    "cells, voxels", [((4,), (12,)), ((4, 6), (16, 24)), ((7, 5), (30, 33)), ((3, 4, 5), (9, 16, 21))]
)
def test_bits_per_voxel_keep_the_total_and_the_place(cells, voxels):
    bits = torch.zeros(2, *cells)
    bits[(0, *(1,) * len(cells))] = 8.0
    found = bits_per_voxel(bits, voxels)
    assert found.shape == (2, *voxels) and not found[1].any()
    torch.testing.assert_close(found[0].sum(), torch.tensor(8.0))
    peak = torch.unravel_index(found[0].argmax(), voxels)
    for place, cell, voxel in zip(peak, cells, voxels):
        assert abs((float(place) + 0.5) / voxel * cell - 1.5) <= 0.5
    even = torch.full((1, *voxels), math.prod(cells) / math.prod(voxels))
    torch.testing.assert_close(bits_per_voxel(torch.ones(1, *cells), voxels), even)
    with pytest.raises(ModelError):
        bits_per_voxel(bits, (*voxels, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "fast"},
        {"direction": "both"},
        {"copies": 3},
        {"copies": 0},
        {"steps": 0},
        {"tolerance": 0},
        {"learning_rate": -1},
        {"min_steps": 50, "max_steps": 20},
        {"sigma": -1},
        {"rows_per_pass": 0},
        {"autocast": "int8"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(OptionError) as caught:
        BottleneckSettings(**wrong)
    assert next(iter(wrong)) in caught.value.message and caught.value.remedy
