import pytest
import torch
from support.small_networks import InPlaceClassifier, SmallClassifier, images, seeded
from torchcam import methods as torchcam
from xaiengine.attribution.cam import CAM_METHODS, cam_maps, upsample
from xaiengine.attribution.feature_maps import default_layers, explainable, spatial_layers
from xaiengine.core.errors import ModelError
from xaiengine.targets.targets import ClassTarget

ORACLES = {
    "gradcam": torchcam.GradCAM,
    "hirescam": torchcam.GradCAM,
    "layercam": torchcam.LayerCAM,
    "xgradcam": torchcam.XGradCAM,
    "scorecam": torchcam.ScoreCAM,
    "cam": torchcam.CAM,
}
SHAPES = {2: (2, 1, 16, 20), 3: (2, 1, 8, 12, 8)}


def layers_of(network, *names):
    return {name: network.get_submodule(name) for name in names}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("method", ["gradcam", "layercam", "xgradcam"])
def test_gradient_maps_equal_torchcam_at_several_layers(method, spatial_dims):
    network, inputs = seeded(SmallClassifier, spatial_dims), images(SHAPES[spatial_dims])
    names = ["early", "middle", "late"]
    maps = cam_maps(network, layers_of(network, *names), inputs, ClassTarget(1), (method,), rectify=True)
    with ORACLES[method](network, names) as extractor:
        expected = extractor(class_idx=1, scores=network(inputs), normalized=False)
    for name, wanted in zip(names, expected):
        torch.testing.assert_close(maps[method, name], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_scorecam_equals_torchcam_up_to_the_feature_maps_scale(spatial_dims):
    network, inputs = seeded(SmallClassifier, spatial_dims), images(SHAPES[spatial_dims])
    maps = cam_maps(network, layers_of(network, "late"), inputs, ClassTarget(2), ("scorecam",), batch_size=5)
    with torchcam.ScoreCAM(network, "late") as extractor, torch.no_grad():
        network(inputs)
        feature_maps = extractor.hook_a[0].clone()
        (weights,) = extractor._get_weights(2)
    low = feature_maps.flatten(2).amin(2)[(...,) + (None,) * spatial_dims]
    high = feature_maps.flatten(2).amax(2)[(...,) + (None,) * spatial_dims]
    scaled = (feature_maps - low) / (high - low + 1e-8)
    wanted = (weights[(...,) + (None,) * spatial_dims] * scaled).sum(1).relu()
    torch.testing.assert_close(maps["scorecam", "late"], wanted, rtol=1e-5, atol=1e-6)


def test_cam_equals_torchcam():
    network, inputs = seeded(SmallClassifier, 2), images(SHAPES[2])
    maps = cam_maps(network, layers_of(network, "late"), inputs, ClassTarget(0), ("cam",))
    with torchcam.CAM(network, "late", "head") as extractor, torch.no_grad():
        network(inputs)
        (wanted,) = extractor(class_idx=0, normalized=False)
    torch.testing.assert_close(maps["cam", "late"], wanted)


def test_grad_cam_plus_plus_follows_its_definition():
    """Against the derivatives of exp(score), as the paper derives the weights, in double precision."""
    network, inputs = seeded(SmallClassifier, 2).double(), images((1, 1, 16, 16)).double()
    activation = network.middle(network.early(inputs)).detach().requires_grad_()
    score = network.head(network.late(activation).flatten(2).mean(-1))[0, 1]
    (gradient,) = torch.autograd.grad(score, activation)
    alpha = torch.zeros_like(gradient)
    for channel in range(gradient.shape[1]):
        total = activation[0, channel].sum()
        for row in range(gradient.shape[2]):
            for column in range(gradient.shape[3]):
                slope = gradient[0, channel, row, column]
                if slope != 0:
                    alpha[0, channel, row, column] = slope**2 / (2 * slope**2 + total * slope**3)
    weights = (alpha * gradient.clamp_min(0)).sum((2, 3))
    wanted = torch.einsum("nk,nkij->nij", weights, activation).clamp_min(0)
    network, inputs = network.float(), inputs.float()
    maps = cam_maps(network, layers_of(network, "middle"), inputs, ClassTarget(1), ("gradcam++",))
    torch.testing.assert_close(maps["gradcam++", "middle"].double(), wanted, rtol=1e-4, atol=1e-6)


def test_hirescam_sums_to_the_logit_of_a_pooled_linear_head():
    network, inputs = seeded(SmallClassifier, 3), images(SHAPES[3])
    maps = cam_maps(network, layers_of(network, "late"), inputs, ClassTarget(1), ("hirescam",))
    total = maps["hirescam", "late"].flatten(1).sum(1) + network.head.bias[1]
    torch.testing.assert_close(total, network(inputs)[:, 1])


def test_samples_of_a_batch_do_not_influence_each_other():
    network, inputs = seeded(SmallClassifier, 2), images((3, 1, 16, 16))
    layers = layers_of(network, "middle")
    together = cam_maps(network, layers, inputs, ClassTarget(0), CAM_METHODS[1:])
    for sample in range(3):
        alone = cam_maps(network, layers, inputs[sample : sample + 1], ClassTarget(0), CAM_METHODS[1:])
        for key, value in alone.items():
            torch.testing.assert_close(value[0], together[key][sample], rtol=1e-4, atol=1e-6)


def test_a_following_in_place_activation_does_not_change_the_map():
    network, inputs = seeded(InPlaceClassifier), images((2, 1, 8, 8))
    maps = cam_maps(network, layers_of(network, "layer"), inputs, ClassTarget(0), ("hirescam",))
    activation = network.layer(inputs)
    slope = network.head.weight[0][None, :, None, None] / 64 * (activation > 0)
    torch.testing.assert_close(maps["hirescam", "layer"], (slope * activation).sum(1))


def test_one_forward_pass_serves_all_gradient_methods_and_layers():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    calls = []
    handle = network.register_forward_hook(lambda *_: calls.append(1))
    cam_maps(network, layers_of(network, "early", "middle", "late"), inputs, ClassTarget(0), CAM_METHODS[1:6])
    handle.remove()
    assert len(calls) == 1


def test_no_hook_is_left_behind_when_the_target_fails():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    with pytest.raises(ModelError, match="3 outputs"):
        cam_maps(network, layers_of(network, "late"), inputs, ClassTarget(7), ("gradcam",))
    assert not network.late._forward_hooks


def test_layer_without_cells_is_refused():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    with pytest.raises(ModelError, match="not a feature map"):
        cam_maps(network, layers_of(network, "head"), inputs, ClassTarget(0), ("gradcam",))


def test_cam_is_refused_where_it_does_not_exist():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    with pytest.raises(ModelError, match="global average pooling"):
        cam_maps(network, layers_of(network, "middle"), inputs, ClassTarget(0), ("cam",))


def test_upsampling_goes_edge_to_edge():
    maps = upsample(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    torch.testing.assert_close(maps, torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))


def test_default_layers_spread_over_depth():
    network, inputs = seeded(SmallClassifier, 2), images((1, 1, 16, 16))
    assert default_layers(network, network, images((1, 1, 48, 48))) == ["late"]
    assert default_layers(network, network, inputs) == ["middle.1"]  # none has ten cells: the finest
    assert default_layers(network, network, inputs, 2) == ["middle.1", "late"]
    assert spatial_layers(network, network, inputs)["early"] == (8, 8)


def test_explaining_leaves_mode_and_gradients_as_they_were():
    network = SmallClassifier(2)
    network.middle.eval()
    with explainable(network):
        assert not network.training and not network.head.weight.requires_grad
    assert network.training and not network.middle.training and network.head.weight.requires_grad
