"""The information bottleneck against a slow, plain version of the published one, closed forms and its own rules."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from engine.blob_networks import blob_images, narrow_resnet, train
from engine.oracles.plain_iba import PlainIBA, smooth
from torch import nn
from xaiengine.attribution.bits import bits_per_voxel
from xaiengine.attribution.bottleneck import BottleneckSettings, channels_first, explain_rows
from xaiengine.attribution.bottleneck_mask import BottleneckMask, information, information_gradient
from xaiengine.attribution.bottleneck_passes import RowNoise, parts
from xaiengine.attribution.gaussian import Smoothing, smoothing_matrix
from xaiengine.attribution.objectives import Binary, CrossEntropy, KeepValue, Maximise, ReachLabel
from xaiengine.attribution.statistics import StatisticsAccumulator
from xaiengine.errors import CancelledError, ModelError, OptionError, ResourceError
from xaiengine.tail import Tail

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZE = {1: 32, 2: 16, 3: 8}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Detector(nn.Module):
    """Class 1 if something bright is anywhere: the strongest of the filtered responses decides."""

    def __init__(self, axes, outputs=2):
        super().__init__()
        convolution = CONVOLUTION[axes]
        self.stem, self.layer = convolution(1, 4, 3, padding=1), convolution(4, 6, 3, padding=1, stride=2)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(6, outputs)

    def forward(self, x):
        x = self.act(self.layer(torch.tanh(self.stem(x))))
        return self.head(x.flatten(2).amax(-1) + x.flatten(2).mean(-1))


def bright_spots(count, axes, generator):
    """Images and labels; the spot of class 1 always lies in the first quarter of the last axis."""
    size = SIZE[axes]
    images = torch.randn(count, 1, *(size,) * axes, generator=generator) * 0.3
    labels = torch.arange(count) % 2
    middle = (slice(size // 2, size // 2 + 2),) * (axes - 1)
    for row in range(count):
        if labels[row]:
            images[(row, 0, *middle, slice(size // 8, size // 8 + 2))] += 4.0
    return images, labels


def trained(axes, outputs=2, relu_layer=False):
    torch.manual_seed(axes)
    model, generator = Detector(axes, outputs), torch.Generator().manual_seed(axes)
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        images, labels = bright_spots(16, axes, generator)
        output = model(images)
        loss = F.cross_entropy(output, labels) if outputs > 1 else F.mse_loss(output[:, 0], labels * 2.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    optimiser.zero_grad()
    model.eval()
    images, _ = bright_spots(40, axes, generator)
    layer = "act" if relu_layer else "layer"
    accumulator = StatisticsAccumulator()
    accumulator.add(Tail(model, layer).record(images).activation)
    return model, accumulator.finish(after_relu=relu_layer), bright_spots(6, axes, generator)


@pytest.fixture(scope="module")
def cases():
    torch.set_num_threads(1)
    return {axes: trained(axes) for axes in (1, 2, 3)}


def relative(found, expected):
    return float((found - expected).abs().sum() / expected.abs().sum())


def plain_cells(model, layer, statistics, image, target, settings, row=0, dtype=torch.float64):
    """The published optimisation in float64 with the engine's noise: bits per cell."""
    model = model.to(dtype)
    try:
        shape = statistics.mean
        noise = RowNoise(settings.seed, [row], CPU)
        oracle = PlainIBA(
            model, layer, statistics.mean.to(dtype), statistics.std.to(dtype), statistics.active.to(dtype),
            lambda step: noise.draw([0], settings.copies, shape[None])[:, 0].to(dtype), copies=settings.copies,
            steps=settings.steps, beta=settings.information_weight, sigma=settings.sigma,
            destroy=settings.direction == "destroy", clamp=statistics.after_relu,
        )  # fmt: skip
        targets = torch.full((settings.copies,), target)
        return oracle.run(image.to(dtype), lambda output: F.cross_entropy(output, targets)).sum(0).float()
    finally:
        model.float()


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("direction", ["keep", "destroy"])
def test_same_seed_and_work_give_the_map_of_the_published_method(cases, axes, direction):
    model, statistics, (images, labels) = cases[axes]
    settings = BottleneckSettings.published(direction=direction, seed=4, beta=0.1)
    image, target = images[1:2], int(labels[1])
    found = explain_rows(Tail(model, "layer").record(image), statistics, CrossEntropy(target), settings)
    expected = plain_cells(model, model.layer, statistics, image, target, settings)
    assert relative(found.bits[0], expected) <= 1e-5
    assert found.passes == settings.steps - 1 and found.steps.tolist() == [settings.steps]


def test_the_variant_after_a_relu_is_that_of_the_plain_method():
    model, statistics, (images, labels) = trained(2, relu_layer=True)
    settings = BottleneckSettings.published(beta=0.1)
    found = explain_rows(Tail(model, "act").record(images[1:2]), statistics, CrossEntropy(1), settings)
    # The hook sits on the module before the in-place ReLU, so that both see the same activation.
    expected = plain_cells(model, model.act, statistics, images[1:2], 1, settings)
    assert relative(found.bits[0], expected) <= 1e-5


def test_information_is_the_divergence_of_two_gaussians():
    mask = torch.tensor([0.0, 0.3, 0.9, 0.999], dtype=torch.float64)
    normalised = torch.tensor([1.5, -2.0, 0.1, 4.0], dtype=torch.float64)
    located = torch.distributions.Normal(mask * normalised, 1 - mask)
    expected = torch.distributions.kl_divergence(located, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(information(mask, normalised), expected)
    assert information(torch.zeros(3), torch.randn(3)).abs().max() == 0


def test_information_is_finite_at_a_mask_of_one_and_its_gradient_is_that_of_autograd():
    mask = torch.tensor([0.0, 0.2, 0.99, 1.0], dtype=torch.float64, requires_grad=True)
    normalised = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    nats = information(mask, normalised)
    assert torch.isfinite(nats).all()
    (expected,) = torch.autograd.grad(nats.sum(), mask)
    torch.testing.assert_close(information_gradient(mask.detach(), normalised), expected)


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


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_bits_lie_where_the_evidence_is(cases, axes):
    model, statistics, (images, labels) = cases[axes]
    record = Tail(model, "layer").record(images)
    found = explain_rows(record, statistics, CrossEntropy(labels), BottleneckSettings(beta=0.3))
    bright = found.bits[labels == 1]
    left = bright[..., : bright.shape[-1] // 2].flatten(1).sum(1)
    assert (left > 0.6 * bright.flatten(1).sum(1)).all()
    torch.testing.assert_close(found.bits.flatten(1).sum(1), found.total_bits)
    assert found.bits.shape == (6, *(SIZE[axes] // 2,) * axes) and (found.bits >= 0).all()


@pytest.fixture(scope="module")
def long_maps(cases):
    model, statistics, (images, labels) = cases[2]
    images, labels = images[labels == 1], labels[labels == 1]
    record = Tail(model, "layer").record(images)
    settings = BottleneckSettings(mode="reference", steps=100, copies=8, seed=11)
    return record, statistics, labels, explain_rows(record, statistics, CrossEntropy(labels), settings)


def test_converged_maps_are_nearer_the_long_run_than_the_published_ones_in_fewer_passes(long_maps):
    record, statistics, labels, long = long_maps
    converged = explain_rows(record, statistics, CrossEntropy(labels), BottleneckSettings())
    published = explain_rows(record, statistics, CrossEntropy(labels), BottleneckSettings.published())
    assert relative(converged.bits, long.bits) < relative(published.bits, long.bits)
    assert ((converged.steps - 1) * 2 < (published.steps - 1) * 10).all()


@pytest.mark.slow
def test_a_trained_network_needs_bits_where_the_lesions_are():
    torch.manual_seed(0)
    network = narrow_resnet(2)
    assert train(network, 64, 2, steps=120) > 0.9
    generator = torch.Generator().manual_seed(5)
    tail, accumulator = Tail(network, "layer2"), StatisticsAccumulator()
    accumulator.add(tail.record(blob_images(100, 64, 2, generator)[0]).activation)
    images, classes, truth = blob_images(24, 64, 2, generator)
    images, truth = images[classes == 2], truth[classes == 2]
    record, objective = tail.record(images), CrossEntropy(2)
    statistics = accumulator.finish()
    settings = BottleneckSettings(mode="reference", steps=100, copies=8, seed=9)
    long = explain_rows(record, statistics, objective, settings)
    converged = explain_rows(record, statistics, objective, BottleneckSettings())
    published = explain_rows(record, statistics, objective, BottleneckSettings.published())
    assert len(images) >= 4 and (long.predicted_from_noise == 0).all()
    for row in range(len(images)):
        assert relative(converged.bits[row], long.bits[row]) < relative(published.bits[row], long.bits[row])
    bits = bits_per_voxel(converged.bits, (64, 64))
    density = (bits * truth).flatten(1).sum(1) / truth.flatten(1).sum(1)
    assert (density > 3 * bits.flatten(1).mean(1)).all()


def test_converged_mode_stops_by_its_tolerance_and_keeps_the_curves(long_maps):
    record, statistics, labels, _ = long_maps
    settings = BottleneckSettings(tolerance=0.1, patience=2, min_steps=12, max_steps=60)
    found = explain_rows(record, statistics, CrossEntropy(labels), settings)
    assert found.converged.all()
    for row, steps in enumerate(found.steps.tolist()):
        calm = found.change_curve[:steps, row] < 0.1
        assert 12 <= steps <= 60 and calm[-2:].all()
        assert not (calm[11:-1] & calm[10:-2]).any()
        torch.testing.assert_close(found.bits_curve[steps - 1, row], found.total_bits[row])
        assert torch.isfinite(found.loss_curve[: steps - 1, row]).all()
        assert found.loss_curve[steps - 1 :, row].isnan().all() and found.bits_curve[steps:, row].isnan().all()
    short = explain_rows(record, statistics, CrossEntropy(labels), BottleneckSettings(min_steps=3, max_steps=3))
    assert not short.converged.any() and any("3 steps" in warning for warning in short.warnings)


def test_a_row_does_not_depend_on_its_neighbours_nor_on_the_parts(cases):
    model, statistics, (images, labels) = cases[2]
    settings = BottleneckSettings(mode="reference", beta=0.3, seed=5)
    tail = Tail(model, "layer")
    ids = [7, 3, 12, 4, 9, 1]
    together = explain_rows(tail.record(images), statistics, CrossEntropy(labels), settings, row_ids=ids)
    order = [4, 1]
    alone = explain_rows(
        tail.record(images[order]), statistics, CrossEntropy(labels[order]), settings,
        row_ids=[ids[row] for row in order],
    )  # fmt: skip
    in_parts = explain_rows(
        tail.record(images), statistics, CrossEntropy(labels),
        BottleneckSettings(mode="reference", beta=0.3, seed=5, rows_per_pass=1), row_ids=ids,
    )  # fmt: skip
    for place, row in enumerate(order):
        assert relative(alone.bits[place], together.bits[row]) < 1e-3
    assert relative(in_parts.bits, together.bits) < 1e-3
    assert in_parts.passes == 6 * 2 * together.passes
    shifted = [row + 1 for row in ids]
    other = explain_rows(tail.record(images), statistics, CrossEntropy(labels), settings, row_ids=shifted)
    assert relative(other.bits, together.bits) > 1e-3


def test_the_seed_decides_the_map(cases):
    model, statistics, (images, labels) = cases[2]
    record, objective = Tail(model, "layer").record(images[:2]), CrossEntropy(labels[:2])
    maps = [
        explain_rows(record, statistics, objective, BottleneckSettings(mode="reference", seed=seed)).bits
        for seed in (1, 1, 2)
    ]
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])


def test_noise_of_a_row_is_standard_normal_and_its_own():
    noise = RowNoise(0, [5, 6], CPU)
    first = noise.draw([0, 1], 2, torch.empty(2, 3, 40, 40))
    assert abs(float(first.mean())) < 0.02 and abs(float(first.std()) - 1) < 0.02
    assert abs(float((first[:, 0] * first[:, 1]).mean())) < 0.03
    again = RowNoise(0, [6], CPU).draw([0], 2, torch.empty(1, 3, 40, 40))
    assert torch.equal(again[:, 0], first[:, 1])


def test_mirrored_copies_cancel_what_is_linear():
    """For a linear model mirrored noise leaves no noise in the loss: two seeds give the same map."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Conv2d(1, 3, 1), nn.Linear(3, 1)

        def forward(self, x):
            return self.head(self.layer(x).mean((2, 3)))

    class Negative:
        def __call__(self, output, rows):
            return -output[:, 0]

    torch.manual_seed(0)
    model = Linear()
    accumulator = StatisticsAccumulator()
    accumulator.add(Tail(model, "layer").record(torch.randn(20, 1, 6, 6)).activation)
    record = Tail(model, "layer").record(torch.randn(1, 1, 6, 6) + 1)
    maps = {}
    for antithetic in (True, False):
        bits = []
        for seed in (0, 1):
            settings = BottleneckSettings(mode="reference", antithetic=antithetic, seed=seed, beta=0.01)
            bits.append(explain_rows(record, accumulator.finish(), Negative(), settings).bits)
        maps[antithetic] = relative(*bits)
    # Only the (1 - lambda) eps that reaches the spread's own gradient differs; plain noise differs in all.
    assert maps[True] < 0.5 * maps[False]


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


def test_an_answer_given_for_pure_noise_is_said_to_need_no_bits(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images)
    with torch.no_grad():
        bias = model.head.bias.clone()
        model.head.bias[:] = torch.tensor([50.0, 0.0])
    try:
        record = Tail(model, "layer").record(images)
        zeros = explain_rows(record, statistics, CrossEntropy(0), BottleneckSettings())
        ones = explain_rows(record, statistics, CrossEntropy(1), BottleneckSettings(mode="reference"))
    finally:
        with torch.no_grad():
            model.head.bias.copy_(bias)
    assert (zeros.predicted_from_noise == 1).all() and (zeros.total_bits < 1).all()
    assert any("pure noise" in warning and "0 bits" in warning for warning in zeros.warnings)
    assert (ones.predicted_from_noise == 0).all() and (ones.noise_loss > 20).all()
    assert not any("pure noise" in warning for warning in ones.warnings)


def test_more_weight_on_information_leaves_fewer_bits(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images[labels == 1])
    totals = [
        explain_rows(record, statistics, CrossEntropy(1), BottleneckSettings(beta=beta)).total_bits
        for beta in (0.1, 1.0, 10.0)
    ]
    assert (totals[0] > totals[1]).all() and (totals[1] > totals[2]).all()


def test_regression_keeps_the_value_with_few_bits():
    model, statistics, (images, labels) = trained(2, outputs=1)
    images = images[labels == 1]
    record = Tail(model, "layer").record(images)
    keep = explain_rows(record, statistics, KeepValue.of(record.output), BottleneckSettings(beta=1.0))
    assert (keep.signal_loss == 0).all() and (keep.noise_loss > 0.3).all() and (keep.predicted_from_noise < 1).all()
    assert (keep.loss_curve[keep.steps.min() - 2] < keep.noise_loss).all()
    reach = explain_rows(record, statistics, ReachLabel(2.0), BottleneckSettings(beta=1.0))
    assert (reach.signal_loss < 0.5).all() and (reach.total_bits > 0).all()
    assert torch.isfinite(explain_rows(record, statistics, Maximise(), BottleneckSettings(beta=1.0)).bits).all()


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


def test_cancelling_leaves_nothing_hooked_and_the_weights_as_they_were(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images)
    seen = []

    def progress(done, total):
        seen.append((done, total))
        if done == 4:
            raise CancelledError

    model.zero_grad()
    model.train()
    with pytest.raises(CancelledError):
        explain_rows(record, statistics, CrossEntropy(labels), BottleneckSettings(), progress=progress)
    assert [done for done, _ in seen] == [1, 2, 3, 4]
    for module in model.modules():
        assert module.training and not module._forward_hooks and "forward" not in module.__dict__
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    model.eval()


@pytest.mark.parametrize("mode", ["reference", "converged"])
def test_progress_counts_up_to_a_total_known_beforehand(cases, mode):
    model, statistics, (images, labels) = cases[2]
    seen = []
    settings = BottleneckSettings(mode=mode, rows_per_pass=4)
    explain_rows(
        Tail(model, "layer").record(images), statistics, CrossEntropy(labels), settings,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    done, totals = zip(*seen)
    assert len(set(totals)) == 1 and done[-1] == totals[-1]
    assert list(done[:-1]) == list(range(1, len(done)))


def test_information_stays_in_float32_under_autocast(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images[:2])
    settings = {each: BottleneckSettings(beta=0.3, autocast=each) for each in ("off", "bfloat16")}
    with torch.autocast("cpu", torch.bfloat16):
        ambient = explain_rows(record, statistics, CrossEntropy(labels[:2]), settings["off"])
    exact = explain_rows(record, statistics, CrossEntropy(labels[:2]), settings["off"])
    rounded = explain_rows(record, statistics, CrossEntropy(labels[:2]), settings["bfloat16"])
    assert rounded.bits.dtype == torch.float32 and rounded.precision == "bfloat16"
    assert relative(rounded.bits, exact.bits) < 0.25
    # bfloat16 has 8 bits of fraction: sums of bits that went through it would land on its coarse steps.
    assert not torch.equal(rounded.bits, rounded.bits.bfloat16().float())
    assert torch.equal(ambient.bits, exact.bits)


def test_half_precision_gradients_are_scaled_and_come_out_alike(cases):
    model, statistics, (images, labels) = cases[2]
    record, objective = Tail(model, "layer").record(images[:2]), CrossEntropy(labels[:2])
    exact, rounded = (
        explain_rows(record, statistics, objective, BottleneckSettings(mode="reference", beta=0.3, autocast=precision))
        for precision in ("off", "float16")
    )
    assert rounded.precision == "float16" and rounded.bits.dtype == torch.float32
    assert 0 < relative(rounded.bits, exact.bits) < 0.25


def test_whole_passes_give_the_same_map_and_are_said(cases):
    model, statistics, (images, labels) = cases[2]
    settings = BottleneckSettings(mode="reference", beta=0.3)
    replayed = explain_rows(Tail(model, "layer").record(images), statistics, CrossEntropy(labels), settings)
    record = Tail(model, "layer").record(images)
    record._fall_back("asked for by the test")
    try:
        whole = explain_rows(record, statistics, CrossEntropy(labels), settings)
    finally:
        record._shape.mode, record._shape.note = "replay", ""
    assert relative(whole.bits, replayed.bits) < 1e-3
    assert any("asked for by the test" in warning for warning in whole.warnings)
    assert not any("whole model" in warning for warning in replayed.warnings)


def test_the_precision_of_auto_is_one_of_the_two(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images[:2])
    found = explain_rows(record, statistics, CrossEntropy(labels[:2]), BottleneckSettings(autocast="auto"))
    assert found.precision in ("off", "bfloat16")
    assert found.passes == int(found.steps.max()) - 1


def test_layers_smaller_than_the_kernel_can_be_explained():
    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Conv2d(1, 5, 8, stride=8), nn.Linear(5, 2)

        def forward(self, x):
            return self.head(self.layer(x).relu().mean((2, 3)))

    torch.manual_seed(1)
    model = Small()
    accumulator = StatisticsAccumulator("channel")
    accumulator.add(Tail(model, "layer").record(torch.randn(9, 1, 16, 8)).activation)
    for shape in [(16, 8), (8, 8), (24, 16)]:
        record = Tail(model, "layer").record(torch.randn(2, 1, *shape))
        found = explain_rows(record, accumulator.finish(), CrossEntropy(0), BottleneckSettings())
        assert found.bits.shape == (2, shape[0] // 8, shape[1] // 8) and torch.isfinite(found.bits).all()


def test_tokens_of_a_transformer_are_mapped_to_their_grid():
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    vit = ViT(1, (16, 16), (4, 8), hidden_size=12, mlp_dim=24, num_layers=2, num_heads=2, classification=True,
              num_classes=2, spatial_dims=2).eval()  # fmt: skip

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = vit

        def forward(self, x):
            return self.vit(x)[0]

    model = Logits()
    accumulator = StatisticsAccumulator()
    accumulator.add(channels_first(Tail(model, "vit.blocks.0").record(torch.randn(12, 1, 16, 16)).activation, -1))
    record = Tail(model, "vit.blocks.0").record(torch.randn(2, 1, 16, 16))
    statistics = accumulator.finish()
    found = explain_rows(
        record, statistics, CrossEntropy(1), BottleneckSettings(mode="reference"), channel_axis=-1, token_grid=(4, 2)
    )
    flat = explain_rows(
        record, statistics, CrossEntropy(1), BottleneckSettings(mode="reference", sigma=0), channel_axis=-1
    )
    assert found.bits.shape == (2, 4, 2) and flat.bits.shape == (2, 9)
    assert (found.bits.flatten(1).sum(1) < found.total_bits).all()
    assert bits_per_voxel(found.bits, (16, 16)).shape == (2, 16, 16)
    with pytest.raises(OptionError, match="token grid"):
        explain_rows(record, statistics, CrossEntropy(1), channel_axis=-1, token_grid=(5, 2))


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


def test_running_out_of_memory_halves_the_rows_and_is_said(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images)
    run, sizes = record.run, []

    def narrow(z, rows=None):
        sizes.append(z.shape[0])
        if z.requires_grad and z.shape[0] > 3:
            raise torch.OutOfMemoryError("not enough memory")
        return run(z, rows)

    record.run = narrow
    settings = BottleneckSettings(mode="reference", rows_per_pass=12, beta=0.3)
    found = explain_rows(record, statistics, CrossEntropy(labels), settings)
    assert any("3 rows" in warning for warning in found.warnings) and max(sizes[-4:]) <= 3
    del record.run
    plenty = explain_rows(record, statistics, CrossEntropy(labels), settings)
    assert found.steps.tolist() == plenty.steps.tolist() and relative(found.bits, plenty.bits) < 1e-3

    def none(z, rows=None):
        if z.requires_grad:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return run(z, rows)

    record.run = none
    with pytest.raises(ResourceError, match="single pass"):
        explain_rows(record, statistics, CrossEntropy(labels), settings)


def test_a_small_budget_of_memory_means_small_passes(cases):
    model, statistics, (images, labels) = cases[2]
    record = Tail(model, "layer").record(images)
    sizes = []
    run = record.run
    record.run = lambda z, rows=None: (sizes.append(z.shape[0]), run(z, rows))[1]
    budget = record.bytes_per_row() * 4
    explain_rows(record, statistics, CrossEntropy(labels), BottleneckSettings(mode="reference", memory_budget=budget))
    assert 1 <= max(sizes) <= 3


def test_a_value_that_does_not_depend_on_the_layer_is_refused(cases):
    model, statistics, (images, labels) = cases[2]

    def constant(output, rows):
        return torch.zeros(len(rows))

    def one_number(output, rows):
        return output.mean()

    record = Tail(model, "layer").record(images)
    with pytest.raises(ModelError, match="does not depend"):
        explain_rows(record, statistics, constant)
    with pytest.raises(ModelError, match="one loss for each row"):
        explain_rows(record, statistics, one_number)


def test_activity_that_the_reference_never_showed_is_warned_of(cases):
    model, _, (images, labels) = cases[2]
    accumulator = StatisticsAccumulator()
    values = Tail(model, "layer").record(images).activation.clone()
    values[:, :4] = 0
    accumulator.add(values)
    record, settings = Tail(model, "layer").record(images), BottleneckSettings(mode="reference")
    found = explain_rows(record, accumulator.finish(), CrossEntropy(labels), settings)
    assert any("hardly ever used" in warning for warning in found.warnings)
    assert any("6 images" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "fast"}, {"direction": "both"}, {"copies": 3}, {"copies": 0}, {"steps": 0}, {"tolerance": 0},
        {"learning_rate": -1}, {"min_steps": 50, "max_steps": 20}, {"sigma": -1}, {"rows_per_pass": 0},
        {"autocast": "int8"},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(OptionError) as caught:
        BottleneckSettings(**wrong)
    assert next(iter(wrong)) in caught.value.message and caught.value.remedy
