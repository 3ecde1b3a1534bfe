"""The bottleneck's maps: equal to the published method's, where the evidence is, and row by row independent."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.blob_networks import blob_images, narrow_resnet, train
from support.oracles.plain_iba import PlainIBA
from support.spot_detectors import CPU, SIZE, relative, trained
from torch import nn
from xaiengine.attribution.bottleneck.bits import bits_per_voxel
from xaiengine.attribution.bottleneck.bottleneck import BottleneckSettings, explain_rows
from xaiengine.attribution.bottleneck.objectives import CrossEntropy, KeepValue, Maximise, ReachLabel
from xaiengine.attribution.bottleneck.passes import RowNoise
from xaiengine.attribution.bottleneck.statistics import StatisticsAccumulator
from xaiengine.network.tail.tail import Tail


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cases():
    torch.set_num_threads(1)
    return {axes: trained(axes) for axes in (1, 2, 3)}


def plain_cells(model, layer, statistics, image, target, settings, row=0, dtype=torch.float64):
    """The published optimization in float64 with the engine's noise: bits per cell."""
    model = model.to(dtype)
    try:
        shape = statistics.mean
        noise = RowNoise(settings.seed, [row], CPU)
        oracle = PlainIBA(
            model,
            layer,
            statistics.mean.to(dtype),
            statistics.std.to(dtype),
            statistics.active.to(dtype),
            lambda step: noise.draw([0], settings.copies, shape[None])[:, 0].to(dtype),
            copies=settings.copies,
            steps=settings.steps,
            beta=settings.information_weight,
            sigma=settings.sigma,
            destroy=settings.direction == "destroy",
            clamp=statistics.after_relu,
        )
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


@pytest.mark.parametrize("axes", [2, 3])
def test_the_full_schedule_ends_near_a_long_slow_run_where_the_other_pauses_on_the_way(cases, axes):
    """The long run takes a tenth of the rate, has no bound and eight times the steps."""
    model, statistics, (images, labels) = cases[axes]
    record, objective = Tail(model, "layer").record(images), CrossEntropy(labels)
    slow = {"steps": 800, "copies": 4, "learning_rate": 0.2, "adam_betas": (0.9, 0.999)}
    long = explain_rows(record, statistics, objective, BottleneckSettings(mode="reference", beta=1.0, **slow))
    full = explain_rows(record, statistics, objective, BottleneckSettings(mode="full", beta=1.0))
    quick = explain_rows(record, statistics, objective, BottleneckSettings(beta=1.0))

    def distance(found):
        return sum(relative(one, other) for one, other in zip(found.bits, long.bits)) / len(images)

    assert distance(full) < 0.5 * distance(quick) and distance(full) < 0.4
    assert full.converged.all() and (full.steps < 160).all() and len(full.steps.unique()) > 1  # each row by itself
    alone = explain_rows(
        Tail(model, "layer").record(images[2:3]),
        statistics,
        CrossEntropy(labels[2:3]),
        BottleneckSettings(mode="full", beta=1.0),
        row_ids=[2],
    )
    assert relative(alone.bits[0], full.bits[2]) < 1e-3 and alone.steps[0] == full.steps[2]


def test_what_needs_no_bits_gets_none_although_the_mask_is_bounded_on_the_way(cases):
    """A constant objective: everything is noise in the end."""
    model, statistics, (images, _) = cases[2]
    record = Tail(model, "layer").record(images[:1])
    found = explain_rows(record, statistics, lambda output, rows: 0 * output.sum(1), BottleneckSettings(mode="full"))
    bounded = 0.3  # bits that these neurons hold at the bound
    assert found.converged.all() and float(found.total_bits) < bounded / 5, float(found.total_bits)


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


def test_a_row_does_not_depend_on_its_neighbors_nor_on_the_parts(cases):
    model, statistics, (images, labels) = cases[2]
    settings = BottleneckSettings(mode="reference", beta=0.3, seed=5)
    tail = Tail(model, "layer")
    ids = [7, 3, 12, 4, 9, 1]
    together = explain_rows(tail.record(images), statistics, CrossEntropy(labels), settings, row_ids=ids)
    order = [4, 1]
    alone = explain_rows(
        tail.record(images[order]),
        statistics,
        CrossEntropy(labels[order]),
        settings,
        row_ids=[ids[row] for row in order],
    )
    in_parts = explain_rows(
        tail.record(images),
        statistics,
        CrossEntropy(labels),
        BottleneckSettings(mode="reference", beta=0.3, seed=5, rows_per_pass=1),
        row_ids=ids,
    )
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
