"""Probabilities are never passed through another softmax or sigmoid, whatever the file and however they are made."""

import json

import pytest
import torch
from torch import nn
from xaiengine.core.errors import ModelError
from xaiengine.models import load_model
from xaiengine.models.endings import Watcher, confirmed, logits_of

SIZE = 16
ENDS = {
    "softmax": (lambda y: y.softmax(1), "softmax"),
    "softmax of scores over a temperature": (lambda y: (y / 1.7).softmax(1), "softmax"),
    "softmax by hand": (lambda y: y.exp() / y.exp().sum(1, keepdim=True), "softmax"),
    "log-softmax": (lambda y: y.log_softmax(1), "softmax"),
    "mean of two softmax": (lambda y: (y.softmax(1) + (y * 0.5).softmax(1)) / 2, "softmax"),
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "sigmoid by hand": (lambda y: 1 / (1 + (-y).exp()), "sigmoid"),
    "one less sigmoid": (lambda y: 1 - torch.sigmoid(y), "sigmoid"),
    "hard sigmoid": (nn.functional.hardsigmoid, "sigmoid"),
    "scores": (lambda y: y, None),
    "scaled scores": (lambda y: y * 0.01, None),
    "small scores": (lambda y: y * 1e-4 + 0.5, None),
    "tanh": (torch.tanh, "none"),
}


class Ending(nn.Module):
    """A small network, of a row of numbers or of a map, that ends as it is told."""

    def __init__(self, end: str, outputs: int = 3, dims: int = 2, dense: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.conv = convolution(1, 4, 3, padding=1)
        self.head = convolution(4, outputs, 1) if dense else nn.Linear(4, outputs)
        self.end = ENDS[end][0]
        self.dense = dense

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.conv(batch))
        return self.end(self.head(features if self.dense else features.flatten(2).amax(2)))


def saved(network, kind, path, dims=2, **content):
    """The network as a file of a kind, with a description."""
    example = torch.zeros(1, 1, *[SIZE] * dims)
    path = path / f"net.{kind}"
    if kind == "ts":
        torch.jit.trace(network, example).save(path)
    elif kind == "pt2":
        torch.export.save(torch.export.export(network, (example,)), path)
    else:
        onnx_of(network, path)
    described = {"spatial_dims": dims, "in_channels": 1, "input_size": [SIZE] * dims, **content}
    path.with_suffix(".json").write_text(json.dumps(described))
    return path


def onnx_of(network, path):
    """A linear network over the mean of the picture, as ONNX writes it."""
    onnx = pytest.importorskip("onnx", reason="pip install onnx")
    from onnx import TensorProto, helper, numpy_helper

    operator = {"softmax": "Softmax", "log-softmax": "LogSoftmax", "sigmoid": "Sigmoid"}[network]
    weights = {"matrix": torch.tensor([[3.0, -1.0, 0.5]]).numpy(), "bias": torch.tensor([0.1, 0.2, 0.3]).numpy()}
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["scores"]),
        helper.make_node(operator, ["scores"], ["output"], **({} if operator == "Sigmoid" else {"axis": 1})),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.mark.parametrize("kind", ["ts", "pt2"])
@pytest.mark.parametrize("end", ENDS)
def test_a_classifier_answers_with_its_own_probabilities(end, kind, tmp_path):
    network = Ending(end).eval()
    task = "multilabel" if "sigmoid" in end else "classification"
    model = load_model(saved(network, kind, tmp_path, task=task, labels=["a", "b", "c"]))
    batch = torch.rand(2, 1, SIZE, SIZE) if kind == "ts" else torch.rand(1, 1, SIZE, SIZE)
    with torch.no_grad():
        output = network(batch)
    activation = ENDS[end][1]
    if activation is None:
        assert model.activation == "softmax" and torch.allclose(model.predict(batch), output, atol=1e-5)
        return
    assert model.activation == activation
    expected = output.exp() if end == "log-softmax" else output
    assert torch.allclose(model.probabilities(model.predict(batch)), expected, atol=1e-4)
    assert (end == "log-softmax") or any("end" in note for note in model.notes)


@pytest.mark.parametrize("end", ["softmax", "log-softmax", "sigmoid"])
def test_an_onnx_classifier_answers_with_its_own_probabilities(end, tmp_path):
    task = "multilabel" if end == "sigmoid" else "classification"
    model = load_model(saved(end, "onnx", tmp_path, task=task, labels=["a", "b", "c"]))
    batch = torch.rand(2, 1, SIZE, SIZE)
    scores = batch.mean((2, 3)) * torch.tensor([3.0, -1.0, 0.5]) + torch.tensor([0.1, 0.2, 0.3])
    expected = scores.sigmoid() if end == "sigmoid" else scores.softmax(1)
    assert torch.allclose(model.probabilities(model.predict(batch)), expected, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("end", "outputs"), [("softmax", 2), ("sigmoid", 1), ("sigmoid", 3), ("scores", 2)])
def test_a_segmentation_answers_with_its_own_probabilities(end, outputs, dims, tmp_path):
    network = Ending(end, outputs, dims, dense=True).eval()
    model = load_model(saved(network, "ts", tmp_path, dims, task="segmentation", labels=list("abc")[:outputs]))
    batch = torch.rand(1, 1, *[SIZE] * dims)
    with torch.no_grad():
        expected = network(batch) if end != "scores" else network(batch).softmax(1)
    assert torch.allclose(model.probabilities(model.predict(batch)), expected, atol=1e-5)


def test_one_probability_of_a_sigmoid_is_that_of_its_label(tmp_path):
    network = Ending("sigmoid", 1).eval()
    model = load_model(saved(network, "pt2", tmp_path, task="classification", labels=["lesion"]))
    batch = torch.rand(1, 1, SIZE, SIZE)
    assert torch.allclose(model.probabilities(model.predict(batch)), network(batch), atol=1e-5)


def test_a_described_activation_is_not_applied_to_probabilities(tmp_path):
    network = Ending("softmax").eval()
    for described in ("softmax", "sigmoid", "none"):
        path = saved(network, "ts", tmp_path, task="classification", labels=["a", "b", "c"], activation=described)
        model = load_model(path)
        batch = torch.rand(1, 1, SIZE, SIZE)
        assert torch.allclose(model.probabilities(model.predict(batch)), network(batch), atol=1e-5)


def test_a_score_of_a_regression_stays_as_it_is(tmp_path):
    network = Ending("sigmoid", 1).eval()
    model = load_model(saved(network, "ts", tmp_path, task="regression", labels=["severity"]))
    batch = torch.rand(1, 1, SIZE, SIZE)
    assert torch.allclose(model.probabilities(model.predict(batch)), network(batch), atol=1e-6)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
def test_logits_of_probabilities_have_the_gradients_of_logits_up_to_a_constant(ending):
    scores = (torch.randn(4, 3, dtype=torch.float64) * 6).float().requires_grad_()
    probabilities = scores.softmax(1) if ending == "softmax" else scores.sigmoid()
    recovered = logits_of(probabilities, ending)
    difference = recovered[:, 0] - recovered[:, 1]
    (gradient,) = torch.autograd.grad(difference.sum(), scores)
    expected = torch.zeros(4, 3)
    expected[:, 0], expected[:, 1] = 1, -1
    assert torch.allclose(gradient, expected, atol=1e-2)
    back = recovered.softmax(1) if ending == "softmax" else recovered.sigmoid()
    assert torch.allclose(back, probabilities, atol=1e-6)


def test_operations_alone_do_not_make_probabilities_of_a_softmax_inside():
    with Watcher() as watcher:
        attention = torch.randn(1, 3, 5).softmax(2)
        scores = nn.functional.linear(attention, torch.randn(2, 5))
    assert watcher.ending(scores)[0] == "scores"
    with Watcher() as watcher:
        over_positions = torch.randn(1, 3, 5).softmax(2)
    assert confirmed(watcher.ending(over_positions)[0], [over_positions]) == "scores"


def test_labels_that_do_not_count_as_many_as_the_outputs_are_refused(tmp_path):
    for kind in ("ts", "pt2"):
        path = saved(Ending("scores").eval(), kind, tmp_path, task="classification", labels=["a", "b"])
        with pytest.raises(ModelError, match="2 labels are named .*3 outputs"):
            load_model(path)
    path = saved(Ending("sigmoid", 1).eval(), "ts", tmp_path, task="classification", labels=["healthy", "lesion"])
    with pytest.raises(ModelError, match="give that one alone, for example lesion"):
        load_model(path)
