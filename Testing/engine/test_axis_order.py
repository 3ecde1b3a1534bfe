"""Pictures reach a 2D network as it was trained to see them, whatever its format, and its maps lie on the picture."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.dicom_series import write_xray
from xaiengine.app.inspection import inspect_image, inspect_model
from xaiengine.app.run import run_job
from xaiengine.core.errors import InputError
from xaiengine.core.job import Job
from xaiengine.inference.preprocessing import preprocess
from xaiengine.inference.scan_reading import read_for_model, unlike_hounsfield
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.models import load_model

SIDE = 64
LABELS = ["left bright", "top bright"]


class Sides(torch.nn.Module):
    """Compares halves as torchvision's tensors lie: the last axis is the width."""

    def forward(self, x):
        h, w = x.shape[-2:]
        left = x[..., : w // 2].mean((1, 2, 3)) - x[..., w // 2 :].mean((1, 2, 3))
        top = x[..., : h // 2, :].mean((1, 2, 3)) - x[..., h // 2 :, :].mean((1, 2, 3))
        return torch.stack([left, top], 1)


def top_bright() -> np.ndarray:
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[:20] = 200
    return picture


def described(path, **more):
    content = {"task": "classification", "labels": LABELS, "spatial_dims": 2, "in_channels": 1}
    path.with_suffix(".json").write_text(json.dumps({**content, "input_size": [SIDE, SIDE], **more}))
    return path


def traced(folder, **more):
    torch.jit.trace(Sides(), torch.zeros(1, 1, SIDE, SIDE)).save(str(folder / "sides.ts"))
    return described(folder / "sides.ts", **more)


def exported(folder):
    torch.export.save(torch.export.export(Sides(), (torch.zeros(1, 1, SIDE, SIDE),)), folder / "sides.pt2")
    return described(folder / "sides.pt2")


def onnx(folder):
    pytest.importorskip("onnxscript")
    torch.onnx.export(Sides(), (torch.zeros(1, 1, SIDE, SIDE),), folder / "sides.onnx", dynamo=False)
    return described(folder / "sides.onnx")


def said(model, image) -> str:
    values = inspect_image(load_model(model), image)["values"]
    return max(values, key=lambda label: values[label]["value"])


@pytest.mark.parametrize("make", [traced, exported])
def test_plain_networks_receive_pictures_rows_first(make, tmp_path):
    model = make(tmp_path)
    Image.fromarray(top_bright()).save(tmp_path / "top.png")
    Image.fromarray(top_bright().T).save(tmp_path / "left.png")
    assert (said(model, tmp_path / "top.png"), said(model, tmp_path / "left.png")) == ("top bright", "left bright")


def test_xrays_and_volumes_of_one_slice_are_pictures_too(tmp_path):
    model = traced(tmp_path)
    write_xray(tmp_path / "x.dcm", top_bright().astype(np.uint16), "MONOCHROME2")
    write_volume(
        tmp_path / "x.nrrd", Volume(top_bright().T[..., None], Grid((SIDE, SIDE, 1), np.diag([-1, -1, 1, 1.0])))
    )
    assert said(model, tmp_path / "x.dcm") == said(model, tmp_path / "x.nrrd") == "top bright"


def test_the_order_is_described_and_reported(tmp_path):
    Image.fromarray(top_bright()).save(tmp_path / "top.png")
    model = traced(tmp_path, axis_order="columns_first")
    assert said(model, tmp_path / "top.png") == "left bright"
    assert "columns first" in inspect_model(load_model(model)).axis_order
    model = traced(tmp_path, axis_order="rows_first")
    assert inspect_model(load_model(model)).axis_order.startswith("rows first")
    assert "not described" in inspect_model(load_model(traced(tmp_path))).axis_order


def test_slices_of_volumes_follow_the_description(tmp_path):
    stack = np.repeat(top_bright().T[..., None], 3, axis=2)
    write_volume(tmp_path / "scan.nrrd", Volume(stack, Grid(stack.shape, np.diag([-1, -1, 1, 1.0]))))
    slices = {"kind": "slices"}
    assert said(traced(tmp_path, inference=slices), tmp_path / "scan.nrrd") == "left bright"
    described_rows = traced(tmp_path, inference=slices, axis_order="rows_first")
    assert said(described_rows, tmp_path / "scan.nrrd") == "top bright"
    after_orientation = [{"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"}]
    both = traced(tmp_path, inference=slices, axis_order="rows_first", preprocessing=after_orientation)
    assert said(both, tmp_path / "scan.nrrd") == "top bright"


def test_bundles_keep_monais_order(tmp_path):
    from monai.networks.nets import DenseNet121

    folder = tmp_path / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    network = {"_target_": "DenseNet121", "spatial_dims": 2, "in_channels": 1, "out_channels": 2}
    (folder / "configs" / "inference.json").write_text(json.dumps({"network_def": network, "preprocessing": None}))
    (folder / "configs" / "explanation.json").write_text("{}")
    torch.save(DenseNet121(spatial_dims=2, in_channels=1, out_channels=2).state_dict(), folder / "models" / "model.pt")
    model = load_model(folder)
    Image.fromarray(top_bright()).save(tmp_path / "top.png")
    tensor = preprocess(read_volume(tmp_path / "top.png"), model.preprocessing()).tensor
    np.testing.assert_array_equal(tensor[0, ..., 0].numpy(), top_bright().T)
    assert "columns first" in inspect_model(model).axis_order


def test_the_picture_that_the_network_receives_is_drawn(tmp_path):
    Image.fromarray(top_bright()).save(tmp_path / "top.png")
    inspect_image(load_model(traced(tmp_path)), tmp_path / "top.png", picture=tmp_path / "seen.png")
    with Image.open(tmp_path / "seen.png") as image:
        seen = np.asarray(image)
    assert seen[: len(seen) // 4].min() > 200 and seen[len(seen) // 2 :].max() < 50


STEPS = [
    {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": 0, "b_max": 1},
    {"_target_": "Resized", "keys": "image", "spatial_size": [40, 48], "mode": "area"},
    {
        "_target_": "NormalizeIntensityd",
        "keys": "image",
        "subtrahend": [0.485, 0.456, 0.406],
        "divisor": [0.229, 0.224, 0.225],
        "channel_wise": True,
    },
]
RESNET = {
    "_target_": "ResNet",
    "block": "basic",
    "layers": [1, 1, 1, 1],
    "block_inplanes": [4, 8, 16, 32],
    "spatial_dims": 2,
    "n_input_channels": 3,
    "num_classes": 3,
    "conv1_t_size": 7,
    "conv1_t_stride": 2,
}


def resnet(folder):
    from monai.networks.nets import ResNet

    torch.manual_seed(0)
    network = ResNet(**{key: value for key, value in RESNET.items() if key != "_target_"}).eval()
    torch.save(network.state_dict(), folder / "m.pth")
    content = {"network": RESNET, "labels": ["a", "b", "c"], "preprocessing": STEPS, "axis_order": "rows_first"}
    (folder / "m.json").write_text(json.dumps(content))
    return network


def color_picture(folder) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "x.png")
    return pixels


def test_a_resnets_map_of_a_picture_equals_captum_on_the_same_tensor(tmp_path):
    from captum.attr import Saliency

    network = resnet(tmp_path)
    pixels = color_picture(tmp_path)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tensor = ((torch.from_numpy(pixels).float() / 255 - mean) / deviation).permute(2, 0, 1)[None]
    prepared = preprocess(read_volume(tmp_path / "x.png", True), load_model(tmp_path / "m.pth").preprocessing())
    torch.testing.assert_close(prepared.tensor.movedim(3, 0), tensor, atol=1e-5, rtol=1e-5)
    target = int(network(tensor).argmax())
    expected = (
        Saliency(network).attribute(tensor.requires_grad_(), target=target, abs=False)[0].sum(0).detach().numpy()
    )
    job = Job(
        task="explain-prediction",
        model=str(tmp_path / "m.pth"),
        inputs={"volume": str(tmp_path / "x.png")},
        options={"methods": ["saliency"], "target": str(target)},
        output=str(tmp_path / "out"),
    )
    result = run_job(job)
    assert result.status == "finished", result.error
    item = next(artifact for artifact in result.artifacts if artifact.kind == "volume")
    found = read_volume(tmp_path / "out" / item.file)
    with Image.open(tmp_path / "out" / "overlay.png") as overlay:
        assert overlay.size == (48, 40)
        colored = np.asarray(overlay).astype(int)
    strongest = np.unravel_index(np.abs(expected).argmax(), expected.shape)
    red, _, blue = colored[strongest]
    assert (red > blue) == (expected[strongest] > 0)
    assert found.grid.same_as(read_volume(tmp_path / "x.png", True).grid)
    np.testing.assert_allclose(found.array[..., 0].T, expected, atol=1e-5)


def test_gray_pictures_are_given_to_all_three_channels(tmp_path):
    resnet(tmp_path)
    gray = top_bright()[:40, :48]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([gray] * 3, -1)).save(tmp_path / "rgb.png")
    model = load_model(tmp_path / "m.pth")
    tensors = [
        preprocess(read_for_model(model, tmp_path / name), model.preprocessing()).tensor
        for name in ("gray.png", "rgb.png")
    ]
    assert tensors[0].shape[0] == 3
    torch.testing.assert_close(tensors[0], tensors[1])


@pytest.mark.parametrize(
    "step, shape",
    [
        ({"_target_": "Resized", "spatial_size": 32}, (32, 32, 1)),
        ({"_target_": "Resized", "spatial_size": [24, 32]}, (24, 32, 1)),
        ({"_target_": "DivisiblePadd", "k": 48}, (96, 96, 1)),
        ({"_target_": "SpatialPadd", "spatial_size": [70, 80]}, (70, 80, 1)),
        ({"_target_": "CenterSpatialCropd", "roi_size": [30, 40]}, (30, 40, 1)),
        ({"_target_": "ResizeWithPadOrCropd", "spatial_size": [30, 80]}, (30, 80, 1)),
        ({"_target_": "Zoomd", "zoom": 0.5, "keep_size": False}, (32, 32, 1)),
        ({"_target_": "BorderPadd", "spatial_border": 3}, (70, 70, 1)),
        ({"_target_": "GaussianSmoothd", "sigma": 1.5}, (64, 64, 1)),
        ({"_target_": "Spacingd", "pixdim": [2.0, 2.0]}, (32, 32, 1)),
    ],
)
def test_steps_of_two_axes_leave_the_axis_across_alone(step, shape, tmp_path):
    model = load_model(traced(tmp_path, preprocessing=[{**step, "keys": "image"}]))
    flat = Volume(np.full((SIDE, SIDE, 1), 7.0, np.float32), Grid((SIDE, SIDE, 1), np.eye(4)), picture=True)
    flat.array[20:40, 20:40] = 9
    tensor = preprocess(flat, model.preprocessing()).tensor
    assert tuple(tensor.shape[1:]) == pytest.approx(shape, abs=1)
    assert float(tensor[0, tensor.shape[1] // 2, tensor.shape[2] // 2, 0]) == pytest.approx(9, abs=0.2)


def test_missing_channels_name_the_option_and_files_are_taken_as_channels(tmp_path):
    from monai.networks.nets import resnet10

    kw = {"spatial_dims": 3, "n_input_channels": 2, "num_classes": 2}
    torch.save(resnet10(**kw).state_dict(), tmp_path / "r.pth")
    (tmp_path / "r.json").write_text(json.dumps({"network": {"_target_": "resnet10", **kw}, "labels": ["a", "b"]}))
    model = load_model(tmp_path / "r.pth")
    rng = np.random.default_rng(0)
    first, second = (rng.normal(0, 1, (24, 24, 24)).astype(np.float32) for _ in range(2))
    for name, array in (("a", first), ("b", second), ("both", np.stack([first, second]))):
        write_volume(tmp_path / f"{name}.nrrd", Volume(array, Grid((24, 24, 24), np.eye(4))))
    with pytest.raises(InputError, match="--channels"):
        read_for_model(model, tmp_path / "a.nrrd")
    two = read_for_model(model, tmp_path / "a.nrrd", [tmp_path / "b.nrrd"])
    np.testing.assert_array_equal(two.array, read_for_model(model, tmp_path / "both.nrrd").array)
    maps = []
    for number, (scan, channels) in enumerate((("a", [str(tmp_path / "b.nrrd")]), ("both", []))):
        job = Job(
            task="explain-prediction",
            model=str(tmp_path / "r.pth"),
            inputs={"volume": str(tmp_path / f"{scan}.nrrd")},
            options={"methods": ["saliency"], "channels": channels},
            output=str(tmp_path / str(number)),
        )
        result = run_job(job)
        assert result.status == "finished", result.error
        item = next(artifact for artifact in result.artifacts if artifact.kind == "volume")
        maps.append(read_volume(tmp_path / str(number) / item.file).array)
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    "low, high, warned",
    [(-1000, 800, False), (0, 4095, True), (0, 1, True), (-3, 3, True), (0, 300, True), (-120, 300, False)],
)
def test_values_that_are_no_hounsfield_units_are_named(low, high, warned, tmp_path):
    step = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -1000, "a_max": 400, "b_min": 0, "b_max": 1}
    model = load_model(traced(tmp_path, preprocessing=[step]))
    array = np.random.default_rng(0).uniform(low, high, (16, 16, 16)).astype(np.float32)
    text = unlike_hounsfield(Volume(array, Grid((16, 16, 16), np.eye(4))), model)
    assert bool(text) == warned and (not warned or "HU" in text)
    assert not unlike_hounsfield(Volume(array, Grid((16, 16, 16), np.eye(4))), load_model(traced(tmp_path)))
