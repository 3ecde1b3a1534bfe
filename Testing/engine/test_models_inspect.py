"""What inspect, describe-model and cache say; the survey of layers and the choice among them."""

import json

import nibabel
import numpy as np
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
from torch import nn
from xaiengine.commands_models import cache_command, describe_model_command, inspect_command
from xaiengine.errors import ModelError, OptionError
from xaiengine.inspection import inspect_model
from xaiengine.models import load_model
from xaiengine.models.layer_choice import matching_layers, suggested_layers
from xaiengine.models.layer_survey import example_shapes, reduction, survey
from xaiengine.models.outputs import OutputSelector

UNET = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8, 16], "strides": [2, 2]}


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    torch.save(UNet(**UNET).state_dict(), tmp_path / "organ.pth")
    return tmp_path / "organ.pth"


@pytest.fixture
def described(weights):
    content = {
        "network": {"_target_": "UNet", **UNET},
        "task": "segmentation",
        "labels": ["background", "organ"],
        "target": "organ",
        "inference": {"kind": "sliding_window", "roi_size": [32, 32, 32]},
        "preprocessing": [
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"},
            {"_target_": "ScaleIntensityd", "keys": "image"},
        ],
    }
    weights.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    return weights


@pytest.fixture
def scan(tmp_path):
    values = np.random.default_rng(0).normal(size=(30, 28, 26)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 2.0, 1.0])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_inspect_prints_all_that_a_panel_needs_as_json(described, capsys):
    assert inspect_command([str(described), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["labels"] == ["background", "organ"]
    assert report["spacing"] == [2.0, 2.0, 2.0]
    assert report["window"] == [32, 32, 32]
    assert report["parameters"] == sum(parameter.numel() for parameter in UNet(**UNET).parameters())
    assert report["capabilities"]["layers"]
    defaults = [row["name"] for row in report["layers"] if row["default"]]
    assert defaults == [report["default_layer"]]
    assert len(report["digest"]) == 64


def test_inspect_prints_a_table_for_readers(described, capsys):
    assert inspect_command([str(described)]) == 0
    text = capsys.readouterr().out
    for words in ("segmentation", "background, organ", "32 x 32 x 32", "bottleneck", "model.0", "MB"):
        assert words in text


def test_inspect_says_who_chose_the_default_layer(described):
    assert "nearest 8 voxels" in inspect_model(load_model(described)).default_reason
    content = json.loads(described.with_suffix(".json").read_text(encoding="utf-8"))
    described.with_suffix(".json").write_text(json.dumps({**content, "layers": ["model.0"]}), encoding="utf-8")
    report = inspect_model(load_model(described))
    assert report.default_layer == "model.0" and "author" in report.default_reason


def test_inspect_with_an_image_gives_volumes(described, scan, capsys):
    assert inspect_command([str(described), "--image", str(scan), "--json"]) == 0
    volumes = json.loads(capsys.readouterr().out)["prediction"]["volumes_ml"]
    assert volumes["background"] + volumes["organ"] == pytest.approx(30 * 28 * 26 * 8 / 1000, rel=0.01)


def test_inspect_narrows_the_table_by_wildcards(described, capsys):
    inspect_command([str(described), "--json", "--layers", "model.0*"])
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["layers"]]
    assert names and all(name.startswith("model.0") for name in names)
    with pytest.raises(ModelError, match="no layer"):
        inspect_command([str(described), "--layers", "modell.0"])


def test_a_scan_of_other_channels_is_refused(described, tmp_path):
    values = np.zeros((2, 30, 28, 26), np.float32)
    content = json.loads(described.with_suffix(".json").read_text(encoding="utf-8"))
    content["network"]["in_channels"] = 2
    content["channel_names"] = ["T1", "T2"]
    torch.save(UNet(**{**UNET, "in_channels": 2}).state_dict(), described)
    described.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")
    from xaiengine.grid import Grid
    from xaiengine.models.prediction import predict_scan
    from xaiengine.preprocessing import Preprocessed

    grid = Grid(values.shape[1:], np.eye(4))
    model = load_model(described)
    assert predict_scan(model, Preprocessed(torch.zeros(values.shape), grid, grid)).shape[1] == 2
    with pytest.raises(ModelError, match=r"takes 2 channels \(T1, T2\), the scan gives 1"):
        predict_scan(model, Preprocessed(torch.zeros(1, 30, 28, 26), grid, grid))


# --- describe-model ---------------------------------------------------------------------------------------------


def flags(weights):
    return [
        str(weights),
        "--network=UNet",
        *(f"--argument={name}={value}" for name, value in UNET.items()),
        "--task=segmentation",
        "--labels=background,organ",
        "--target=organ",
        "--spacing=1.5,1.5,2",
        "--range=-100,300",
        "--window=32,32,32",
        "--overlap=0.5",
    ]


def test_describe_model_writes_what_load_model_reads(weights, capsys):
    assert describe_model_command(flags(weights)) == 0
    assert "Written to" in capsys.readouterr().out
    model = load_model(weights)
    assert model.labels == ("background", "organ") and model.target == "organ"
    assert (model.inferer.kind, model.inferer.roi_size, model.inferer.overlap) == ("sliding_window", (32, 32, 32), 0.5)
    assert [type(step).__name__ for step in model.preprocessing()] == ["Spacing", "ScaleIntensityRange"]


def test_describe_model_leaves_nothing_when_the_weights_do_not_fit(weights):
    wrong = [flag.replace("out_channels=2", "out_channels=3") for flag in flags(weights)]
    with pytest.raises(ModelError, match="do not fit"):
        describe_model_command(wrong)
    assert not weights.with_suffix(".json").exists()


def test_describe_model_asks_for_the_network_by_its_flag(weights):
    with pytest.raises(OptionError, match="not named"):
        describe_model_command([str(weights.rename(weights.with_suffix(".safetensors")))])


@pytest.mark.parametrize(
    "flag", ["--spacing=a,b", "--range=5", "--range=5,1", "--argument=channels", "--inference=sliding_window"]
)
def test_describe_model_refuses_flags_that_make_no_sense(weights, flag):
    kept = [item for item in flags(weights) if not item.startswith((flag.split("=")[0], "--window"))]
    with pytest.raises(OptionError):
        describe_model_command([*kept, flag])


def test_questions_are_asked_on_a_terminal(weights):
    from xaiengine.describe_model import described as describe
    from xaiengine.describe_model import parser

    answers = {
        "Which MONAI network": "UNet",
        "Its arguments": "; ".join(f"{name}={value}" for name, value in UNET.items()),
        "What does it do": "segmentation",
        "Names of its outputs": "background, organ",
        "Spacing": "",
        "How are intensities": "range",
        "Lowest and highest": "-100, 300",
    }

    def ask(question):
        return next(answer for start, answer in answers.items() if question.startswith(start))

    content = describe(parser().parse_args([str(weights)]), ask)
    assert content["network"] == {"_target_": "UNet", **UNET}
    assert content["labels"] == ["background", "organ"]
    assert content["preprocessing"][0]["a_min"] == -100


def test_a_description_may_name_the_users_code(tmp_path):
    layers = "nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)"
    code = "from torch import nn\n\nclass Net(nn.Sequential):\n"
    code += f"    def __init__(self):\n        super().__init__({layers})\n"
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    assert (
        describe_model_command([str(tmp_path / "net.pth"), "--code", str(tmp_path / "own.py"), "--trust-model"]) == 0
    )
    with pytest.raises(ModelError, match="own.py"):
        load_model(tmp_path / "net.pth")
    batch = torch.randn(1, 1, 16, 16)
    assert torch.equal(load_model(tmp_path / "net.pth", trust=True).predict(batch), network(batch))


# --- cache ------------------------------------------------------------------------------------------------------


def test_the_cache_is_shown_used_and_cleared(described, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "kept"))
    first = load_model(described)
    assert cache_command(["--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["folder"] == str(tmp_path / "kept") and shown["files"] == 1
    monkeypatch.setattr("xaiengine.models.assembly.survey", lambda *_: pytest.fail("surveyed again"))
    assert load_model(described).layers == first.layers
    assert cache_command(["clear"]) == 0
    assert not (tmp_path / "kept").exists()


def test_a_damaged_cache_is_ignored(described, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "kept"))
    before = load_model(described).layers
    for file in (tmp_path / "kept").rglob("*.json"):
        file.write_text("[not json", encoding="utf-8")
    assert load_model(described).layers == before


# --- layers -----------------------------------------------------------------------------------------------------

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


# --- outputs ----------------------------------------------------------------------------------------------------

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


# --- Auto3DSeg --------------------------------------------------------------------------------------------------

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
