import numpy as np
import pytest
import torch
from support.oracles.plain_iba import PlainIBA
from support.small_networks import LinearModel, SmallClassifier, images, seeded
from xaiengine.attribution.bottleneck.bottleneck import BottleneckSettings
from xaiengine.attribution.bottleneck.information import (
    InformationRequest,
    gate_mask,
    information,
    multilayer_information,
    objective_of,
    own_statistics,
)
from xaiengine.attribution.bottleneck.input_bottleneck import InputBottleneckSettings, _InputFit, input_information
from xaiengine.attribution.placement import placed, placed_sum
from xaiengine.core.errors import CancelledError, OptionError
from xaiengine.network.feature_grid import FeatureGrid, feature_grid
from xaiengine.targets.targets import BinaryTarget, ClassTarget, DifferenceTarget, RegressionTarget, TopKTarget

QUICK = BottleneckSettings(mode="reference", steps=6)


SECOND = ClassTarget(1)


def request_for(network, target=SECOND, layer="early", inputs=None, **more):
    statistics = own_statistics(network, layer, inputs)
    return InformationRequest(network, target, lambda name: statistics, settings=more.pop("settings", QUICK), **more)


@pytest.mark.parametrize("spatial_dims, shape", [(2, (2, 1, 16, 20)), (3, (1, 1, 8, 12, 8))])
def test_information_has_the_inputs_voxels_and_its_sum_is_the_total_in_bits(spatial_dims, shape):
    network, inputs = seeded(SmallClassifier, spatial_dims), images(shape)
    found = information(request_for(network, inputs=inputs), "early", inputs)
    assert found.map.shape == (shape[0], 1, *shape[2:])
    assert float(found.map.flatten(1).sum(1).mean()) == pytest.approx(found.convergence["total_bits"], rel=1e-4)
    assert found.unit == "bits/voxel"


def test_samples_are_explained_independently():
    network, inputs = seeded(SmallClassifier, 2), images((3, 1, 16, 16))
    request = request_for(network, inputs=inputs)
    together = information(request, "early", inputs).map
    torch.testing.assert_close(information(request, "early", inputs[:1]).map, together[:1], rtol=1e-3, atol=1e-6)


def test_keep_and_destroy_are_different_questions():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    keep = information(request_for(network, inputs=inputs), "early", inputs).map
    settings = BottleneckSettings(mode="reference", steps=6, direction="destroy")
    destroy = information(request_for(network, inputs=inputs, settings=settings), "early", inputs).map
    assert not torch.allclose(keep, destroy)


def test_own_statistics_need_one_sample_only_and_know_a_relu():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    found = own_statistics(network, "middle.1", inputs)
    assert (found.samples, found.scans) == (1, 1) and found.after_relu  # mirror images are no samples
    assert not own_statistics(network, "middle.0", inputs).after_relu


def test_objectives_of_classes_equal_their_definitions():
    output, rows = images((4, 5)), torch.arange(4)
    probabilities = output.softmax(1)
    torch.testing.assert_close(objective_of(ClassTarget(2), output)(output, rows), -probabilities[:, 2].log())
    top = objective_of(TopKTarget((1, 3)), output)
    torch.testing.assert_close(top(output, rows), -(probabilities[:, 1] + probabilities[:, 3]).log())
    assert top.met(output, rows).tolist() == [int(row.argmax()) in (1, 3) for row in output]
    multilabel = objective_of(ClassTarget(4, activation="sigmoid"), output)
    torch.testing.assert_close(multilabel(output, rows), -output[:, 4].sigmoid().log())
    inside = objective_of(ClassTarget(2, activation="none"), probabilities)
    torch.testing.assert_close(inside(probabilities, rows), -probabilities[:, 2].log())
    torch.testing.assert_close(
        objective_of(ClassTarget(2, activation="none"), output)(output, rows), -probabilities[:, 2].log()
    )
    absent = objective_of(BinaryTarget(positive=False), output[:, :1])
    torch.testing.assert_close(absent(output[:, :1], rows), -(1 - output[:, 0].sigmoid()).log())
    difference = objective_of(DifferenceTarget(ClassTarget(0), ClassTarget(1)), output)
    torch.testing.assert_close(difference(output, rows), -(output[:, 0] - output[:, 1]).sigmoid().log())


def test_regression_has_three_losses_relative_to_the_prediction():
    output, rows = images((3, 2)), torch.arange(3)
    moved, target = output + 0.5, RegressionTarget(1)
    predicted = output[:, 1].square()
    torch.testing.assert_close(objective_of(target, output)(moved, rows), 0.25 / predicted)
    torch.testing.assert_close(objective_of(target, output, "label", 2.0)(moved, rows), (moved[:, 1] / 2 - 1).square())
    maximized = objective_of(target, output, "maximise")(moved, rows)
    torch.testing.assert_close(maximized, -moved[:, 1].square() / predicted)
    destroyed = objective_of(target, output, direction="destroy")(moved, rows)
    torch.testing.assert_close(destroyed, 0.5 / output[:, 1].abs(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "target, loss, label, message",
    [
        (ClassTarget(0), "maximise", None, "for regression models"),
        (RegressionTarget(0), "label", None, "needs the true value"),
        (DifferenceTarget(RegressionTarget(0), RegressionTarget(1)), "keep", None, "one regression output"),
    ],
)
def test_losses_that_do_not_fit_are_refused(target, loss, label, message):
    with pytest.raises(OptionError, match=message):
        objective_of(target, images((1, 2)), loss, label)


def test_multilayer_keeps_the_first_map_inside_the_gate_only():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    statistics = {name: own_statistics(network, name, inputs) for name in ("early", "middle")}
    request = InformationRequest(network, ClassTarget(1), statistics.__getitem__, settings=QUICK)
    first = information(request, "early", inputs).map
    found = multilayer_information(request, ["early", "middle"], inputs, part=0.5)
    inside = found.map > 0
    torch.testing.assert_close(found.map[inside], first[inside])
    assert 0 < found.convergence["kept_share"] < 1
    with pytest.raises(OptionError, match="two layers"):
        multilayer_information(request, ["early"], inputs)


def test_a_layer_that_needs_no_information_does_not_gate():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    network.head.bias.data[1] = 50.0  # every noise gives this class
    statistics = {name: own_statistics(network, name, inputs) for name in ("early", "middle")}
    request = InformationRequest(network, ClassTarget(1), statistics.__getitem__, settings=QUICK)
    found = multilayer_information(request, ["early", "middle"], inputs, part=0.5)
    assert found.convergence["kept_share"] == pytest.approx(1)
    assert any("middle needs no information" in note for note in found.notes)


@pytest.mark.parametrize("repeat", [1, 3])
def test_gates_do_not_depend_on_resolution(repeat):
    values = torch.tensor([[4.0, 3.0, 2.0, 1.0, 0.0]]).repeat_interleave(repeat, 1)[:, None]
    energy = gate_mask(values, "energy", 0.7)[0, 0][::repeat]
    assert energy.tolist() == [True, True, False, False, False]
    assert gate_mask(values, "quantile", 0.6)[0, 0][::repeat].tolist()[:2] == [True, True]
    assert not gate_mask(torch.zeros(1, 1, 5), "energy", 0.7).any()


def test_cells_are_placed_where_they_look():
    grid = FeatureGrid((3,), (2.0,), (1.0,), True)
    values = placed(torch.tensor([[0.0, 2.0, 4.0]]), grid, (7,))
    torch.testing.assert_close(values, torch.tensor([[0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 4.0]]))
    torch.testing.assert_close(placed_sum(torch.tensor([[0.0, 2.0, 4.0]]), grid, (7,)).sum(), torch.tensor(6.0))


def test_placing_equals_a_plain_interpolation_in_three_dimensions():
    cells = images((1, 3, 4, 2))
    grid = FeatureGrid((3, 4, 2), (4.0, 2.0, 3.0), (1.5, 0.0, 1.0), True)
    found = placed(cells, grid, (12, 8, 6))[0].numpy()
    for voxel in [(0, 0, 0), (5, 3, 2), (11, 7, 5), (4, 6, 3)]:
        place = [np.clip((v - o) / s, 0, n - 1) for v, s, o, n in zip(voxel, grid.scale, grid.offset, grid.cells)]
        wanted = 0.0
        for corner in np.ndindex(2, 2, 2):
            index = [min(int(p) + c, n - 1) for p, c, n in zip(place, corner, grid.cells)]
            weight = np.prod([(p % 1) if c else 1 - (p % 1) for p, c in zip(place, corner)])
            wanted += weight * float(cells[0][tuple(index)])
        assert found[voxel] == pytest.approx(wanted, abs=1e-5)


def test_cancelling_stops_the_optimization():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))

    def report(share):
        if share > 0.3:
            raise CancelledError()

    with pytest.raises(CancelledError):
        information(request_for(network, inputs=inputs, report=report), "early", inputs)
    assert not network.early._forward_hooks


def test_input_information_is_sharp_and_keeps_the_prediction():
    weight = torch.zeros(1, 1, 16, 16)
    weight[0, 0, 4:8, 9:13] = 1.0

    class Sequence(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Conv2d(1, 2, 3, padding=1)
            self.head = LinearModel(weight)

        def forward(self, inputs):
            return self.head(self.features(inputs)[:, :1])

    network = seeded(Sequence)
    torch.nn.init.zeros_(network.features.weight)
    network.features.weight.data[:, :, 1, 1] = 1.0
    distractor = weight.roll((6, -7), (2, 3))
    inputs = 2 * weight + 2 * distractor + 0.3 * images((1, 1, 16, 16))
    request = request_for(network, ClassTarget(0), "features", inputs)
    found = input_information(request, "features", inputs, InputBottleneckSettings(steps=25, prior_steps=5))
    assert found.map.shape == (1, 1, 16, 16) and found.map.min() >= -1e-5
    assert found.map[weight > 0].mean() > 3 * found.map[distractor > 0].mean()


def test_information_of_the_input_over_its_prior_is_the_gaussian_divergence():
    mask, prior, scaled = torch.tensor([0.7]), torch.tensor([0.2]), torch.tensor([1.3])
    wanted = torch.distributions.kl_divergence(
        torch.distributions.Normal(mask * scaled, 1 - mask),
        torch.distributions.Normal(mask * prior * scaled, 1 - mask * prior),
    )
    torch.testing.assert_close(_InputFit._information(mask, prior, scaled), wanted)


def test_the_published_optimization_gives_the_published_map():
    """Against the plain re-implementation, through this family's own entry; noise differs, so maps agree roughly."""
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    request = request_for(network, inputs=inputs, settings=BottleneckSettings.published(copies=40))
    statistics = request.statistics("early")
    mean, std, active = statistics.broadcast((6, 8, 8), torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    noise = lambda step: torch.randn(40, 6, 8, 8, generator=generator)  # noqa: E731
    plain = PlainIBA(network, network.early, mean, std, active, noise, copies=40, clamp=statistics.after_relu)
    target = torch.ones(40, dtype=torch.long)
    plain.run(inputs, lambda output: torch.nn.functional.cross_entropy(output, target))
    wanted = (plain.nats.detach().mean(0) if plain.nats.ndim == 4 else plain.nats.detach()).sum(0) / np.log(2)
    found = information(request, "early", inputs).map[0, 0]
    wanted = placed_sum(wanted[None].float(), feature_grid(network, "early", inputs), (16, 16))[0]
    assert torch.corrcoef(torch.stack([found.flatten(), wanted.flatten()]))[0, 1] > 0.99
