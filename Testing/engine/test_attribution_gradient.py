import captum.attr
import pytest
import torch
from support.small_networks import LinearModel, SmallClassifier, images, seeded
from torch import nn
from xaiengine.attribution.backpropagation import deconvolution, deep_lift, deep_lift_shap, guided_backpropagation
from xaiengine.attribution.baselines import baseline_like, gaussian_blur
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.gradient import (
    gradient_shap,
    input_x_gradient,
    integrated_gradients,
    saliency,
    smooth_gradient,
)
from xaiengine.attribution.layer import LAYER_METHODS, LayerSettings, layer_attribution
from xaiengine.core.errors import CancelledError, ModelError, OptionError
from xaiengine.core.progress import Progress
from xaiengine.targets.targets import ClassTarget

SHAPES = {2: (2, 1, 16, 20), 3: (2, 1, 8, 12, 8)}


class UnknownActivation(nn.Module):
    """A network without any module that captum has a rule for."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3)
        self.activation = nn.PReLU()
        self.head = nn.Linear(4, 2)

    def forward(self, inputs):
        return self.head(self.activation(self.layer(inputs)).square().flatten(2).mean(-1))


@pytest.fixture(params=[2, 3])
def case(request):
    network = seeded(SmallClassifier, request.param)
    inputs = images(SHAPES[request.param])
    return TargetForward(network, ClassTarget(1)), network, inputs, torch.zeros_like(inputs)


def close(found, wanted, tolerance=1e-5):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance * float(wanted.abs().max()))


def test_saliency_equals_captum(case):
    forward, network, inputs, _ = case
    wanted = captum.attr.Saliency(network).attribute(inputs.clone(), target=1, abs=False)
    close(saliency(forward, inputs).map, wanted)


def test_input_x_gradient_equals_captum(case):
    forward, network, inputs, baseline = case
    wanted = captum.attr.InputXGradient(network).attribute(inputs.clone(), target=1)
    close(input_x_gradient(forward, inputs, baseline).map, wanted.detach())


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_integrated_gradients_equal_captum(case, batch_size):
    forward, network, inputs, _ = case
    baseline = baseline_like(inputs, "blurred")
    found = integrated_gradients(forward, inputs, baseline, steps=12, batch_size=batch_size)
    method = captum.attr.IntegratedGradients(network)
    wanted = method.attribute(inputs, baselines=baseline, target=1, n_steps=12, method="gausslegendre")
    close(found.map, wanted.float())


def test_integrated_gradients_of_a_linear_model_are_exact():
    weight = images((1, 1, 6, 6), seed=3)
    forward, inputs = TargetForward(LinearModel(weight), ClassTarget(0)), images((2, 1, 6, 6))
    baseline = baseline_like(inputs, "mean")
    found = integrated_gradients(forward, inputs, baseline)
    close(found.map, weight * (inputs - baseline))
    assert found.convergence["completeness_error"] < 1e-5


def test_integrated_gradients_take_steps_until_complete(case):
    forward, _, inputs, baseline = case
    found = integrated_gradients(forward, inputs, baseline)
    assert found.convergence["completeness_error"] < 0.01
    assert not found.notes


def test_integrated_gradients_say_when_they_do_not_converge():
    step = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.Sigmoid(), nn.Linear(1, 2, bias=False))
    nn.init.constant_(step[1].weight, 400.0)
    forward = TargetForward(step.eval(), ClassTarget(0))
    found = integrated_gradients(forward, torch.ones(1, 1, 2, 2), -0.37 * torch.ones(1, 1, 2, 2), max_steps=16)
    assert "misses the change of the prediction" in found.notes[0]


def test_smooth_gradient_approaches_the_smoothed_slope():
    """For f = mean of relu(x), the expected gradient under noise is Φ(x/σ)/n in closed form."""
    network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16, 2, bias=False)).eval()
    nn.init.constant_(network[2].weight, 1.0)
    inputs = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    found = smooth_gradient(TargetForward(network, ClassTarget(0)), inputs, samples=4000, noise=0.25, batch_size=500)
    wanted = torch.distributions.Normal(0.0, 0.5).cdf(inputs)
    torch.testing.assert_close(found.map, wanted, atol=0.03, rtol=0)
    torch.testing.assert_close(found.extras["variance"], wanted * (1 - wanted), atol=0.03, rtol=0)


def test_variants_of_smooth_gradient_are_moments_of_the_same_draws(case):
    forward, _, inputs, _ = case
    kinds = {
        kind: smooth_gradient(forward, inputs, samples=6, kind=kind, seed=4).map
        for kind in ("smoothgrad", "smoothgrad_sq", "vargrad")
    }
    close((kinds["smoothgrad_sq"] - kinds["smoothgrad"].square()) * 6 / 5, kinds["vargrad"], 1e-4)


def test_gradient_shap_of_a_linear_model_is_exact_up_to_the_drawn_baselines():
    weight = images((1, 1, 6, 6), seed=3)
    forward, inputs = TargetForward(LinearModel(weight), ClassTarget(0)), images((2, 1, 6, 6))
    found = gradient_shap(forward, inputs, images((1, 1, 6, 6), seed=9), samples=7)
    close(found.map, weight * (inputs - images((1, 1, 6, 6), seed=9)))
    assert found.convergence["completeness_error"] < 1e-5


@pytest.mark.parametrize(
    "method, oracle",
    [(guided_backpropagation, captum.attr.GuidedBackprop), (deconvolution, captum.attr.Deconvolution)],
)
def test_relu_rules_equal_captum(case, method, oracle):
    forward, network, inputs, _ = case
    close(method(forward, inputs).map, oracle(network).attribute(inputs.clone(), target=1).detach())


@pytest.mark.parametrize("method", [guided_backpropagation, deconvolution])
def test_relu_rules_are_refused_without_relu(method):
    forward = TargetForward(seeded(UnknownActivation), ClassTarget(0))
    with pytest.raises(ModelError, match="PReLU"):
        method(forward, images((1, 1, 8, 8)))


def test_deep_lift_equals_captum_and_is_complete(case):
    forward, network, inputs, baseline = case
    found = deep_lift(forward, inputs, baseline)
    close(found.map, captum.attr.DeepLift(network).attribute(inputs, baseline, target=1).detach())
    assert found.convergence["completeness_error"] < 1e-3


def test_deep_lift_shap_is_the_mean_of_deep_lift_over_baselines(case):
    forward, _, inputs, _ = case
    baselines = images((3, *inputs.shape[1:]), seed=8)
    found = deep_lift_shap(forward, inputs, baselines)
    single = [deep_lift(forward, inputs, entry[None].expand_as(inputs)).map for entry in baselines]
    close(found.map, torch.stack(single).mean(0))


def test_deep_lift_is_refused_where_it_would_be_input_times_gradient():
    forward = TargetForward(seeded(UnknownActivation), ClassTarget(0))
    inputs = images((1, 1, 8, 8))
    with pytest.raises(ModelError, match="no rule for .PReLU"):
        deep_lift(forward, inputs, torch.zeros_like(inputs))


LAYER_ORACLES = {
    "layer_activation": captum.attr.LayerActivation,
    "layer_gradient_x_activation": captum.attr.LayerGradientXActivation,
    "layer_conductance": captum.attr.LayerConductance,
    "internal_influence": captum.attr.InternalInfluence,
    "layer_integrated_gradients": captum.attr.LayerIntegratedGradients,
    "layer_deep_lift": captum.attr.LayerDeepLift,
}


@pytest.mark.parametrize("method", LAYER_ORACLES)
def test_layer_methods_equal_captum(case, method):
    forward, network, inputs, baseline = case
    found = layer_attribution(method, forward, "middle", network.middle, inputs, baseline, LayerSettings(steps=10))
    more = {}
    if method in ("layer_conductance", "internal_influence", "layer_integrated_gradients"):
        more = {"baselines": baseline, "n_steps": 10, "method": "gausslegendre"}
    if method == "layer_deep_lift":
        more = {"baselines": baseline}
    if method != "layer_activation":
        more["target"] = 1
    wanted = LAYER_ORACLES[method](network, network.middle).attribute(inputs, **more)
    close(found.map[:, 0], wanted.detach().float().sum(1))


def test_every_layer_method_has_a_test():
    assert set(LAYER_METHODS) == {*LAYER_ORACLES, "layer_gradient_shap"}


def test_layer_gradient_shap_depends_on_its_seed_only(case):
    forward, network, inputs, baseline = case

    def attribution(seed):
        settings = LayerSettings(samples=4, seed=seed)
        return layer_attribution("layer_gradient_shap", forward, "early", network.early, inputs, baseline, settings)

    torch.testing.assert_close(attribution(1).map, attribution(1).map)
    assert not torch.equal(attribution(1).map, attribution(2).map)
    assert attribution(1).convergence["completeness_error"] < 0.5


def test_conductance_is_complete_at_a_layer_that_cuts_every_path(case):
    forward, network, inputs, baseline = case
    settings = LayerSettings(steps=64)
    found = layer_attribution("layer_conductance", forward, "late", network.late, inputs, baseline, settings)
    assert found.convergence["completeness_error"] < 0.01


def test_cancelling_stops_between_passes_and_leaves_no_hook(case):
    _, network, inputs, baseline = case
    passes = []
    progress = Progress(cancelled=lambda: len(passes) > 2)
    network.register_forward_hook(lambda *_: passes.append(1))
    forward = TargetForward(network, ClassTarget(1), progress=progress)
    with pytest.raises(CancelledError):
        integrated_gradients(forward, inputs, baseline, steps=32, batch_size=2)
    with pytest.raises(CancelledError):
        layer_attribution("layer_conductance", forward, "late", network.late, inputs, baseline)
    assert not network.late._forward_hooks and not network.late._forward_pre_hooks


def test_values_that_are_not_numbers_are_refused():
    network = nn.Sequential(nn.Flatten(), nn.InstanceNorm1d(1)).eval()
    forward = TargetForward(lambda inputs: network(inputs) / inputs.std(), ClassTarget(0))
    with pytest.raises(ModelError, match="not numbers"):
        forward.values(torch.zeros(1, 4, 1, 2))


def test_baselines():
    inputs = images((2, 3, 12, 14))
    assert baseline_like(inputs, "zero").abs().max() == 0
    assert baseline_like(inputs, "constant", constant=-1.5).unique().tolist() == [-1.5]
    torch.testing.assert_close(baseline_like(inputs, "mean")[1, 2, 3, 4], inputs[1, 2].mean())
    blurred = baseline_like(inputs, "blurred")
    assert blurred.std() < 0.4 * inputs.std()
    with pytest.raises(OptionError, match="none was given"):
        baseline_like(inputs, "scan")


def test_blur_equals_scipy():
    from scipy.ndimage import gaussian_filter

    inputs = images((1, 1, 9, 12, 10))
    wanted = gaussian_filter(inputs[0, 0].double().numpy(), (1.0, 1.5, 0.0), mode="nearest", radius=(3, 5, 0))
    found = gaussian_blur(inputs, (1.0, 1.5, 0.0))[0, 0].double()
    torch.testing.assert_close(found, torch.as_tensor(wanted), rtol=1e-4, atol=1e-5)
