"""A look at a network without its data: default layers, operations, shapes, and the prediction in what it returns."""

import pytest
import torch
from monai.networks.nets import (
    AttentionUnet,
    DenseNet121,
    DynUNet,
    EfficientNetBN,
    SegResNet,
    SegResNetDS,
    UNet,
    ViT,
    VNet,
    resnet18,
)
from support.organ_network import UNET, describe_organ, organ_weights
from torch import nn
from xaiengine.app.inspection import inspect_model
from xaiengine.core.errors import ModelError
from xaiengine.models import load_model
from xaiengine.models.layer_choice import matching_layers, suggested_layers
from xaiengine.models.layer_survey import example_shapes, reduction, survey
from xaiengine.models.outputs import OutputSelector


@pytest.fixture
def weights(tmp_path):
    return organ_weights(tmp_path)


@pytest.fixture
def described(weights):
    return describe_organ(weights)


NETWORKS = {
    "resnet": (lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), 2, "layer2"),
    "densenet": (lambda: DenseNet121(2, 1, 2), 2, "features.denseblock2"),
    "unet": (lambda: UNet(3, 1, 2, [4, 8, 16, 32], [2, 2, 2]), 3, "model.1.submodule.1.submodule.1"),
    "segresnet": (lambda: SegResNet(3, 8, 1, 2, blocks_down=(1, 1, 1, 1)), 3, "down_layers.3"),
    "segresnet_ds": (lambda: SegResNetDS(3, 8, 1, 2, blocks_down=(1, 1, 1, 1)), 3, "encoder.layers.3.blocks"),
    "dynunet": (lambda: DynUNet(3, 1, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=[4, 8, 8, 8]), 3, "bottleneck"),
    "efficientnet": (lambda: EfficientNetBN("efficientnet-b0", False, in_channels=1, num_classes=2), 2, "_blocks.2"),
    "vnet": (lambda: VNet(3, 1, 2), 3, "down_tr128"),
    "attention": (lambda: AttentionUnet(3, 1, 2, [4, 8, 16], [2, 2]), 3, "model.1.submodule.1.submodule"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_default_layer_is_the_end_of_a_stage(name):
    make, dims, expected = NETWORKS[name]
    network = make().eval()
    assert suggested_layers(network, survey(network, example_shapes(dims, 1)))[0] == expected


def test_the_survey_agrees_with_a_real_pass(described):
    network = UNet(**UNET).eval()
    found = survey(network, [(1, 1, 32, 32, 32)])
    seen = {}
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.setdefault(name, output))
        for name, module in network.named_modules()
        if name
    ]
    network(torch.zeros(1, 1, 32, 32, 32))
    for handle in handles:
        handle.remove()
    for layer in found.layers:
        assert layer.shape == tuple(seen[layer.name].shape[1:])
    assert found.output_shape == (1, 2, 32, 32, 32)
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_operations_of_a_convolution_are_counted():
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    found = survey(network, [(1, 3, 16, 16)])
    assert found["0"].flops == 2 * 16 * 16 * 8 * 3 * 9
    assert found.flops == found["0"].flops + 2 * 16 * 16 * 4 * 8
    assert found.activations == 16 * 16 * (8 + 8 + 4)


def test_a_network_with_shared_modules_keeps_its_weights():
    shared = nn.Conv2d(1, 4, 3)
    network = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared)})
    network.forward = lambda batch: network["b"](batch)
    survey(network, [(1, 1, 8, 8)])
    assert not shared.weight.is_meta and isinstance(shared.weight, nn.Parameter)


def test_transformers_have_a_fixed_input():
    network = ViT(
        1, (32, 32, 32), (8, 8, 8), hidden_size=24, mlp_dim=24, num_layers=1, num_heads=2, classification=True
    )
    assert survey(network, example_shapes(3, 1, fixed=(32, 32, 32))).failure == ""
    assert "Error" in survey(network, [(1, 1, 20, 20, 20)]).failure


def test_wildcards_choose_layers_in_order():
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2, widen_factor=0.1)
    assert matching_layers(network, ["layer2", "layer[13]", "layer1"]) == ["layer2", "layer1", "layer3"]
    with pytest.raises(ModelError, match="layer2"):
        matching_layers(network, ["layerz2"])


def test_reduction_is_in_voxels_of_the_input():
    assert reduction((8, 4, 4, 4), (1, 1, 32, 32, 32)) == pytest.approx(8)
    assert reduction((8, 32, 8, 8), (1, 1, 32, 32, 32)) == pytest.approx(4 ** (2 / 3))


MAP, SMALL, SCORES = torch.zeros(1, 2, 8, 8), torch.ones(1, 2, 4, 4), torch.zeros(1, 3)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (MAP, MAP),
        ([SMALL, MAP], MAP),
        ((MAP, SMALL), MAP),
        ({"logits": SCORES, "features": MAP}, SCORES),
        ({"only": MAP}, MAP),
        ((SCORES, None), SCORES),
        ({"out": [MAP, SMALL]}, MAP),
        (((MAP,), SMALL.mean()), MAP),
    ],
)
def test_the_prediction_is_found_in_what_a_network_returns(output, expected):
    assert OutputSelector()(output) is expected


@pytest.mark.parametrize("output", [{"a": MAP, "b": MAP}, "text", [], None, {"loss": 1.0}])
def test_an_output_without_a_prediction_is_refused(output):
    with pytest.raises(ModelError):
        OutputSelector()(output)


HYPER_PARAMETERS = """
bundle_root: null
ckpt_path: $@bundle_root + '/model'
modality: ct
input_channels: 1
output_classes: 3
class_names: [liver, tumor]
roi_size: [32, 32, 32]
orientation_ras: true
crop_foreground: true
sigmoid: false
resample: true
resample_resolution: [2.0, 2.0, 2.5]
normalize_mode: ct
intensity_bounds: [-80, 200]
loss:
  _target_: DiceCELoss
  softmax: $not @sigmoid
network:
  _target_: SegResNetDS
  init_filters: 8
  blocks_down: [1, 1]
  norm: INSTANCE_NVFUSER
  in_channels: '@input_channels'
  out_channels: '@output_classes'
  dsdepth: 2
infer:
  ckpt_name: $@bundle_root + '/model/model.pt'
  output_path: $@bundle_root + '/prediction_' + @infer#data_list_key
"""


def test_auto3dseg_bundles_are_prepared_by_their_parameters(tmp_path):
    torch.manual_seed(0)
    network = SegResNetDS(3, 8, 1, 3, norm="INSTANCE", blocks_down=(1, 1), dsdepth=2).eval()
    root = tmp_path / "segresnet_0"
    (root / "configs").mkdir(parents=True)
    (root / "model").mkdir()
    (root / "configs" / "hyper_parameters.yaml").write_text(HYPER_PARAMETERS, encoding="utf-8")
    checkpoint = {"epoch": 1, "state_dict": network.state_dict(), "config": {"roi_size": [32, 32, 32]}}
    torch.save(checkpoint, root / "model" / "model.pt")
    model = load_model(root)
    assert model.labels == ("background", "liver", "tumor")
    assert (model.inferer.roi_size, model.inferer.overlap, model.inferer.blending) == ((32, 32, 32), 0.625, "gaussian")
    steps = model.preprocessing()
    assert [type(step).__name__ for step in steps] == [
        "Orientation",
        "CropForeground",
        "Spacing",
        "ScaleIntensityRange",
        "IntensityCurve",
    ]
    batch = torch.randn(1, 1, 32, 32, 32)
    assert torch.allclose(model.predict(batch), network(batch), atol=1e-5)
    values = torch.tensor([-80.0, 60.0, 200.0])
    for step in steps[3:]:
        values = step(values)
    assert torch.allclose(torch.as_tensor(values), torch.tensor([-1.0, 0.0, 1.0]).sigmoid())
    assert inspect_model(model).spacing == (2.0, 2.0, 2.5)
