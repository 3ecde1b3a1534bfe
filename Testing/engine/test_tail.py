"""Running a model from one layer on equals running all of it with the layer's output replaced."""

from __future__ import annotations

import pytest
import torch
from support.tail_networks import (
    AlternatingWindows,
    BatchDependent,
    HiddenState,
    OverwritingTail,
    SharedLayer,
    TupleLayer,
    hostile,
    large_monai_networks,
    monai_networks,
)
from torch import nn
from torch.utils._pytree import tree_leaves
from xaiengine.core.errors import ModelError
from xaiengine.network.layers import evaluation_mode, find_layer
from xaiengine.network.tail.tail import Tail, frozen_parameters, leaks_past


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def tensors(output):
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def whole_pass(model, layer, call, replacement, *inputs):
    """The model's output when the layer's first tensor is replaced: a plain hook, nothing cached.

    Without checkpointing, whose second forward would come when the hook is gone.
    """
    calls = [0]
    checkpointed = [module for module in model.modules() if getattr(module, "use_checkpoint", False)]
    for module in checkpointed:
        module.use_checkpoint = False

    def hook(module, args, output):
        calls[0] += 1
        if calls[0] - 1 != call:
            return None
        if isinstance(output, torch.Tensor):
            return replacement
        if isinstance(output, dict):
            return {**output, "main": replacement}
        return (replacement, *output[1:])

    handle = layer.register_forward_hook(hook)
    try:
        return model(*inputs)
    finally:
        handle.remove()
        for module in checkpointed:
            module.use_checkpoint = True


def check_equal(model, layer_name, call, images, copies=3):
    """Copies of each sample, all different: outputs and gradients equal those of a whole pass."""
    model.eval()
    layer = find_layer(model, layer_name)
    tail = Tail(model, layer_name, call)
    record = tail.record(images)
    assert record.mode == "replay", record.note
    with torch.no_grad():
        for found, expected in zip(tensors(record.output), tensors(model(images))):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    samples = images.shape[0]
    z = record.activation.repeat(copies, *[1] * (record.activation.ndim - 1))
    z = z * (1 + 0.3 * torch.randn_like(z)) + 0.1 * torch.randn_like(z)
    batch = images.repeat(copies, *[1] * (images.ndim - 1))

    ours = z.clone().requires_grad_(True)
    found = tensors(record.run(ours))
    theirs = z.clone().requires_grad_(True)
    expected = tensors(whole_pass(model, layer, call, record._axis.merge(theirs.clone()), batch))
    weights = [torch.randn_like(leaf) for leaf in expected]
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-4 * float(b.detach().abs().max() + 1))
    gradients = []
    for leaf, outputs in ((ours, found), (theirs, expected)):
        total = sum((o * w).sum() for o, w in zip(outputs, weights) if o.requires_grad)
        gradients.append(torch.autograd.grad(total, leaf)[0])
    # Rounding can tip a unit over the kink of a ReLU; a wrong gradient is wrong by its own size.
    size = float(gradients[1].norm())
    assert size > 0
    assert float((gradients[0] - gradients[1]).norm()) <= 0.03 * size
    # Some of the samples, in another order.
    chosen = [samples - 1]
    with torch.no_grad():
        single = tensors(record.run(z[samples - 1 :: samples], rows=chosen))
    for a, b in zip(single, found):
        b = b.detach()[samples - 1 :: samples]
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-4 * float(b.abs().max() + 1))


def pairs(networks):
    return [
        pytest.param(make, layer, shape, id=f"{name}-{layer}")
        for name, make, layers, shape in networks
        for layer in layers
    ]


@pytest.mark.parametrize("make, layer, shape", pairs(monai_networks()))
def test_equals_the_whole_pass_in_networks_of_monai(make, layer, shape):
    check_equal(make(), layer, 0, torch.randn(2, *shape))


@pytest.mark.slow
@pytest.mark.parametrize("make, layer, shape", pairs(large_monai_networks()))
def test_equals_the_whole_pass_in_large_networks_of_monai(make, layer, shape):
    check_equal(make(), layer, 0, torch.randn(1, *shape), copies=2)


@pytest.mark.parametrize("name, model, layer, call, images", hostile(), ids=[case[0] for case in hostile()])
def test_equals_the_whole_pass_in_hostile_networks(name, model, layer, call, images):
    check_equal(model, layer, call, images)


def test_runs_nothing_before_the_layer():
    model = SharedLayer().eval()
    record = Tail(model, "layer", call=1).record(torch.randn(1, 1, 8, 8))
    ran = []
    for name, module in model.stem.named_children():
        if module is not model.layer:
            module.forward = lambda x, name=name: ran.append(name)
    record.run(record.activation)
    assert ran == []


def test_rows_of_alternating_windows_belong_to_one_sample():
    model = AlternatingWindows().eval()
    images = torch.randn(3, 1, 16, 16)
    together = Tail(model, "layer").record(images).activation
    for row in range(3):
        alone = Tail(model, "layer").record(images[row : row + 1]).activation
        torch.testing.assert_close(together[row : row + 1], alone)


def test_falls_back_to_whole_passes_when_the_batch_changes_the_path_and_says_so():
    model = BatchDependent().eval()
    images = torch.randn(1, 1, 12, 12)
    record = Tail(model, "layer").record(images)
    assert record.mode == "full" and "whole model" in record.note and "'layer'" in record.note
    z = torch.randn(4, *record.activation.shape[1:], requires_grad=True)
    found = record.run(z)
    expected = whole_pass(model, model.layer, 0, z, images.expand(4, -1, -1, -1))
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(output.square().sum(), z)[0] for output in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_falls_back_when_the_path_changes_after_verification():
    class Fickle(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.layer = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 3, 3)
            self.detour = False

        def forward(self, x):
            y = x.repeat(1, 3, 1, 1)[:, :, 2:, 2:] if self.detour else self.stem(x)
            return self.layer(y).mean((2, 3))

    model = Fickle().eval()
    record = Tail(model, "layer").record(torch.randn(1, 1, 8, 8))
    assert record.mode == "replay"
    model.detour = True
    z = torch.randn(2, *record.activation.shape[1:])
    torch.testing.assert_close(record.run(z), z.mean((2, 3)))
    assert record.mode == "full" and record.note


def test_a_model_that_answers_differently_each_time_is_refused():
    with pytest.raises(ModelError, match="another answer"):
        Tail(HiddenState().eval(), "layer").record(torch.randn(1, 1, 8, 8))


def test_an_unknown_layer_is_refused_with_near_names():
    with pytest.raises(ModelError, match="Near names: .*stem.2") as caught:
        Tail(SharedLayer(), "stem.l1")
    assert "no layer 'stem.l1'" in caught.value.message
    with pytest.raises(ModelError, match="outermost layers: layer, stem, head"):
        Tail(SharedLayer(), "zzz")
    with pytest.raises(ModelError, match="not part of the model"):
        Tail(SharedLayer(), nn.Conv2d(1, 1, 1))


def test_a_layer_that_does_not_run_is_refused():
    model = SharedLayer()
    model.unused = nn.Conv2d(1, 1, 1)
    with pytest.raises(ModelError, match="does not run"):
        Tail(model, "unused").record(torch.randn(1, 1, 8, 8))
    with pytest.raises(ModelError, match="ran 3 times"):
        Tail(model, "layer", call=3).record(torch.randn(1, 1, 8, 8))


def test_an_activation_of_the_wrong_shape_is_refused():
    record = Tail(SharedLayer(), "layer").record(torch.randn(2, 1, 8, 8))
    with pytest.raises(ModelError, match="expected .copies x 2, 4, 8, 8."):
        record.run(torch.randn(3, 4, 8, 8))
    with pytest.raises(ModelError, match="shape"):
        record.run(torch.randn(2, 4, 8, 7))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ModelError, match="not finite"):
        Tail(SharedLayer(), "layer").record(torch.full((1, 1, 8, 8), float("nan")))


@pytest.mark.parametrize("failing", [False, True])
def test_leaves_the_model_as_it_was(failing):
    model = OverwritingTail()
    model.train()
    model.stem.eval()
    model.stem.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    needs = [parameter.requires_grad for parameter in model.parameters()]
    attributes = [dict(module.__dict__) for module in model.modules()]
    record = Tail(model, "layer").record(torch.randn(1, 1, 8, 8))
    if failing:
        model.head.weight.data = torch.zeros(3, 7)
        with pytest.raises(RuntimeError):
            record.run(record.activation)
    else:
        record.run(record.activation)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == needs
    assert all(parameter.grad is None for parameter in model.parameters())
    for module, before in zip(model.modules(), attributes):
        assert "forward" not in module.__dict__
        assert not module._forward_hooks and set(module.__dict__) == set(before)


def test_weights_get_no_gradient_and_are_restored_also_after_an_error():
    model = SharedLayer()
    with pytest.raises(ValueError), frozen_parameters(model), evaluation_mode(model):
        assert not any(parameter.requires_grad for parameter in model.parameters()) and not model.training
        raise ValueError
    assert all(parameter.requires_grad for parameter in model.parameters()) and model.training


def test_further_inputs_are_repeated_or_passed_on():
    model = TupleLayer().eval()
    record = Tail(model, "layer").record(torch.randn(2, 1, 8, 8), scale=torch.full((2, 1, 1, 1), 2.0))
    z = torch.randn(4, *record.activation.shape[1:])
    assert record.run(z)[0].shape == (4, 2)
    record = Tail(model, "layer").record(torch.randn(2, 1, 8, 8), scale=3.0)
    assert record.run(z)[0].shape == (4, 2)


def test_inputs_made_in_inference_mode_can_be_explained():
    with torch.inference_mode():
        images = torch.randn(1, 1, 8, 8)
    record = Tail(OverwritingTail(), "layer").record(images)
    z = record.activation.clone().requires_grad_(True)
    assert torch.autograd.grad(record.run(z).sum(), z)[0].abs().sum() > 0


def test_information_that_passes_beside_the_layer_is_noticed():
    from monai.networks.nets import UNet

    unet = UNet(2, 1, 2, (4, 8, 16), (2, 2)).eval()
    image = torch.randn(1, 1, 32, 32)
    warning = leaks_past(Tail(unet, "model.1.submodule.1"), image)
    assert "skip connections" in warning and "model.1.submodule.1" in warning
    assert leaks_past(Tail(unet, "model.0"), image) == ""
    assert leaks_past(Tail(unet, "model.2"), image) == ""
    assert leaks_past(Tail(SharedLayer(), "layer", call=0), image) == ""
    assert leaks_past(Tail(SharedLayer(), "layer", call=1), image) != ""
