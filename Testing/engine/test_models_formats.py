"""Models in other formats: the prediction of their own framework, what can be done with them, and what is refused."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, SegResNet, UNet
from torch import nn
from xaiengine.errors import ModelError, TrustError
from xaiengine.models import load_model

TRANSFORMS = [{"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 100, "b_min": 0, "b_max": 1}]


class SmallNetwork(nn.Module):
    """A classifier with a branch, a residual sum and a pooled head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU())
        self.third = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, batch):
        features = self.second(self.first(batch))
        features = features + self.third(features)
        return self.head(features.mean((2, 3)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    made = SmallNetwork()
    made.first[1].running_mean.normal_(0, 0.2)
    return made.eval()


@pytest.fixture
def batch():
    return torch.randn((2, 1, 32, 32), generator=torch.Generator().manual_seed(1))


def describe(path, **content):
    path.with_suffix(".json").write_text(json.dumps(content), encoding="utf-8")


def relative(ours, theirs):
    return float((ours - theirs).abs().max() / theirs.abs().max())


# --- torch.export -----------------------------------------------------------------------------------------------


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
    from engine.hostile_models import Payload, saved

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


# --- TorchScript ------------------------------------------------------------------------------------------------


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


def test_a_torchscript_segmentation_in_3d_is_recognised(tmp_path):
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
    with pytest.raises(TrustError, match="may reach files"):
        load_model(path)
    assert not canary.exists()


def test_torchscript_in_the_place_of_weights_is_recognised(network, tmp_path):
    path = tmp_path / "bundle" / "models" / "model.pt"
    path.parent.mkdir(parents=True)
    (tmp_path / "bundle" / "configs").mkdir()
    config = {"network_def": UNET}
    (tmp_path / "bundle" / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    torch.jit.script(network).save(str(path))
    with pytest.raises(ModelError, match="TorchScript program"):
        load_model(tmp_path / "bundle")


# --- ONNX -------------------------------------------------------------------------------------------------------


def onnx_model(weights, *, softmax=False, last=False, batch="batch", extra=None):
    """A small convolutional classifier, written node by node."""
    onnx = pytest.importorskip("onnx", reason="pip install onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = []
    image = "image"
    if last:
        nodes.append(helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]))
        image = "first"
    nodes += [
        helper.make_node("Conv", [image, "kernel", "bias"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
        helper.make_node("Relu", ["conv"], ["relu"], name="relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "matrix"], ["scores"], name="head"),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["scores"], ["output"], axis=1))
    nodes += extra or []
    shape = [batch, 16, 16, 3] if last else [batch, 3, 16, 16]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output" if softmax else "scores", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def onnx_weights():
    generator = np.random.default_rng(0)
    shapes = {"kernel": (6, 3, 3, 3), "bias": (6,), "matrix": (6, 4)}
    return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_onnx_predicts_as_onnxruntime(onnx_weights, tmp_path, softmax, last):
    runtime = pytest.importorskip("onnxruntime", reason="pip install onnxruntime to compare with it")
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_model(onnx_weights, softmax=softmax, last=last).SerializeToString())
    model = load_model(path)
    batch = torch.randn(3, 3, 16, 16)
    given = (batch.movedim(1, -1) if last else batch).numpy()
    (theirs,) = runtime.InferenceSession(str(path)).run(None, {"image": given})
    ours = model.predict(batch)
    assert relative(ours, torch.from_numpy(theirs)) <= 1e-4
    assert torch.equal(ours.argmax(1), torch.from_numpy(theirs).argmax(1))
    assert model.capabilities.layers and model.capabilities.free_batch
    assert model.activation == ("none" if softmax else "softmax")
    assert (model.in_channels, model.spatial_dims, model.example_shape[2:]) == (3, 2, (16, 16))
    assert any(isinstance(module, nn.Conv2d) for module in model.network.modules())


def test_onnx_with_weights_in_another_file_is_refused(onnx_weights, tmp_path):
    model = onnx_model(onnx_weights)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(TrustError, match="etc/passwd"):
        load_model(tmp_path / "net.onnx")


def test_onnx_with_a_foreign_operator_is_refused(onnx_weights, tmp_path):
    model = onnx_model(onnx_weights)
    model.graph.node[1].domain = "evil.ops"
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(TrustError, match="evil.ops"):
        load_model(tmp_path / "net.onnx")


def test_a_damaged_onnx_file_is_refused(tmp_path):
    pytest.importorskip("onnx", reason="pip install onnx")
    (tmp_path / "net.onnx").write_bytes(b"\x08\xff\xff\xff not onnx")
    with pytest.raises(ModelError, match="net.onnx"):
        load_model(tmp_path / "net.onnx")


# --- weights and description ------------------------------------------------------------------------------------

UNET = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [4, 8],
    "strides": [2],
    "num_res_units": 1,
}


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


def test_weights_of_another_network_are_recognised(tmp_path):
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


# --- trusted code -----------------------------------------------------------------------------------------------

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


# --- chest X-rays -----------------------------------------------------------------------------------------------


def torchvision_names(state):
    """MONAI's layer names as torchvision and TorchXRayVision have them."""
    return {
        key.replace(".layers.", ".").replace("class_layers.out", "classifier"): value for key, value in state.items()
    }


def pickled_xray_network(thresholds, older):
    """A whole pickled network of the class ``torchxrayvision.models.DenseNet``, without that package."""
    import sys
    from types import ModuleType

    torch.manual_seed(0)
    reference = DenseNet121(2, 1, 18).eval()
    fake, models = ModuleType("torchxrayvision"), ModuleType("torchxrayvision.models")
    models.DenseNet = type("DenseNet", (nn.Module,), {"__module__": "torchxrayvision.models"})
    fake.models = models
    sys.modules.update({"torchxrayvision": fake, "torchxrayvision.models": models})
    try:
        root = models.DenseNet()
        for name, value in torchvision_names(reference.state_dict()).items():
            place = root
            *parts, last = name.split(".")
            for part in parts:
                if part not in place._modules:
                    place.add_module(part, nn.Sequential())
                place = place._modules[part]
            if "running" in last or "num_batches" in last:
                place.register_buffer(last, value)
            else:
                place.register_parameter(last, nn.Parameter(value))
        root.op_threshs = thresholds
        stream = io.BytesIO()
        torch.save(root, stream, _use_new_zipfile_serialization=not older)
    finally:
        del sys.modules["torchxrayvision"], sys.modules["torchxrayvision.models"]
    return reference, stream.getvalue()


@pytest.mark.parametrize("older", [False, True])
def test_chest_xray_networks_are_read_from_their_pickles_without_running_them(tmp_path, older):
    thresholds = torch.linspace(0.1, 0.9, 18)
    reference, content = pickled_xray_network(thresholds, older)
    (tmp_path / "xray.pt").write_bytes(content)
    model = load_model(tmp_path / "xray.pt")
    batch = torch.randn(2, 1, 224, 224)
    probability = reference(batch).sigmoid().detach()
    expected = torch.where(
        probability < thresholds, probability / (2 * thresholds), 1 - (1 - probability) / (2 * (1 - thresholds))
    )
    assert torch.allclose(model.probabilities(model.predict(batch)), expected, atol=1e-5)
    assert model.labels[7] == "Effusion" and len(model.labels) == 18
    assert model.layers[0].endswith("features.denseblock2")


def test_chest_xrays_are_prepared_rows_first(tmp_path):
    from xaiengine.grid import Grid
    from xaiengine.models.xrayvision import XrayPreprocessing
    from xaiengine.preprocessing import preprocess
    from xaiengine.volume import Volume

    array = np.zeros((300, 260, 1), np.uint8)  # i to the right, j downwards
    array[200:240, 30:60] = 255
    prepared = preprocess(Volume(array, Grid(array.shape, np.diag([-0.5, -0.5, 1.0, 1.0]))), XrayPreprocessing()())
    assert prepared.tensor.shape == (1, 224, 224, 1)
    assert prepared.tensor.min() == -1024 and prepared.tensor.max() == 1024
    rows, columns = np.nonzero(prepared.tensor[0, :, :, 0].numpy() > 0)
    assert rows.mean() < 112 < columns.mean()
    found = prepared.grid.index_to_ras([rows.mean(), columns.mean(), 0])
    assert np.abs(found[:2] - np.array([-0.5 * 219.5, -0.5 * 44.5])).max() < 1
