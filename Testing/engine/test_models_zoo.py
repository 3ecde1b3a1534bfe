"""Bundles in the style of the Model Zoo: accepted without trust, with the predictions of MONAI's own parser."""

import io
import json

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from support.zoo_bundles import SLOW, ZOO, write_bundle
from xaiengine.inference.prediction import predict_scan
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.volume_files import read_volume
from xaiengine.models import load_model


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A small CT-like scan on disk, with anisotropic voxels and stored left to right, front to back."""
    generator = np.random.default_rng(0)
    values = generator.normal(0, 60, (30, 28, 12))
    values[8:20, 10:20, 3:9] += 150
    affine = np.array([[-1.8, 0, 0, 20], [0, -1.8, 0, 30], [0, 0, 3.5, -10], [0, 0, 0, 1.0]])
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), affine), path)
    return path


def monai_parser(name):
    parser = ConfigParser(json.loads(json.dumps(ZOO[name])))
    parser.parse()
    return parser


def trained(parser):
    """MONAI's own network of the configuration, with weights and running statistics that are not the initial ones."""
    torch.manual_seed(1)
    network = parser.get_parsed_content("network_def")
    for buffer_name, buffer in network.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return network.eval()


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in ZOO])
def test_predictions_equal_those_of_monai_with_trust(name, scan, tmp_path):
    parser = monai_parser(name)
    network = trained(parser)
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)

    model = load_model(write_bundle(tmp_path, name, stream.getvalue()))
    ours = predict_scan(model, preprocess(read_volume(scan), model.preprocessing()))

    steps = parser.get_parsed_content("preprocessing")
    data = {"image": str(scan)}
    for step in getattr(steps, "transforms", steps):
        data = step(data)
    inferer = parser.get_parsed_content("inferer")
    with torch.inference_mode():
        theirs = inferer(data["image"][None].float(), network)
    theirs = model.select_output(theirs)
    assert ours.shape == theirs.shape
    difference = (ours - torch.as_tensor(theirs)).abs().max() / theirs.abs().max()
    assert difference <= 1e-4
    assert torch.equal(ours.argmax(1), torch.as_tensor(theirs).argmax(1)) or agreement(ours, theirs) > 0.9999


def agreement(ours, theirs):
    """Share of voxels with the same label: ties of two logits may fall either way."""
    return (ours.argmax(1) == torch.as_tensor(theirs).argmax(1)).float().mean().item()


def test_there_are_ten_bundles_and_more():
    assert len(ZOO) >= 10


def test_sigmoid_is_seen_in_the_postprocessing(tmp_path):
    stream = io.BytesIO()
    torch.save(trained(monai_parser("brain_tumor_segresnet")).state_dict(), stream)
    model = load_model(write_bundle(tmp_path, "brain_tumor_segresnet", stream.getvalue()))
    assert model.activation == "sigmoid"
    assert model.task == "segmentation"
    assert model.inferer.roi_size == (24, 24, 16)
