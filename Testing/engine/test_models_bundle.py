"""MONAI bundles: loaded without trust, from folders and zips, with clear errors."""

import json
import shutil

import pytest
import torch
from monai.networks.nets import resnet18
from safetensors.torch import save_file
from xaiengine.core.errors import ModelError
from xaiengine.models import find_model, load_model

NETWORK = {
    "_target_": "monai.networks.nets.resnet18",
    "spatial_dims": 2,
    "n_input_channels": 1,
    "num_classes": "$len(@labels)",
    "widen_factor": 0.25,
}
LUNG_WINDOW = {"a_min": -1000, "a_max": 400, "b_min": 0, "b_max": 1}
INFERENCE = {
    "imports": ["$import glob", "$import os"],
    "labels": ["healthy", "lesion"],
    "size": [64, 48],
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "datalist": "$list(sorted(glob.glob(@dataset_dir + '/*.nii.gz')))",
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -1000,
                "a_max": 400,
                "b_min": 0,
                "b_max": 1,
            },
            {"_target_": "Resized", "keys": "image", "spatial_size": ["$@size[0]", "@size::1", -1]},
        ],
    },
}
EXPLANATION = {
    "task": "classification",
    "labels": ["healthy", "lesion"],
    "target": "lesion",
    "activation": "softmax",
    "inference": {"kind": "slices", "plane": "axial"},
    "layers": ["layer2", "layer[13]"],
    "defaults": {"quantify-lesions": {"threshold": 1.5}},
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return resnet18(spatial_dims=2, n_input_channels=1, num_classes=2, widen_factor=0.25).eval()


@pytest.fixture
def bundle(tmp_path, network):
    folder = tmp_path / "lesions"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    write(folder, "inference", INFERENCE)
    write(folder, "explanation", EXPLANATION)
    save_file(network.state_dict(), folder / "models" / "model.safetensors")
    return folder


def write(folder, name, content):
    (folder / "configs" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_bundle_gives_its_networks_outputs(bundle, network):
    model = load_model(bundle)
    batch = torch.randn(3, 1, 64, 48)
    assert torch.equal(model.predict(batch), network(batch))
    assert not model.network.training


def test_settings_come_from_explanation_json(bundle):
    model = load_model(bundle)
    assert model.labels == ("healthy", "lesion")
    assert (model.task, model.target, model.activation) == ("classification", "lesion", "softmax")
    assert (model.inferer.kind, model.inferer.plane) == ("slices", "axial")
    assert model.layers == ("layer2", "layer1", "layer3")
    assert model.defaults["quantify-lesions"] == {"threshold": 1.5}
    assert (model.spatial_dims, model.in_channels) == (2, 1)


def test_preprocessing_is_the_images_array_transforms(bundle):
    steps = load_model(bundle).preprocessing()
    assert [type(step).__name__ for step in steps] == ["ScaleIntensityRange", "Resize"]
    image = torch.linspace(-1000, 400, 32 * 32 * 3).reshape(1, 32, 32, 3)
    for step in steps:
        image = step(image)
    assert image.shape == (1, 64, 48, 3)
    assert 0 <= image.min() and image.max() <= 1


def test_a_zip_is_the_same_model_as_its_folder(bundle, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", bundle.parent, bundle.name)
    packed, folder = load_model(archive), load_model(bundle)
    assert packed.digest == folder.digest
    batch = torch.randn(1, 1, 32, 32)
    assert torch.equal(packed.predict(batch), folder.predict(batch))


def test_the_digest_follows_weights_and_configuration(bundle, network):
    before = load_model(bundle).digest
    write(bundle, "explanation", {**EXPLANATION, "target": "healthy"})
    after = load_model(bundle).digest
    save_file({key: value * 2 for key, value in network.state_dict().items()}, bundle / "models" / "model.safetensors")
    assert len({before, after, load_model(bundle).digest}) == 3


def test_unknown_settings_are_refused_by_name(bundle):
    write(bundle, "explanation", {**EXPLANATION, "layres": ["layer1"]})
    with pytest.raises(ModelError, match="layres"):
        load_model(bundle)


def test_a_wrong_number_of_labels_is_refused(bundle):
    write(bundle, "explanation", {**EXPLANATION, "labels": ["a", "b", "c"]})
    with pytest.raises(ModelError, match="3 labels.*2 outputs"):
        load_model(bundle)


def test_an_unknown_layer_offers_near_names(bundle):
    write(bundle, "explanation", {**EXPLANATION, "layers": ["layr2"]})
    with pytest.raises(ModelError, match="layer2"):
        load_model(bundle)


def test_a_missing_model_offers_shipped_names(tmp_path):
    with pytest.raises(ModelError, match="no shipped model of this name"):
        find_model(tmp_path / "nothing.zip")


def test_reference_statistics_are_read_with_their_metadata(bundle):
    assert load_model(bundle).read_reference() is None
    save_file({"layer2.mean": torch.ones(4)}, bundle / "models" / "reference.safetensors", {"samples": "1000"})
    write(bundle, "explanation", {**EXPLANATION, "reference": "models/reference.safetensors"})
    tensors, metadata = load_model(bundle).read_reference()
    assert torch.equal(tensors["layer2.mean"], torch.ones(4))
    assert metadata == {"samples": "1000"}
