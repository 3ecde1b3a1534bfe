"""How the bottleneck runs: progress, cancellation, precision, little memory, layers of every kind."""

from __future__ import annotations

import pytest
import torch
from support.spot_detectors import relative, trained
from torch import nn
from xaiengine.attribution.bottleneck.bits import bits_per_voxel
from xaiengine.attribution.bottleneck.bottleneck import BottleneckSettings, channels_first, explain_rows
from xaiengine.attribution.bottleneck.objectives import CrossEntropy
from xaiengine.attribution.bottleneck.statistics import StatisticsAccumulator
from xaiengine.core.errors import CancelledError, ModelError, OptionError, ResourceError
from xaiengine.network.tail.tail import Tail


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cases():
    torch.set_num_threads(1)
    return {axes: trained(axes) for axes in (1, 2, 3)}


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
        Tail(model, "layer").record(images),
        statistics,
        CrossEntropy(labels),
        settings,
        progress=lambda done, total: seen.append((done, total)),
    )
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
    vit = ViT(
        1,
        (16, 16),
        (4, 8),
        hidden_size=12,
        mlp_dim=24,
        num_layers=2,
        num_heads=2,
        classification=True,
        num_classes=2,
        spatial_dims=2,
    ).eval()

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
    assert any("6 samples" in warning for warning in found.warnings)
