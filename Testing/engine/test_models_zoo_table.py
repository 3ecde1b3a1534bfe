"""What configurations of the kinds in MONAI's Model Zoo are accepted without trust, and why others are refused."""

import importlib.util
import json

import numpy as np
import pytest
import torch
from monai.networks import nets
from xaiengine.core.errors import ModelError, TrustError
from xaiengine.models import load_model

UNET = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 0,
}


def bundle(folder, inference, state=None, **files):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    for name, content in {"inference": inference, **files}.items():
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content))
    torch.save(state if state is not None else {"weight": torch.zeros(1)}, folder / "models" / "model.pt")
    return folder


def unet_state():
    return nets.UNet(**{key: value for key, value in UNET.items() if key != "_target_"}).state_dict()


@pytest.mark.parametrize("form", ["$monai.utils.CommonKeys.IMAGE", "$monai.utils.enums.CommonKeys.IMAGE"])
def test_common_keys_of_templates_are_constants(form, tmp_path):
    steps = [
        {"_target_": "LoadImaged", "keys": "@image", "image_only": True},
        {"_target_": "EnsureChannelFirstd", "keys": "@image"},
        {"_target_": "ScaleIntensityd", "keys": form},
    ]
    content = {
        "imports": ["$import glob"],
        "image": form,
        "label": form.replace("IMAGE", "LABEL"),
        "network_def": UNET,
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16]},
    }
    model = load_model(bundle(tmp_path / "template", content, unet_state()))
    assert [type(step).__name__ for step in model.preprocessing()] == ["ScaleIntensity"]


def test_other_members_of_monai_are_no_constants(tmp_path):
    content = {"network_def": {**UNET, "out_channels": "$monai.utils.CommonKeys.__class__"}}
    with pytest.raises(TrustError):
        load_model(bundle(tmp_path / "net", content, unet_state()))


@pytest.mark.parametrize(
    "arguments",
    [
        {"model_name": "inception_v3", "num_classes": 4, "use_conv": False, "pool": None, "bias": True},
        {"model_name": "resnet18", "num_classes": 1, "use_conv": True, "pretrained": True},
        {"model_name": "resnet18", "num_classes": 2, "weights": "DEFAULT"},
    ],
)
def test_networks_of_torchvision_need_that_package_alone(arguments, tmp_path):
    folder = bundle(tmp_path / "net", {"network_def": {"_target_": "TorchVisionFCModel", **arguments}})
    if importlib.util.find_spec("torchvision") is None:
        with pytest.raises(ModelError, match="needs the package torchvision") as refused:
            load_model(folder)
        assert not isinstance(refused.value, TrustError)
    else:
        with pytest.raises(ModelError, match="do not fit"):  # built, with weights that are none of its own
            load_model(folder)


def test_torchvision_serves_networks_alone(tmp_path):
    network = {"_target_": "TorchVisionFCModel", "model_name": "get_model_weights", "num_classes": 2}
    with pytest.raises(TrustError, match="get_model_weights"):
        load_model(bundle(tmp_path / "net", {"network_def": network}))


def test_a_deletion_in_a_file_that_is_not_used_is_mentioned(tmp_path):
    evaluate = {"run": ["$os.remove(@output)"], "output": "a.csv"}
    model = load_model(bundle(tmp_path / "net", {"network_def": UNET}, unet_state(), evaluate=evaluate))
    assert any("os.remove" in note and "never reads" in note for note in model.notes)
    used = {"network_def": UNET, "initialize": ["$os.remove('a.csv')"]}
    with pytest.raises(TrustError, match="os.remove"):
        load_model(bundle(tmp_path / "used", used, unet_state()))
    program = {"run": ["$os.remove('a')", "$os.system('touch b')"]}
    with pytest.raises(TrustError, match="os.system|os.remove"):
        load_model(bundle(tmp_path / "program", {"network_def": UNET}, unet_state(), evaluate=program))


def dints_bundle(folder):
    """A searched network, whose architecture lies in a file of torch.save beside its weights."""
    depths, blocks = 3, 4
    generator = np.random.default_rng(0)
    codes = np.ones((blocks, 3 * depths - 2))
    operations = generator.integers(1, 4, (blocks, 3 * depths - 2))
    searched = {"node_a": np.ones((blocks + 1, depths)), "arch_code_a": codes, "arch_code_c": operations}
    space = nets.TopologyInstance(
        channel_mul=1.0, num_blocks=blocks, num_depths=depths, arch_code=[codes, operations], use_downsample=True
    )
    sizes = {"in_channels": 1, "num_classes": 2, "use_downsample": True}
    network = nets.DiNTS(dints_space=space, node_a=torch.from_numpy(searched["node_a"]), **sizes)
    content = {
        "bundle_root": ".",
        "arch_ckpt_path": "$@bundle_root + '/models/search_code.pt'",
        "arch_ckpt": "$torch.load(@arch_ckpt_path, map_location=torch.device('cuda'))",
        "dints_space": {
            "_target_": "TopologyInstance",
            "channel_mul": 1.0,
            "num_blocks": blocks,
            "num_depths": depths,
            "use_downsample": True,
            "arch_code": ["$@arch_ckpt['arch_code_a']", "$@arch_ckpt['arch_code_c']"],
            "device": "$torch.device('cuda')",
        },
        "network_def": {
            "_target_": "DiNTS",
            "dints_space": "@dints_space",
            "node_a": "$torch.from_numpy(@arch_ckpt['node_a'])",
            **sizes,
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32]},
    }
    bundle(folder, content, network.state_dict())
    torch.save(searched, folder / "models" / "search_code.pt")
    return network.eval()


def test_a_searched_architecture_is_read_from_the_bundle(tmp_path):
    network = dints_bundle(tmp_path / "net")
    model = load_model(tmp_path / "net")
    batch = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.predict(batch), network(batch), atol=1e-5)
    assert model.task == "segmentation"


def test_a_searched_architecture_outside_the_bundle_is_refused(tmp_path):
    dints_bundle(tmp_path / "net")
    path = tmp_path / "net" / "configs" / "inference.json"
    path.write_text(path.read_text().replace("/models/search_code.pt", "/../secret.pt"))
    torch.save({}, tmp_path / "secret.pt")
    with pytest.raises(TrustError, match="outside the model"):
        load_model(tmp_path / "net")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("Generator", "makes or restores images"),
        ("monai.networks.nets.AutoEncoder", "makes or restores images"),
        ("VarAutoEncoder", "makes or restores images"),
        ("AutoencoderKL", "makes or restores images"),
        ("DiffusionModelUNet", "makes or restores images"),
        ("ControlNetMaisi", "makes or restores images"),
        ("scripts.networks.ControlNetMaisi", "makes or restores images"),
        ("Discriminator", "real images from generated"),
        ("PatchDiscriminator", "real images from generated"),
        ("monai.apps.detection.networks.retinanet_network.RetinaNet", "detects boxes"),
        ("VISTA3D", "clicks, prompts"),
        ("HoVerNet", "clicks, prompts"),
        ("LocalNet", "registers two images"),
    ],
)
def test_networks_without_a_prediction_to_explain_are_refused_by_name(target, reason, tmp_path):
    folder = bundle(tmp_path / "net", {"network_def": {"_target_": target, "in_channels": 1}})
    with pytest.raises(ModelError, match=reason):
        load_model(folder)
    with pytest.raises(ModelError, match=reason):
        load_model(folder, trust=True)


def test_an_autoencoder_that_was_trained_to_segment_is_taken_as_described(tmp_path):
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2, 2]}
    state = nets.AutoEncoder(**arguments).state_dict()
    content = {"network_def": {"_target_": "AutoEncoder", **arguments}}
    model = load_model(bundle(tmp_path / "net", content, state, explanation={"task": "segmentation"}))
    assert model.task == "segmentation" and len(model.labels) == 2


def test_files_for_tensorrt_are_passed_over_for_the_plain_one(tmp_path):
    compiled = {"network_def": "$trt_compile(@net)", "imports": ["$from monai.networks import trt_compile"]}
    folder = bundle(tmp_path / "net", {"network_def": UNET}, unet_state(), inference_trt=compiled)
    assert len(load_model(folder).labels) == 2


@pytest.mark.parametrize("roi", [None, [16, 16, None], [-1, 16, 16]])
def test_a_window_as_long_as_the_scan_is_written_as_null(roi, tmp_path):
    content = {"network_def": UNET, "inferer": {"_target_": "SlidingWindowInferer", "roi_size": roi}}
    model = load_model(bundle(tmp_path / "net", content, unet_state()))
    assert len(model.inferer.roi_size) == 3 and -1 in model.inferer.roi_size


def test_a_trusted_bundle_finds_modules_beside_its_scripts_and_where_the_user_stands(tmp_path, monkeypatch):
    content = {"imports": ["$import scripts"], "network_def": "$scripts.network.build()"}
    folder = bundle(tmp_path / "net", content, unet_state())
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text("from . import network\n")
    (folder / "scripts" / "network.py").write_text(
        "from parts_of_network import unet\nimport arguments_of_network\n\n\n"
        "def build():\n    return unet(**arguments_of_network.ARGUMENTS)\n"
    )
    (folder / "scripts" / "parts_of_network.py").write_text("from monai.networks.nets import UNet as unet\n")
    here = tmp_path / "here"
    here.mkdir()
    arguments = {key: value for key, value in UNET.items() if key != "_target_"}
    (here / "arguments_of_network.py").write_text(f"ARGUMENTS = {arguments!r}\n")
    monkeypatch.chdir(here)
    with pytest.raises(TrustError):
        load_model(folder)
    assert len(load_model(folder, trust=True).labels) == 2
