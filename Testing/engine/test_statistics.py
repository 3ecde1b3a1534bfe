"""Reference statistics of a layer against numpy over all images at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from xaiengine.attribution.bottleneck.statistics import OWN_SCAN, ReferenceStatistics, StatisticsAccumulator
from xaiengine.core.errors import InputError, ModelError, OptionError


@pytest.fixture
def activations():
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(37, 4, 5, 6, generator=generator) * torch.arange(1.0, 5).view(4, 1, 1) + 100.0
    values[:, 3] = values[:, 3].sub(100).clamp_min(0)  # after a ReLU: half zero
    return values


def fitted(parts, scope="position", **finish):
    accumulator = StatisticsAccumulator(scope)
    for part in parts:
        accumulator.add(part)
    return accumulator.finish(**finish)


@pytest.mark.parametrize("sizes", [[37], [1] * 37, [20, 1, 16]])
def test_position_statistics_equal_those_of_all_images_at_once(activations, sizes):
    found = fitted(activations.split(sizes))
    values = activations.double().numpy()
    np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.std, values.std(0, ddof=1), rtol=1e-5)
    assert found.samples == 37 and found.mean.shape == (4, 5, 6)


def test_channel_statistics_pool_positions_and_serve_any_size(activations):
    found = fitted([activations[:20], activations[20:, :, :3]], "channel")
    pooled = np.concatenate(
        [activations[:20].movedim(1, 0).flatten(1).numpy(), activations[20:, :, :3].movedim(1, 0).flatten(1).numpy()],
        axis=1,
    ).astype(np.float64)
    np.testing.assert_allclose(found.mean, pooled.mean(1), rtol=1e-6)
    np.testing.assert_allclose(found.std, pooled.std(1, ddof=1), rtol=1e-5)
    assert found.samples == 37
    for cells in [(5, 6), (2, 9), (3, 3, 3)]:
        mean, std, active = found.broadcast((4, *cells), torch.device("cpu"))
        assert (torch.zeros(4, *cells) + mean).shape == (4, *cells) == (torch.zeros(4, *cells) + std * active).shape


@pytest.mark.parametrize("scope", ["position", "channel"])
def test_merged_accumulators_equal_one(activations, scope):
    parts = activations.split([5, 31, 1])
    merged = StatisticsAccumulator(scope)
    for part in parts:
        other = StatisticsAccumulator(scope)
        other.add(part)
        merged.merge(other)
    merged.merge(StatisticsAccumulator(scope))
    for found, expected in zip(
        (merged.finish().mean, merged.finish().std), (fitted(parts, scope).mean, fitted(parts, scope).std)
    ):
        torch.testing.assert_close(found, expected)


def test_large_means_cost_no_precision():
    values = torch.randn(400, 2, 3, dtype=torch.float64) * 0.05 + 1e4
    found = fitted(values.float().split(7))
    np.testing.assert_allclose(found.std, values.float().double().numpy().std(0, ddof=1), rtol=1e-4)


def test_deviation_has_a_floor_and_rare_neurons_are_inactive():
    values = torch.zeros(200, 3, 1)
    values[:, 1] = 7.0
    values[:2, 2] = 1.0  # non-zero in 1 % of the samples: still inactive
    found = fitted([values])
    assert found.std[1].item() == pytest.approx(0.01) and found.std[0].item() == pytest.approx(0.01)
    assert found.active.flatten().tolist() == [False, True, False]
    values[2, 2] = 1.0
    assert fitted([values]).active.flatten().tolist() == [False, True, True]
    assert fitted([values], min_std=0.5).std[1].item() == 0.5


def test_after_a_relu_the_mean_is_zero_and_the_deviation_that_of_what_is_not_zero(activations):
    values = activations[:, 3:]
    found = fitted(values.split(10), after_relu=True)
    assert found.after_relu and not found.mean.any()
    expected = np.zeros((5, 6))
    for i in range(5):
        for j in range(6):
            column = values[:, 0, i, j].double().numpy()
            expected[i, j] = np.sqrt((column[column != 0] ** 2).mean())
    np.testing.assert_allclose(found.std[0], expected, rtol=1e-5)


def test_a_single_sample_is_refused(activations):
    for parts in ([], [activations[:1]]):
        with pytest.raises(InputError, match="two samples") as caught:
            fitted(parts) if parts else StatisticsAccumulator().finish()
        assert caught.value.remedy
    with pytest.raises(InputError, match="found 1"):
        fitted([activations[:1]], "channel")


def test_few_samples_are_warned_of(activations):
    assert "37 samples only" in fitted([activations]).warning
    assert fitted([torch.randn(1000, 1, 1)]).warning == ""


def of_scans(count, slices=40):
    whole = StatisticsAccumulator("channel")
    for number in range(count):
        part = StatisticsAccumulator("channel", scans=1)
        part.add(torch.randn(slices, 2, 3, generator=torch.Generator().manual_seed(number)))
        part.add(torch.randn(slices, 2, 3), mirrored=True)
        whole.merge(part)
    return whole.finish()


def test_independent_scans_are_counted_not_their_slices_or_mirror_images(tmp_path):
    few = of_scans(3)
    assert (few.samples, few.scans, few.source) == (120, 3, "120 samples from 3 scans")
    # 1 / sqrt(2 (3 - 1)) of the spread between scans
    assert "120 samples from 3 scans only" in few.warning and "about 50%" in few.warning
    assert "from 1 scan only" in of_scans(1).warning
    assert of_scans(50, 2).warning == ""
    few.save(tmp_path / "few.safetensors")
    assert ReferenceStatistics.load(tmp_path / "few.safetensors").source == few.source


def test_another_size_or_layer_is_refused_with_the_way_out(activations):
    found = fitted([activations])
    with pytest.raises(ModelError, match="per channel"):
        found.broadcast((4, 9, 9), torch.device("cpu"))
    with pytest.raises(ModelError, match="4x5x6.*8x5x6"):
        found.broadcast((8, 5, 6), torch.device("cpu"))
    accumulator = StatisticsAccumulator()
    accumulator.add(activations)
    with pytest.raises(ModelError, match="one size"):
        accumulator.add(activations[:, :, :3])
    with pytest.raises(OptionError):
        StatisticsAccumulator("voxel")
    with pytest.raises(OptionError):
        accumulator.merge(StatisticsAccumulator("channel"))


@pytest.mark.parametrize("scope, after_relu", [("position", False), ("channel", True)])
def test_survive_saving(tmp_path, activations, scope, after_relu):
    path = tmp_path / "new folder" / "layer2.safetensors"
    before = fitted([activations], scope, after_relu=after_relu).with_metadata(layer="layer2", model="a1b2")
    before.save(path)
    after = ReferenceStatistics.load(path)
    for name in ("mean", "std", "active"):
        assert torch.equal(getattr(after, name), getattr(before, name))
    assert (after.samples, after.scope, after.after_relu) == (37, scope, after_relu)
    assert after.metadata == {"layer": "layer2", "model": "a1b2"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_files_that_are_no_statistics_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        ReferenceStatistics.load(tmp_path / "missing.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not this")
    with pytest.raises(InputError, match="broken.safetensors"):
        ReferenceStatistics.load(broken)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, str(other))
    with pytest.raises(InputError, match="no reference statistics"):
        ReferenceStatistics.load(other)


# ------------------------------------------------------------------ places and channels


def of_places(seed: int = 0, scans: int = 6) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).normal(2, 1, (scans, 3, 4, 5)), dtype=torch.float32)


def test_places_are_pooled_into_channels_as_if_gathered_so():
    values = of_places()
    places, channels = StatisticsAccumulator("position", scans=6), StatisticsAccumulator("channel", scans=6)
    for part in values.split(2):
        places.add(part)
        channels.add(part)
    found, expected = places.pooled().finish(), channels.finish()
    assert (found.samples, found.scans, found.scope) == (6, 6, "channel")
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.std, expected.std)
    # of finished statistics: by the law of total variance, up to the estimators' own corrections
    torch.testing.assert_close(places.finish().pooled().mean, expected.mean)
    torch.testing.assert_close(places.finish().pooled().std, expected.std, rtol=0.1, atol=0)


def test_few_scans_lean_on_the_deviation_of_their_channel():
    places = StatisticsAccumulator("position", scans=6)
    places.add(of_places())
    own = of_places().double().var(0)
    whole = of_places().double().movedim(1, 0).flatten(1).var(1)[:, None, None]
    expected = ((6 * own + 2 * whole) / 8).sqrt()
    torch.testing.assert_close(places.finish(prior_scans=2).std.double(), expected, rtol=1e-5, atol=0)
    assert torch.equal(places.finish(prior_scans=2).mean, places.finish().mean)


def test_a_layer_of_another_size_gets_those_of_channels_and_the_description_says_which():
    places = StatisticsAccumulator("position", scans=6)
    places.add(of_places())
    found = places.finish()
    assert found.fitting((3, 4, 5)) is found
    assert found.fitting((3, 7, 7)).scope == "channel" and found.fitting((9, 7, 7)) is found
    assert "at the same place of 6 samples from 6 scans" in found.description
    assert "anywhere in" in found.fitting((3, 7, 7)).description
    assert "not quantitative" in found.with_metadata(**{OWN_SCAN: "yes"}).description
