"""ONNX files: the prediction of onnxruntime, and what is refused."""

import numpy as np
import pytest
import torch
from support.format_networks import relative
from torch import nn
from xaiengine.core.errors import ModelError, TrustError
from xaiengine.models import load_model


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
    ours = model.probabilities(ours) if softmax else ours
    assert relative(ours, torch.from_numpy(theirs)) <= 1e-4
    assert torch.equal(ours.argmax(1), torch.from_numpy(theirs).argmax(1))
    assert model.capabilities.layers and model.capabilities.free_batch
    assert model.activation == "softmax"
    assert any("ends in softmax" in note for note in model.notes) == softmax
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


def with_data_beside(model, path, name="net.onnx.data"):
    """The model as PyTorch's exporter writes it: weights in a file of their own."""
    from onnx import numpy_helper

    content = b""
    for tensor in model.graph.initializer:
        raw = numpy_helper.to_array(tensor).tobytes()
        tensor.ClearField("raw_data")
        tensor.data_location = 1
        for key, value in (("location", name), ("offset", str(len(content))), ("length", str(len(raw)))):
            tensor.external_data.add(key=key, value=value)
        content += raw
    path.with_name("net.onnx.data").write_bytes(content)
    path.write_bytes(model.SerializeToString())
    return path


def test_onnx_reads_weights_from_the_file_beside_it(onnx_weights, tmp_path):
    (tmp_path / "one.onnx").write_bytes(onnx_model(onnx_weights).SerializeToString())
    path = with_data_beside(onnx_model(onnx_weights), tmp_path / "net.onnx")
    batch = torch.randn(2, 3, 16, 16)
    model = load_model(path)
    assert torch.equal(model.predict(batch), load_model(tmp_path / "one.onnx").predict(batch))
    data = path.with_name("net.onnx.data")
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(ModelError, match="beyond the end"):
        load_model(path)
    data.unlink()
    with pytest.raises(ModelError, match="net.onnx.data of net.onnx are missing"):
        load_model(path)


@pytest.mark.parametrize("version", [18, 20, 23])
def test_onnx_of_newer_operators_is_brought_to_known_ones(version, onnx_weights, tmp_path):
    pytest.importorskip("onnx", reason="pip install onnx")
    from onnx import TensorProto, helper, numpy_helper

    weights = {key: onnx_weights[key] for key in ("kernel", "bias", "matrix")}
    weights["axes"] = np.array([2, 3])
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("ReduceMean", ["active", "axes"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "matrix"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    batch = torch.randn(2, 3, 16, 16)
    kernel, bias = (torch.from_numpy(onnx_weights[key]) for key in ("kernel", "bias"))
    features = nn.functional.conv2d(batch, kernel, bias, padding=1).relu().mean((2, 3))
    expected = features @ torch.from_numpy(onnx_weights["matrix"])
    assert torch.allclose(load_model(tmp_path / "net.onnx").predict(batch), expected, atol=1e-5)


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
