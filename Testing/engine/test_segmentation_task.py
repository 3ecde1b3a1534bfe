"""The task explain-segmentation from file to files: places in the patient, targets, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from support.segmentation_bundles import OBLIQUE, bright_bundle, bright_scan, random_unet_bundle, write_bundle
from xaiengine.app.run import run_job
from xaiengine.attribution.registry import RESIDUE, unreliable
from xaiengine.core.job import Job
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import read_segmentation, write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return bright_bundle(tmp_path_factory.mktemp("bright"))


@pytest.fixture(scope="module")
def unet(tmp_path_factory) -> Path:
    return random_unet_bundle(tmp_path_factory.mktemp("unet"))


def explain(folder: Path, model: Path, scan: Path | str, inputs: dict | None = None, **options):
    options.setdefault("methods", ["input-x-gradient"])
    options.setdefault("receptive_field", False)
    return run_job(
        Job(
            task="explain-segmentation",
            model=str(model),
            inputs={"volume": str(scan), **(inputs or {})},
            options=options,
            output=str(folder / "out"),
        )
    )


def finished(folder: Path, *arguments, **options):
    result = explain(folder, *arguments, **options)
    assert result.status == "finished", result.error
    return result


def rows(folder: Path, name: str) -> list[dict]:
    with open(folder / "out" / name, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def center_ras(values: np.ndarray, grid: Grid) -> np.ndarray:
    voxels = np.argwhere(values != 0)
    weights = np.abs(values[values != 0]).astype(float)
    return grid.index_to_ras((voxels * weights[:, None]).sum(0) / weights.sum())


LEFT = np.diag([-0.8, 0.8, 2.5, 1.0])
SAGITTAL = np.array([[0, 0, 2.0, 5], [-1.1, 0, 0, 9], [0, 1.3, 0, -4], [0, 0, 0, 1.0]])
RESAMPLED = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [1.2, 1.2, 1.2], "mode": "bilinear"},
]
CROPPED = [
    *RESAMPLED[:2],
    {"_target_": "SpatialCropd", "keys": "image", "roi_start": [3, 2, 1], "roi_end": [22, 18, 16]},
]


@pytest.mark.parametrize("affine", [OBLIQUE, LEFT, SAGITTAL], ids=["oblique", "left-handed", "sagittal"])
@pytest.mark.parametrize("transforms", [None, RESAMPLED, CROPPED], ids=["as it is", "resampled", "cropped"])
def test_a_map_lies_where_the_structure_lies_in_the_patient(tmp_path, affine, transforms):
    """The network's evidence is the bright block itself, so the map's center must be the block's."""
    model = bright_bundle(tmp_path / "model", transforms=transforms)
    mask = bright_scan(tmp_path / "scan.nrrd", affine, noise=0.02)
    result = finished(tmp_path, model, tmp_path / "scan.nrrd", baseline="zero")
    scan = read_volume(tmp_path / "scan.nrrd")
    found = read_volume(tmp_path / "out" / "attribution.nrrd")
    assert found.grid.same_as(scan.grid)
    off = scan.grid.ras_to_index(center_ras(found.array, found.grid)) - np.argwhere(mask).mean(0)
    assert np.abs(off).max() < 0.6
    target = read_segmentation(tmp_path / "out" / "target.seg.nrrd").union()
    assert 2 * (target & mask).sum() / (target.sum() + mask.sum()) > 0.75
    assert result.values["outside_percent"] < 5


def test_integrated_gradients_of_a_linear_network_have_their_closed_form(tmp_path, bundle):
    mask = bright_scan(tmp_path / "scan.nrrd")
    finished(tmp_path, bundle, tmp_path / "scan.nrrd", methods=["integrated-gradients"], baseline="zero", steps=3)
    scan = read_volume(tmp_path / "scan.nrrd").array
    found = read_volume(tmp_path / "out" / "attribution.nrrd").array
    predicted = 4 * scan - 4 > 0
    assert np.array_equal(predicted, mask)
    assert np.allclose(found, np.where(mask, 4 * scan / mask.sum(), 0), atol=1e-5)


def test_occlusion_keeps_to_the_region_of_interest(tmp_path, bundle):
    """Within the region the map is that of the whole scan, a block away from it there is nothing."""
    mask = bright_scan(tmp_path / "scan.nrrd")
    grid = read_volume(tmp_path / "scan.nrrd").grid
    region = np.zeros_like(mask)
    region[tuple(slice(low, low + 3) for low in np.argwhere(mask).min(0))] = True
    path = write_segmentation(tmp_path / "roi.seg.nrrd", Segmentation.from_masks([Mask("box", region)], grid))
    options = {"methods": ["occlusion"], "block": 2 * min(grid.spacing), "baseline": "zero"}
    maps, passes = [], []
    for inputs in ({}, {"roi": str(path)}):
        result = finished(tmp_path, bundle, tmp_path / "scan.nrrd", inputs, **options)
        maps.append(read_volume(tmp_path / "out" / "attribution.nrrd").array)
        passes.append((result.provenance["windows"]["forward_passes"], result.provenance["estimate"]["forward"]))
    whole, limited = maps
    near = ndimage.binary_dilation(region, np.ones((5, 5, 5)))
    assert whole[~near].any() and not limited[~near].any()
    np.testing.assert_allclose(limited[region], whole[region], rtol=1e-5)
    assert limited[region].any()
    assert passes[1][0] < passes[0][0] / 2 and passes[1][1] < passes[0][1] / 2, "and what it takes is estimated"


def test_a_region_of_interest_beside_the_scan_is_refused(tmp_path, bundle):
    mask = bright_scan(tmp_path / "scan.nrrd")
    grid = read_volume(tmp_path / "scan.nrrd").grid
    beside = Grid(grid.shape, np.array(grid.affine) + [[0, 0, 0, 5000.0], [0] * 4, [0] * 4, [0] * 4])
    path = write_segmentation(tmp_path / "roi.seg.nrrd", Segmentation.from_masks([Mask("box", mask)], beside))
    result = explain(tmp_path, bundle, tmp_path / "scan.nrrd", {"roi": str(path)}, methods=["occlusion"])
    assert result.status == "failed" and "scan" in result.error.message and result.error.remedy


@pytest.mark.parametrize("target", ["class", "component", "voxel", "boundary", "volume", "segment", "dice"])
def test_every_target_is_explained_and_says_what_it_is(tmp_path, bundle, target):
    mask = bright_scan(tmp_path / "scan.nrrd")
    grid = read_volume(tmp_path / "scan.nrrd").grid
    other = np.roll(mask, 2, axis=0)
    write_segmentation(tmp_path / "other.seg.nrrd", Segmentation.from_masks([Mask("organ", other)], grid))
    point = ",".join(f"{x:.2f}" for x in grid.index_to_ras(np.argwhere(mask).mean(0)))
    seg = str(tmp_path / "other.seg.nrrd")
    result = finished(
        tmp_path, bundle, tmp_path / "scan.nrrd", {"segmentation": seg, "reference": seg}, target=target, point=point
    )
    row = rows(tmp_path, "summary.csv")[0]
    scan = read_volume(tmp_path / "scan.nrrd").array.astype(float)
    p = 1 / (1 + np.exp(-(4 * scan - 4)))
    center = tuple(np.round(np.argwhere(mask).mean(0)).astype(int))
    expected = {
        "class": (4 * scan - 4)[mask].mean(),
        "component": (4 * scan - 4)[mask].mean(),
        "voxel": (4 * scan - 4)[center],
        "volume": p.sum() * grid.voxel_volume_ml,
        "segment": (4 * scan - 4)[other].mean(),
        "dice": 2 * p[other].sum() / (p.sum() + other.sum()),
    }
    if target in expected:
        assert float(row["value"]) == pytest.approx(expected[target], rel=1e-3)
    assert "bright" in row["target"]
    region = {r["segment"]: r for r in rows(tmp_path, "regions.csv")}
    assert float(region["organ"]["volume (mL)"]) == pytest.approx(other.sum() * grid.voxel_volume_ml, rel=1e-4)
    assert result.values["windows"] >= 1


def test_false_positives_and_negatives_are_explained_and_corrected(tmp_path, bundle):
    mask = bright_scan(tmp_path / "scan.nrrd", noise=0.02)
    grid = read_volume(tmp_path / "scan.nrrd").grid
    truth = mask.copy()
    truth[8:10] = False  # these are false positives
    truth[13:15, 6:11, 5:10] = True  # and these are missed
    write_segmentation(tmp_path / "truth.seg.nrrd", Segmentation.from_masks([Mask("truth", truth)], grid))
    result = finished(
        tmp_path,
        bundle,
        tmp_path / "scan.nrrd",
        {"reference": str(tmp_path / "truth.seg.nrrd")},
        target="errors",
        baseline="zero",
    )
    names = [row["target"] for row in rows(tmp_path, "summary.csv")]
    assert any("false positives" in name for name in names) and any("false negatives" in name for name in names)
    negative = read_volume(tmp_path / "out" / "correction-bright-false-negatives.nrrd").array
    missed, extra = truth & ~mask, mask & ~truth
    assert negative[missed].mean() > 0 and np.abs(negative[~missed]).max() == 0  # brighter, and only there
    positive = read_volume(tmp_path / "out" / "correction-bright-false-positives.nrrd").array
    assert positive[extra].mean() < 0
    assert result.values["corrected_bright-false-negatives_percent"] > 90
    scan = read_volume(tmp_path / "scan.nrrd").array
    says = scan + negative > 1  # what the network calls bright
    assert says[missed].mean() > 0.9 and np.array_equal(says[~missed], (scan > 1)[~missed])
    table = rows(tmp_path, "correction-bright-false-negatives.csv")
    shares = [float(row["error corrected (%)"]) for row in table]
    assert shares == sorted(shares)


def test_several_methods_and_classes_each_get_their_map_and_their_curve(tmp_path, unet):
    bright_scan(tmp_path / "scan.nrrd")
    result = finished(
        tmp_path,
        unet,
        tmp_path / "scan.nrrd",
        methods=["saliency", "grad-cam", "layer-activation"],
        classes=["0", "1"],
        matrix=True,
        receptive_field=True,
    )
    roles = {item.role: item for item in result.artifacts}
    assert {"attribution", "magnitude", "target", "summary", "picture", "distance", "distance-chart"} <= set(roles)
    volumes = [item for item in result.artifacts if item.kind == "volume"]
    assert len(volumes) == 7  # 3 methods x 2 targets, and the magnitude of the first
    assert roles["attribution"].display["window"][0] == -roles["attribution"].display["window"][1]
    assert roles["attribution-gradcam-class-0"].display["colors"] == "heat"
    assert len(rows(tmp_path, "summary.csv")) == 6
    assert result.values["receptive_50_mm"] <= result.values["receptive_90_mm"]
    for item in volumes:
        assert np.any(read_volume(tmp_path / "out" / item.file).array), item.role


def test_methods_that_hardly_heed_the_weights_say_so(tmp_path, unet):
    bright_scan(tmp_path / "scan.nrrd", OBLIQUE)
    methods = ["vargrad", "saliency"]
    result = finished(tmp_path, unet, tmp_path / "scan.nrrd", methods=methods, samples=2)
    assert [text for text in result.warnings if text.endswith(RESIDUE)] == [f"VarGrad: {RESIDUE}"]
    assert "vargrad" in unreliable("segmentation") and "saliency" not in unreliable("segmentation")


def test_the_matrix_tells_which_structure_each_class_relies_on(tmp_path):
    """Three classes; the third is called where the first channel is dark, from the second structure's contrast."""
    definition = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    network = torch.nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 4.0, -4.0]).reshape(3, 1, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -4.0, -4.0]))
    model = write_bundle(
        tmp_path / "model", network, definition, explanation={"labels": ["background", "bright", "dark"]}
    )
    mask = bright_scan(tmp_path / "scan.nrrd", noise=0.02)
    volume = read_volume(tmp_path / "scan.nrrd")
    dark = np.roll(mask, 9, axis=0)
    array = volume.array.copy()
    array[dark] -= 2
    write_volume(tmp_path / "scan.nrrd", volume.with_array(array))
    finished(tmp_path, model, tmp_path / "scan.nrrd", matrix=True, classes=["bright"], baseline="zero")
    matrix = {row["segmentation of"]: row for row in rows(tmp_path, "matrix.csv")}
    assert float(matrix["bright"]["bright"]) > 99 and float(matrix["bright"]["dark"]) < 1
    assert float(matrix["dark"]["dark"]) > 99


def test_the_importance_of_each_channel_is_told(tmp_path):
    model = bright_bundle(tmp_path / "model", channels=2)
    bright_scan(tmp_path / "a.nrrd")
    bright_scan(tmp_path / "b.nrrd")
    finished(tmp_path, model, tmp_path / "a.nrrd", {"channels": [str(tmp_path / "b.nrrd")]}, baseline="zero")
    shares = [float(row["part of |map| (%)"]) for row in rows(tmp_path, "channels.csv")]
    assert shares == pytest.approx([100.0, 0.0])


def test_a_slice_wise_model_is_explained_on_the_volume(tmp_path):
    definition = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}
    torch.manual_seed(0)
    model = write_bundle(
        tmp_path / "model",
        torch.nn.Conv2d(1, 2, 3, padding=1),
        definition,
        explanation={"inference": {"kind": "slices", "plane": "axial"}},
    )
    bright_scan(tmp_path / "scan.nrrd", SAGITTAL)
    result = finished(tmp_path, model, tmp_path / "scan.nrrd", methods=["saliency"], classes=["1"])
    assert json.loads((tmp_path / "out" / "result.json").read_text())["provenance"]["windows"]["size"] == [24, 1, 18]
    assert result.values["target_ml"] > 0


def test_the_estimate_counts_what_then_happens(tmp_path, unet):
    bright_scan(tmp_path / "scan.nrrd")
    result = finished(
        tmp_path,
        unet,
        tmp_path / "scan.nrrd",
        methods=["integrated-gradients", "occlusion"],
        classes=["1"],
        steps=4,
        block=10,
    )
    estimate, windows = result.provenance["estimate"], result.provenance["windows"]
    predicted = windows["count"] + 1 + 2 + windows["count"]  # trial, prediction, measurement, cache of occlusion
    assert windows["forward_passes"] == estimate["forward"] + predicted
    assert windows["backward_passes"] == estimate["backward"]


REFUSALS = {
    "an unknown class": (dict(classes=["liver"]), "segments no 'liver'", "0 background, 1 bright"),
    "an unknown method": (dict(methods=["grad-kam"]), "no method called 'grad-kam'", "gradcam"),
    "a point outside": (dict(target="voxel", point="900,0,0"), "outside scan", "inside the scan"),
    "a point that is none": (dict(target="voxel", point="here"), "not a position", "12.5,-40,118"),
    "no point": (dict(target="component"), "needs a point", "R,A,S"),
    "no second class": (dict(target="difference"), "second class", "against"),
    "no reference": (dict(target="errors"), "reference", "reference"),
    "no segment": (dict(target="segment"), "needs a segmentation", "segment"),
    "gaps between blocks": (dict(methods=["occlusion"], block=4, stride=9), "leaves gaps", "no longer"),
    "an unknown layer": (dict(methods=["grad-cam"], layers=["encoder"]), "no layer 'encoder'", ""),
}


@pytest.mark.parametrize("options, message, remedy", REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_explained_is_refused_with_the_remedy(tmp_path, bundle, options, message, remedy):
    bright_scan(tmp_path / "scan.nrrd")
    result = explain(tmp_path, bundle, tmp_path / "scan.nrrd", **options)
    assert result.status == "failed"
    assert message in result.error.message
    assert remedy in result.error.remedy
    assert result.error.details == ""
    assert not list((tmp_path / "out").glob("*.nrrd"))


def test_an_empty_prediction_is_said_with_the_classes_that_are_there(tmp_path, bundle):
    array = np.random.default_rng(0).normal(0, 0.1, (16, 16, 16)).astype(np.float32)
    write_volume(tmp_path / "dark.nrrd", Volume(array, Grid((16, 16, 16), np.eye(4))))
    result = explain(tmp_path, bundle, tmp_path / "dark.nrrd")
    assert "predicts no bright" in result.error.message and "highest probability" in result.error.message
    assert "background" in result.error.remedy and "volume" in result.error.remedy
    assert explain(tmp_path, bundle, tmp_path / "dark.nrrd", target="volume").status == "finished"


def test_the_shipped_kinds_of_bad_scans_and_models_are_refused(tmp_path, bundle):
    bright_scan(tmp_path / "scan.nrrd")
    far = Segmentation.from_masks(
        [Mask("x", np.ones((5, 5, 5), bool))],
        Grid((5, 5, 5), np.diag([1, 1, 1, 1.0]) + np.array([[0, 0, 0, 900]] * 3 + [[0] * 4])),
    )
    write_segmentation(tmp_path / "far.seg.nrrd", far)
    result = explain(tmp_path, bundle, tmp_path / "scan.nrrd", {"segmentation": str(tmp_path / "far.seg.nrrd")})
    assert "does not overlap" in result.error.message
    two = bright_bundle(tmp_path / "two", channels=2)
    result = explain(tmp_path, two, tmp_path / "scan.nrrd")
    assert "takes 2 channels" in result.error.message and "--channels" in result.error.remedy
    classifier = write_bundle(
        tmp_path / "classifier",
        torch.nn.Conv3d(1, 2, 1),
        {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        explanation={"task": "classification"},
    )
    result = explain(tmp_path, classifier, tmp_path / "scan.nrrd")
    assert "does classification" in result.error.message and "explain-prediction" in result.error.remedy


def test_a_prediction_that_agrees_with_the_reference_has_no_error_to_explain(tmp_path, bundle):
    mask = bright_scan(tmp_path / "scan.nrrd")
    grid = read_volume(tmp_path / "scan.nrrd").grid
    write_segmentation(tmp_path / "truth.seg.nrrd", Segmentation.from_masks([Mask("truth", mask)], grid))
    result = explain(
        tmp_path, bundle, tmp_path / "scan.nrrd", {"reference": str(tmp_path / "truth.seg.nrrd")}, target="errors"
    )
    assert "no error to explain" in result.error.message


@pytest.mark.parametrize(
    "text",
    [
        '{"markups": [{"coordinateSystem": "LPS", "controlPoints": [{"position": [-1.5, 2.5, 3.5]}]}]}',
        "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n1,-1.5,2.5,3.5,0,0,0,1,1,1,0,F-1,,\n",
    ],
)
def test_points_are_read_from_markups_files_in_their_own_coordinates(tmp_path, text):
    from xaiengine.targets.points import read_point

    path = tmp_path / ("p.mrk.json" if text.startswith("{") else "p.fcsv")
    path.write_text(text, encoding="utf-8")
    assert read_point(str(path)).tolist() == [1.5, -2.5, 3.5]
    assert read_point("1.5, -2.5 3.5").tolist() == [1.5, -2.5, 3.5]


def test_a_two_dimensional_image_is_explained(tmp_path):
    definition = {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 4.0]).reshape(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, -4.0]))
    model = write_bundle(tmp_path / "model", network, definition, explanation={"inference": {"kind": "slices"}})
    array = np.random.default_rng(0).normal(0, 0.1, (40, 30, 1)).astype(np.float32)
    array[10:20, 5:15] += 2
    write_volume(tmp_path / "image.nrrd", Volume(array, Grid((40, 30, 1), np.diag([0.5, -0.5, 1, 1.0]))))
    result = finished(
        tmp_path,
        model,
        tmp_path / "image.nrrd",
        baseline="zero",
        classes=["1"],
        block=5,
        methods=["input-x-gradient", "occlusion"],
    )
    found = read_volume(tmp_path / "out" / "attribution.nrrd").array[..., 0]
    assert np.count_nonzero(found[10:20, 5:15]) == 100 == np.count_nonzero(found)
    assert result.values["target_ml"] == pytest.approx(100 * 0.25 / 1000)


def test_bits_of_the_map_sum_to_the_total_that_is_told(tmp_path, unet):
    bright_scan(tmp_path / "scan.nrrd")
    result = finished(tmp_path, unet, tmp_path / "scan.nrrd", methods=["iba"], classes=["1"], schedule="reference")
    found = read_volume(tmp_path / "out" / "attribution.nrrd")
    assert found.unit == "bits/voxel"
    assert float(found.array.sum()) == pytest.approx(result.values["total_bits"], rel=0.02)
