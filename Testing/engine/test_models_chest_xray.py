"""Networks of TorchXRayVision: their files, and how X-rays are prepared for them."""

import io

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121
from torch import nn
from xaiengine.models import load_model


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
    from xaiengine.inference.preprocessing import preprocess
    from xaiengine.io.grid import Grid
    from xaiengine.io.volume import Volume
    from xaiengine.models.formats.xrayvision import XrayPreprocessing

    array = np.zeros((300, 260, 1), np.uint8)  # i to the right, j downwards
    array[200:240, 30:60] = 255
    prepared = preprocess(Volume(array, Grid(array.shape, np.diag([-0.5, -0.5, 1.0, 1.0]))), XrayPreprocessing()())
    assert prepared.tensor.shape == (1, 224, 224, 1)
    assert prepared.tensor.min() == -1024 and prepared.tensor.max() == 1024
    rows, columns = np.nonzero(prepared.tensor[0, :, :, 0].numpy() > 0)
    assert rows.mean() < 112 < columns.mean()
    found = prepared.grid.index_to_ras([rows.mean(), columns.mean(), 0])
    assert np.abs(found[:2] - np.array([-0.5 * 219.5, -0.5 * 44.5])).max() < 1
