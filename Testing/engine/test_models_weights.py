"""Weights with a description, and networks of the user's own class: what fits, and why other things do not."""

import json

import pytest
import torch
from monai.networks.nets import UNet
from support.format_networks import TRANSFORMS, UNET, describe, relative, small_batch
from xaiengine.core.errors import ModelError, TrustError
from xaiengine.models import load_model


@pytest.fixture
def batch():
    return small_batch()


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return UNet(**{key: value for key, value in UNET.items() if key != "_target_"}).eval()


@pytest.mark.parametrize("nesting", ["plain", "state_dict", "lightning", "parallel", "compiled"])
def test_weights_with_a_description(unet, tmp_path, batch, nesting):
    state = unet.state_dict()
    content = {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
        "lightning": {"state_dict": {f"model.{k}": v for k, v in state.items()} | {"loss.weight": torch.ones(2)}},
        "parallel": {"model": {f"module.{key}": value for key, value in state.items()}},
        "compiled": {"network": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    }[nesting]
    path = tmp_path / "net.pth"
    torch.save(content, path)
    describe(path, network=UNET, labels=["background", "organ"], preprocessing=TRANSFORMS)
    for given in (path, path.with_suffix(".json")):
        model = load_model(given)
        assert torch.equal(model.predict(batch), unet(batch))
    assert model.task == "segmentation" and model.labels == ("background", "organ")


def test_half_precision_weights_are_widened(unet, tmp_path, batch):
    path = tmp_path / "net.pth"
    torch.save({key: value.half() for key, value in unet.state_dict().items()}, path)
    describe(path, network=UNET)
    model = load_model(path)
    assert model.predict(batch).dtype == torch.float32
    assert relative(model.predict(batch), unet(batch)) < 0.01
    assert any("half precision" in note for note in model.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"in_channels": 4}, "trained with 1 input channels, the network is set to 4"),
        ({"out_channels": 5}, "shape"),
        ({"spatial_dims": 3}, "2D and the other a 3D"),
        ({"channels": [8, 16]}, "arguments"),
        ({"num_res_units": 3}, "missing"),
    ],
)
def test_weights_that_do_not_fit_are_explained(unet, tmp_path, change, words):
    path = tmp_path / "net.pth"
    torch.save(unet.state_dict(), path)
    describe(path, network={**UNET, **change})
    with pytest.raises(ModelError, match="do not fit") as caught:
        load_model(path)
    assert words in str(caught.value)


def test_weights_of_another_network_are_recognized(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"some.other.weight": torch.zeros(3)}, path)
    describe(path, network=UNET)
    with pytest.raises(ModelError, match="another kind of network"):
        load_model(path)


def test_weights_alone_ask_for_a_description(unet, tmp_path):
    torch.save(unet.state_dict(), tmp_path / "net.pth")
    with pytest.raises(ModelError, match="describe-model"):
        load_model(tmp_path / "net.pth")


def test_weights_with_nan_are_refused(unet, tmp_path):
    state = unet.state_dict()
    next(iter(state.values())).flatten()[0] = float("nan")
    torch.save(state, tmp_path / "net.pth")
    describe(tmp_path / "net.pth", network=UNET)
    with pytest.raises(ModelError, match="NaN"):
        load_model(tmp_path / "net.pth")


def test_a_description_may_not_point_elsewhere(unet, tmp_path):
    (tmp_path / "net.json").write_text(json.dumps({"network": UNET, "weights": "../other.pth"}), encoding="utf-8")
    with pytest.raises(ModelError, match="outside its folder"):
        load_model(tmp_path / "net.json")


def test_an_unknown_format_lists_the_known_ones(tmp_path):
    (tmp_path / "net.h5").write_bytes(b"\x89HDF")
    with pytest.raises(ModelError, match="known format") as caught:
        load_model(tmp_path / "net.h5")
    assert "MONAI bundle" in caught.value.remedy


CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layer = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, batch):
        return {"aux": batch.mean(), "out": self.head(self.layer(batch).relu())}
"""


@pytest.fixture
def own_class(tmp_path):
    """The user's own network: its code, an instance, and where its weights are."""
    code = tmp_path / "own.py"
    code.write_text(CODE, encoding="utf-8")
    space = {"__name__": "own"}
    exec(compile(CODE, "own.py", "exec"), space)
    torch.manual_seed(0)
    return code, space["Net"](), tmp_path / "net.pth"


def test_a_class_of_the_users_own_needs_trust(own_class, batch):
    code, network, path = own_class
    torch.save(network.state_dict(), path)
    with pytest.raises(ModelError, match="describe-model"):
        load_model(path)
    model = load_model(path, trust=code)
    assert torch.equal(model.predict(batch), network(batch)["out"])
    assert model.labels == ("class 0", "class 1")


def test_arguments_of_a_trusted_class_come_from_the_description(own_class, batch, tmp_path):
    code, network, path = own_class
    wide = type(network)(width=6).eval()
    torch.save(wide.state_dict(), path)
    describe(path, network={"_target_": "Net", "width": 6}, labels=["background", "lesion"])
    model = load_model(path, trust=code)
    assert torch.equal(model.predict(batch), wide(batch)["out"])
    with pytest.raises(TrustError, match="Net"):
        load_model(path)


def test_a_bundle_with_its_own_network_loads_only_with_trust(tmp_path, own_class, batch):
    _, network, _ = own_class
    root = tmp_path / "bundle"
    for folder in ("configs", "models", "own_scripts"):
        (root / folder).mkdir(parents=True)
    (root / "own_scripts" / "__init__.py").write_text("", encoding="utf-8")
    (root / "own_scripts" / "net.py").write_text(CODE, encoding="utf-8")
    config = {
        "imports": ["$import own_scripts"],
        "network_def": {"_target_": "own_scripts.net.Net", "width": "$2 * 2"},
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "ScaleIntensityd", "keys": "image"}]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16], "overlap": 0.5},
    }
    (root / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(network.state_dict(), root / "models" / "model.pt")
    with pytest.raises(TrustError, match="own_scripts.net.Net"):
        load_model(root)
    model = load_model(root, trust=True)
    assert torch.equal(model.predict(batch), network(batch)["out"])
    assert model.inferer.roi_size == (16, 16)
    assert [type(step).__name__ for step in model.preprocessing()] == ["ScaleIntensityd"]
