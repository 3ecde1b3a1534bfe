"""Relevance propagation against captum, two-layer re-implementations and conservation; attention maps against the
published products."""

import copy

import pytest
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from torch import nn
from torch.nn import functional
from xaiengine.attribution.attention import attention_map
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.relevance import COMPOSITES, Rules, relevance
from xaiengine.core.errors import ModelError
from xaiengine.targets.targets import ClassTarget

SMALL = 1e-9


def frozen(network):
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval().double()


def plain_network(dims, bias=False, norm=False):
    torch.manual_seed(0)
    convolution, pooling = {2: (nn.Conv2d, nn.MaxPool2d), 3: (nn.Conv3d, nn.MaxPool3d)}[dims]
    norms = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
    layers = [convolution(1, 5, 3, padding=1, bias=bias), nn.ReLU(), pooling(2)]
    if norm:
        layers.insert(1, norms(5))
    layers += [convolution(5, 6, 3, padding=1, bias=bias), nn.ReLU(), pooling(2), nn.Flatten()]
    return frozen(nn.Sequential(*layers, nn.Linear(6 * 2**dims, 8, bias=bias), nn.ReLU(), nn.Linear(8, 3, bias=bias)))


CAPTUM = {"epsilon": lambda: EpsilonRule(SMALL), "gamma": lambda: GammaRule(0.25), "plus": Alpha1_Beta0_Rule}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("rule", CAPTUM)
def test_rules_equal_captum(dims, rule):
    network = plain_network(dims)
    inputs = torch.rand(2, 1, *[8] * dims, dtype=torch.double)
    found = relevance(TargetForward(network, ClassTarget(1)), inputs, Rules(convolution=rule, epsilon=SMALL))
    twin = copy.deepcopy(network)
    for layer in twin:
        if hasattr(layer, "weight"):
            layer.weight.requires_grad_(True)
        if isinstance(layer, (nn.Linear, nn.Flatten)):
            layer.rule = EpsilonRule(SMALL)
        elif hasattr(layer, "weight"):
            layer.rule = CAPTUM[rule]()
    wanted = LRP(twin).attribute(inputs.clone(), target=1).detach()
    assert float((found.map - wanted).abs().max() / wanted.abs().max()) < 1e-4
    assert found.convergence["conserved_share"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_composite_conserves_without_biases(name):
    network = plain_network(2)
    found = relevance(
        TargetForward(network, ClassTarget(0)), torch.rand(1, 1, 8, 8, dtype=torch.double), COMPOSITES[name]
    )
    assert found.convergence["conserved_share"] == pytest.approx(1, abs=0.02)


def two_layers():
    torch.manual_seed(1)
    return frozen(nn.Sequential(nn.Conv1d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2, bias=False)))


@pytest.mark.parametrize("first", ["flat", "box"])
def test_first_layer_rules_equal_a_plain_computation(first):
    network, x = two_layers(), torch.randn(1, 1, 6, dtype=torch.double)
    hidden = network[1](network[0](x)).flatten()
    amounts = (hidden * network[3].weight[1]).reshape(4, 4)
    weight, wanted = network[0].weight[:, 0], torch.zeros(6, dtype=torch.double)
    low, high = float(x.min()), float(x.max())
    for unit in range(4):
        for place in range(4):
            window, w = x[0, 0, place : place + 3], weight[unit]
            if first == "flat":
                parts = torch.full((3,), 1 / 3, dtype=torch.double)
            else:
                parts = window * w - low * w.clamp_min(0) - high * w.clamp_max(0)
                parts = parts / parts.sum()
            wanted[place : place + 3] += parts * amounts[unit, place]
    found = relevance(TargetForward(network, ClassTarget(1)), x, Rules(first=first, epsilon=SMALL))
    torch.testing.assert_close(found.map[0, 0], wanted, rtol=1e-4, atol=1e-6)


def test_alpha_beta_equals_a_plain_computation():
    network, x = two_layers(), torch.rand(1, 1, 6, dtype=torch.double)
    hidden = network[1](network[0](x)).flatten()
    amounts = (hidden * network[3].weight[1]).reshape(4, 4)
    wanted = torch.zeros(6, dtype=torch.double)
    for unit in range(4):
        for place in range(4):
            parts = x[0, 0, place : place + 3] * network[0].weight[unit, 0]
            up, down = parts.clamp_min(0), parts.clamp_max(0)
            shares = 2 * up / up.sum().clamp_min(1e-12) - (down / down.sum() if down.any() else 0)
            wanted[place : place + 3] += shares * amounts[unit, place]
    found = relevance(TargetForward(network, ClassTarget(1)), x, Rules(convolution="alpha_beta", epsilon=SMALL))
    torch.testing.assert_close(found.map[0, 0], wanted, rtol=1e-3, atol=1e-5)


def test_batch_normalization_is_folded():
    network = plain_network(2, norm=True)
    network[1].running_mean.uniform_(-0.2, 0.2)
    network[1].running_var.uniform_(0.5, 2)
    inputs = torch.rand(2, 1, 8, 8, dtype=torch.double)
    folded = copy.deepcopy(network)
    folded[0] = torch.nn.utils.fusion.fuse_conv_bn_eval(network[0], network[1])
    folded[1] = nn.Identity()
    rules = COMPOSITES["gamma"]
    one, other = (
        relevance(TargetForward(item, ClassTarget(1)), inputs, rules).map for item in (network, frozen(folded))
    )
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


class Attention(nn.Module):
    """One head over the columns of an image, averaged; with torch's fused kernel or step by step."""

    def __init__(self, way):
        super().__init__()
        self.embed = nn.Conv2d(1, 6, 4, 4, bias=False)
        self.query, self.key, self.value = (nn.Linear(6, 6, bias=False) for _ in range(3))
        self.head, self.way = nn.Linear(6, 2, bias=False), way

    def forward(self, inputs):
        tokens = self.embed(inputs).flatten(2).transpose(1, 2)
        q, k, v = self.query(tokens), self.key(tokens), self.value(tokens)
        if self.way == "fused":
            mixed = functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        else:
            mixed = ((q @ k.transpose(1, 2)) / 6**0.5).softmax(-1) @ v
        return self.head((tokens + mixed).mean(1))


def test_attnlrp_is_the_same_for_fused_attention_and_follows_its_published_rules():
    torch.manual_seed(0)
    network = frozen(Attention("steps"))
    inputs = torch.randn(1, 1, 12, 12, dtype=torch.double)
    maps = {}
    for way in ("steps", "fused"):
        network.way = way
        maps[way] = relevance(
            TargetForward(network, ClassTarget(1)), inputs, Rules(convolution="epsilon", epsilon=1e-12)
        ).map
    torch.testing.assert_close(maps["steps"], maps["fused"])
    # by hand: half of the relevance to each factor, softmax by its derivative
    leaf = inputs.clone().requires_grad_()
    tokens = network.embed(leaf).flatten(2).transpose(1, 2)
    q, k, v = network.query(tokens), network.key(tokens), network.value(tokens)
    scores = 0.5 * (q.detach() @ k.transpose(1, 2) + q @ k.detach().transpose(1, 2)) / 6**0.5
    weights = scores.softmax(-1)
    mixed = 0.5 * (weights.detach() @ v + weights @ v.detach())
    network.head((tokens + mixed).mean(1))[:, 1].sum().backward()
    torch.testing.assert_close(maps["steps"], leaf.detach() * leaf.grad)


@pytest.mark.parametrize("way", ["steps", "fused"])
def test_attention_maps_are_the_published_products(way):
    torch.manual_seed(0)
    network = frozen(Attention(way)).float()
    network.norm = nn.LayerNorm(6)
    inputs = torch.randn(1, 1, 12, 12)
    tokens = network.embed(inputs).flatten(2).transpose(1, 2)
    weights = (network.query(tokens) @ network.key(tokens).transpose(1, 2) / 6**0.5).softmax(-1).requires_grad_()
    value = network.head((tokens + weights @ network.value(tokens)).mean(1))[0, 1]
    (gradient,) = torch.autograd.grad(value, weights)
    wanted = {
        "rollout": (0.5 * (weights + torch.eye(9)))[0].mean(0),
        "gradient_attention": (weights * gradient).clamp_min(0)[0].mean(0),
        "legrad": gradient.clamp_min(0)[0].mean(0),
    }
    for kind, cells in wanted.items():
        found = attention_map(TargetForward(network, ClassTarget(1)), inputs, kind).map[0, 0]
        wanted_map = functional.interpolate(cells.detach().reshape(1, 1, 3, 3), (12, 12), mode="bilinear")
        torch.testing.assert_close(found, wanted_map[0, 0], rtol=1e-4, atol=1e-6)


def test_attention_maps_of_a_convolutional_network_are_refused():
    with pytest.raises(ModelError, match="no attention"):
        attention_map(
            TargetForward(plain_network(2), ClassTarget(1)), torch.rand(1, 1, 8, 8, dtype=torch.double), "legrad"
        )
