"""Networks of torch.export and TorchScript: the eager network's prediction, and what is refused."""

import json
import zipfile

import pytest
import torch
from monai.networks.nets import SegResNet
from support.format_networks import TRANSFORMS, UNET, describe, relative, small_batch, small_network
from torch import nn
from xaiengine.core.errors import ModelError, TrustError
from xaiengine.models import load_model


@pytest.fixture
def network():
    return small_network()


@pytest.fixture
def batch():
    return small_batch()


@pytest.fixture
def exported(network, tmp_path):
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network, (torch.randn(1, 1, 32, 32),)), path)
    return path


def test_an_exported_network_equals_eager_and_has_layers(exported, network, batch):
    model = load_model(exported)
    assert torch.equal(model.predict(batch[:1]), network(batch[:1]))
    names = dict(model.network.named_modules())
    assert {"first", "second", "third", "head"} <= set(names)
    seen = []
    handle = names["second"].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.predict(batch[:1])
    handle.remove()
    assert torch.allclose(seen[0], network.second(network.first(batch[:1])))
    assert model.capabilities.layers and model.capabilities.differentiable
    assert not model.capabilities.free_batch
    assert model.labels == ("class 0", "class 1", "class 2")


def test_an_exported_network_of_variable_batch_takes_batches(network, tmp_path, batch):
    path = tmp_path / "net.pt2"
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(network, (batch,), dynamic_shapes=sizes), path)
    model = load_model(path)
    assert model.capabilities.free_batch
    assert relative(model.predict(batch), network(batch)) <= 1e-6


def rewritten(path, change):
    """The archive with every JSON file passed through ``change``."""
    source = zipfile.ZipFile(path)
    entries = {name: source.read(name) for name in source.namelist()}
    source.close()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return path


@pytest.mark.parametrize(
    ("found", "put", "words"),
    [
        (b"torch.ops.aten.relu.default", b"torch.os.system", "torch.os.system"),
        (b"torch.ops.aten.relu.default", b"torch.ops.aten.from_file.default", "from_file"),
        (b"torch.ops.aten.relu.default", b"torch.ops.inductor.x.default", "inductor"),
        (b'"use_pickle": false', b'"use_pickle": true', "pickle"),
        (b'"guards_code": []', b'"guards_code": ["__import__(\'os\')"]', "guard"),
    ],
)
def test_an_exported_network_with_foreign_calls_is_refused(exported, found, put, words):
    original = zipfile.ZipFile(exported).read
    assert any(found in original(name) for name in zipfile.ZipFile(exported).namelist())
    with pytest.raises(TrustError, match=words):
        load_model(rewritten(exported, lambda name, content: content.replace(found, put)))


def test_an_exported_network_with_code_among_its_example_inputs_is_refused(exported, tmp_path):
    from support.hostile_corpus import Payload, saved

    canary = tmp_path / "canary"
    payload = saved(((Payload(open, str(canary), "w"),), {}))

    def change(name, content):
        return payload if "sample_inputs" in name else content

    with pytest.raises(TrustError, match="open"):
        load_model(rewritten(exported, change))
    assert not canary.exists()


def test_an_exported_network_with_code_in_a_size_is_refused(network, tmp_path, batch):
    path = tmp_path / "net.pt2"
    sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(network, (batch,), dynamic_shapes=sizes), path)
    canary = tmp_path / "canary"
    code = f"open('{canary.as_posix()}','w')"

    def change(name, content):
        import re

        return re.sub(rb'"expr_str": "[^"]*"', f'"expr_str": "{code}"'.encode(), content)

    with pytest.raises(TrustError, match="plain expression"):
        load_model(rewritten(path, change))
    assert not canary.exists()


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 1, 32, 32))])
def test_torchscript_predicts_as_eager_and_says_it_has_no_layers(network, tmp_path, batch, make):
    path = tmp_path / "net.ts"
    make(network).save(str(path))
    model = load_model(path)
    assert relative(model.predict(batch), network(batch)) <= 1e-6
    assert model.layers == ()
    assert model.capabilities.free_batch and model.capabilities.differentiable
    with pytest.raises(ModelError, match="TorchScript shows no layers"):
        model.capabilities.require("layers", "Grad-CAM")


def test_a_torchscript_segmentation_in_3d_is_recognized(tmp_path):
    torch.manual_seed(0)
    network = SegResNet(3, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)).eval()
    path = tmp_path / "net.pt"
    torch.jit.trace(network, torch.zeros(1, 1, 32, 32, 32)).save(str(path))
    describe(path, input_size=[32, 32, 32], preprocessing=TRANSFORMS, labels=["background", "liver"])
    model = load_model(path)
    assert (model.task, model.spatial_dims, model.in_channels) == ("segmentation", 3, 1)
    assert model.labels == ("background", "liver")
    volume = torch.randn(1, 1, 32, 32, 32)
    assert relative(model.predict(volume), network(volume)) <= 1e-5
    assert [type(step).__name__ for step in model.preprocessing()] == ["ScaleIntensityRange"]


class Saving(nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, batch):
        torch.save(batch, self.path)
        return self.layer(batch)


class Mapping(nn.Module):
    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, batch):
        return self.layer(batch) + torch.from_file(self.path, shared=True, size=10).sum()


class Awaking(nn.Module):
    """Writes a file while it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.weight = torch.ones(10)

    def forward(self, batch):
        return batch * self.weight.sum()

    @torch.jit.export
    def __getstate__(self):
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        self.weight = torch.from_file(self.path, shared=True, size=10)


@pytest.mark.parametrize("kind", [Saving, Mapping, Awaking])
def test_torchscript_that_reaches_for_files_is_refused(kind, tmp_path):
    canary = tmp_path / "canary"
    path = tmp_path / "net.ts"
    try:
        torch.jit.script(kind(str(canary))).save(str(path))
    except Exception as error:
        pytest.skip(f"this PyTorch does not script it: {str(error)[:80]}")
    canary.unlink(missing_ok=True)
    with pytest.raises(TrustError, match="may reach files|while the file is loaded"):
        load_model(path)
    assert not canary.exists()


def test_torchscript_in_the_place_of_weights_is_recognized(network, tmp_path):
    path = tmp_path / "bundle" / "models" / "model.pt"
    path.parent.mkdir(parents=True)
    (tmp_path / "bundle" / "configs").mkdir()
    config = {"network_def": UNET}
    (tmp_path / "bundle" / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    torch.jit.script(network).save(str(path))
    with pytest.raises(ModelError, match="TorchScript program"):
        load_model(tmp_path / "bundle")


class Strided(nn.Module):
    """Halves its input twice, as encoders do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.out = nn.Conv2d(5, 2, 1)

    def forward(self, batch):
        return self.out(torch.cat([batch, self.up(torch.relu(self.down(batch)))], 1))


@pytest.mark.parametrize("multiple", [0, 2, 4])
def test_an_exported_strided_network_takes_sizes_of_its_kind(multiple, tmp_path):
    network = Strided().eval()
    free = torch.export.Dim.AUTO
    if multiple:
        height, width = (multiple * torch.export.Dim(name, min=2, max=256) for name in ("height", "width"))
    else:
        height = width = free
    shapes = ({0: free, 2: height, 3: width},)
    exported = torch.export.export(network, (torch.randn(2, 1, 32, 48),), dynamic_shapes=shapes)
    torch.export.save(exported, tmp_path / "net.pt2")
    model = load_model(tmp_path / "net.pt2")
    batch = torch.randn(3, 1, 64, 40)
    assert torch.allclose(model.predict(batch), network(batch), atol=1e-5)
    assert model.capabilities.free_batch and model.task == "segmentation"
