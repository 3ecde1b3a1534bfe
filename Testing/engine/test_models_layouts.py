"""Models as they lie on people's disks: caches of Hugging Face, clones without git-lfs, checkpoints of a training."""

import argparse
import json
import os
import pathlib
from typing import Literal

import numpy as np
import pytest
import torch
from monai.networks.nets import UNet
from torch import nn
from xaiengine.core.errors import InputError, ModelError, TrustError
from xaiengine.core.options import TaskOptions, option
from xaiengine.io.segmentation_files import read_segmentation
from xaiengine.io.volume_files import read_image2d, read_volume
from xaiengine.models import load_model

ARGUMENTS = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 123456\n"


def weights(path, checkpoint):
    torch.save(checkpoint, path)
    path.with_suffix(".json").write_text(json.dumps({"network": {"_target_": "UNet", **ARGUMENTS}}))
    return path


def bundle(folder):
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs/inference.json").write_text(json.dumps({"network_def": {"_target_": "UNet", **ARGUMENTS}}))
    torch.save(UNet(**ARGUMENTS).state_dict(), folder / "models/model.pt")
    return folder


def as_snapshot(folder, cache):
    """The folder's files in the layout of Hugging Face's cache: blobs, and a snapshot of links to them."""
    model = cache / "models--someone--net"
    snapshot, blobs = model / "snapshots" / "0123abcd", model / "blobs"
    blobs.mkdir(parents=True)
    for number, item in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob, link = blobs / f"{number:064x}", snapshot / item.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(item.read_bytes())
        try:
            link.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:
            pytest.skip("no links on this system")
    return snapshot


def test_a_snapshot_of_a_hugging_face_cache_is_read_through_its_links(tmp_path):
    snapshot = as_snapshot(bundle(tmp_path / "net"), tmp_path / "cache")
    assert len(load_model(snapshot).labels) == 2


def test_single_files_of_a_snapshot_keep_their_names(tmp_path):
    folder = tmp_path / "net"
    folder.mkdir()
    weights(folder / "net.pth", UNet(**ARGUMENTS).state_dict())
    snapshot = as_snapshot(folder, tmp_path / "cache")
    assert len(load_model(snapshot / "net.pth").labels) == 2


def test_a_link_of_a_snapshot_to_anything_but_its_blobs_is_refused(tmp_path):
    snapshot = as_snapshot(bundle(tmp_path / "net"), tmp_path / "cache")
    (tmp_path / "secret").write_text("x")
    (snapshot / "extra").symlink_to(tmp_path / "secret")
    with pytest.raises(TrustError, match="outside the model"):
        load_model(snapshot)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net.onnx", "net.ts", "net.pt2", "net.pt", "net.bin"])
def test_a_pointer_in_the_place_of_a_model_is_named(name, tmp_path):
    weights(tmp_path / "net.pth", {})
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(ModelError, match=f"{name} is a Git LFS pointer"):
        load_model(tmp_path / name)


def test_a_pointer_in_a_bundle_is_named(tmp_path):
    folder = bundle(tmp_path / "net")
    (folder / "models/model.pt").write_text(POINTER)
    with pytest.raises(ModelError, match="model.pt of net is a Git LFS pointer"):
        load_model(folder)


@pytest.mark.parametrize("name", ["s.nrrd", "s.nii.gz", "s.nii", "s.mha", "s.dcm", "s.png", "s.seg.nrrd"])
def test_a_pointer_in_the_place_of_an_image_is_named(name, tmp_path):
    (tmp_path / name).write_text(POINTER)
    read = {".png": read_image2d, ".seg.nrrd": read_segmentation}.get(name[1:], read_volume)
    with pytest.raises(InputError, match=f"{name} is a Git LFS pointer.*"):
        read(tmp_path / name)


BOOKKEEPING = {
    "numpy number": np.int32(3),
    "numpy half": np.float16(0.5),
    "numpy array": np.arange(6.0).reshape(2, 3),
    "numpy flags": np.array([True, False]),
    "path": pathlib.Path("runs") / "a",
    "settings": argparse.Namespace(lr=1e-4, folder=pathlib.Path("x")),
}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("kind", BOOKKEEPING)
def test_a_checkpoint_with_bookkeeping_is_read(kind, trust, tmp_path):
    network = UNet(**ARGUMENTS)
    path = weights(tmp_path / "net.pth", {"state_dict": network.state_dict(), "extra": BOOKKEEPING[kind]})
    loaded = load_model(path, trust=trust).network.state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in network.state_dict().items())


class Custom:
    """A class of one's own in a checkpoint."""


def test_other_objects_of_a_checkpoint_need_trust_and_trust_helps(tmp_path):
    path = weights(tmp_path / "net.pth", {"state_dict": UNet(**ARGUMENTS).state_dict(), "extra": Custom()})
    with pytest.raises(TrustError, match="Custom") as refused:
        load_model(path)
    assert "--trust-model" in refused.value.remedy and "Weights only load failed" not in str(refused.value)
    assert len(load_model(path, trust=True).labels) == 2


class Sizes(TaskOptions):
    """Choices that are spelled as numbers."""

    size: Literal["32", "64"] = option("32", "Size", "Size of the images.")
    sizes: list[Literal["1", "2"]] = option([], "Sizes", "Several sizes.")
    maybe: Literal["0.5", "1"] | None = option(None, "Maybe", "A size or nothing.")
    number: int = option(1, "Number", "A number.")


def test_numbers_are_taken_for_choices_that_are_spelled_as_numbers():
    found = Sizes(size=64, sizes=[1, "2", 2.0], maybe=0.5, number=3)
    assert (found.size, found.sizes, found.maybe, found.number) == ("64", ["1", "2", "2"], "0.5", 3)
    for wrong in ({"size": 48}, {"size": True}, {"sizes": [3]}):
        with pytest.raises(ValueError, match="size"):
            Sizes(**wrong)


def test_the_remedy_for_a_class_of_ones_own_works(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    path = tmp_path / "net.pth"
    torch.save(network.state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps({"network": {"_target_": "mine.Net"}, "input_size": [16, 16]}))
    with pytest.raises(ModelError, match="not known") as refused:
        load_model(path, trust=True)
    assert '"code": "net.py"' in refused.value.remedy
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
    )
    content = {"network": {"_target_": "Net"}, "code": "net.py", "spatial_dims": 2, "input_size": [16, 16]}
    path.with_suffix(".json").write_text(json.dumps(content))
    assert len(load_model(path, trust=True).labels) == 2
