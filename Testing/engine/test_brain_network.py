"""A real user's model: deepbet's TorchScript brain segmentation, and its eager twin."""

from __future__ import annotations

import pytest
import torch
from demo.brain_network import eager_twin, torchscript_model, weights_file
from xaiengine.core.errors import ModelError
from xaiengine.models import load_model

torch.set_num_threads(1)


def _missing() -> bool:
    try:
        return not weights_file()
    except FileNotFoundError:
        return True


pytestmark = pytest.mark.skipif(_missing(), reason="deepbet is not installed")


def test_the_eager_twin_gives_the_same_numbers_as_the_torchscript():
    x = torch.randn(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = torch.jit.load(str(weights_file()))(x)
        found = eager_twin()(x).softmax(1)
    assert (found - expected).abs().max() <= 1e-6


def test_the_torchscript_is_read_as_a_segmentation_without_layers(tmp_path):
    model = load_model(torchscript_model(tmp_path))
    assert (model.task, model.labels, model.spatial_dims) == ("segmentation", ("background", "brain"), 3)
    with pytest.raises(ModelError, match="TorchScript shows no layers"):
        model.capabilities.require("layers", "HiResCAM")
    model.capabilities.require("differentiable", "Integrated gradients")
