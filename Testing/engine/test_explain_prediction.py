"""The task explain-prediction from files to artifacts, on models whose answer has a known cause."""

import csv
import re

import nrrd
import numpy as np
import pytest
import torch
from support.prediction_models import BRIGHT, model_of, session_with
from support.scans import GRIDS, LESION_POINT, Ball, lung_mask, thorax
from xaiengine.app.run import run_job
from xaiengine.attribution.explanation import Explanation
from xaiengine.attribution.registry import METHODS, unreliable
from xaiengine.core.job import Job
from xaiengine.core.progress import Progress
from xaiengine.inference.scan_view import view_scan
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.lesions.lungs.lungs import segment_lungs
from xaiengine.lesions.lungs.lungs_alone import lungs_alone
from xaiengine.tasks.explain_prediction.options import ExplainPredictionOptions

BALL = Ball(radius=9.0, value=BRIGHT)


def write_scan(folder, grid=GRIDS["axial"], lesions=(BALL,)):
    return str(write_volume(folder / "scan.nrrd", thorax(grid, lesions)))


def explain(folder, model, progress=None, scan=None, **options):
    options = {"volume": scan or write_scan(folder), "model": "bright ball", **options}
    job = Job(task="explain-prediction", options=options, output=str(folder / "out"))
    return run_job(job, progress, session=session_with(model))


def rows_of(result, folder, role):
    with open(folder / "out" / result.artifact(role).file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", sorted(GRIDS))
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_cause_is_found_at_its_place_in_the_patient(tmp_path, name, spatial_dims):
    """In the file, for every geometry, through reorientation and resampling."""
    model = model_of(spatial_dims=spatial_dims)
    options = {"methods": ["input_x_gradient"], "target": "ball", "baseline": "zero"}
    result = explain(tmp_path, model, scan=write_scan(tmp_path, GRIDS[name]), **options)
    assert result.status == "finished", result.error
    found = read_volume(tmp_path / "out" / result.artifact("attribution").file)
    assert found.grid.same_as(GRIDS[name])
    weights = np.maximum(found.array, 0)
    center = np.array([(weights * axis).sum() / weights.sum() for axis in np.indices(found.grid.shape)])
    error = np.abs(center - found.grid.ras_to_index(np.array(LESION_POINT)))
    assert (error * found.grid.spacing).max() < max(3.0, 0.7 * max(found.grid.spacing))


def test_all_methods_run_in_one_job_and_point_at_the_cause(tmp_path):
    names = [name for name in METHODS if name not in ("layer_activation", "input_iba")]
    options = {"masks": 60, "coalitions": 40, "regions": 16, "permutations": 2, "samples": 4, "schedule": "reference"}
    options["layers"] = ["bright", "late"]
    scan = write_scan(tmp_path, Grid.from_directions((24, 20, 16), (4.8, 4.8, 6.0), None, (-55.0, -46.0, -45.0)))
    model = model_of(spacing=None)
    result = explain(tmp_path, model, scan=scan, methods=names, target="ball", **options)
    assert result.status == "finished", result.error
    table = {row["method"]: row for row in rows_of(result, tmp_path, "methods")}
    left_out = [text for text in result.warnings if "left out" in text]
    assert len(table) + len(left_out) == len(names)
    # All weights are positive, so guiding changes nothing; and the head sums where CAM wants a mean.
    transformers_only = {"Attention rollout", "Gradient-weighted attention", "LeGrad"}
    needs_references = {"Shapley values against healthy scans", "Expected gradients against healthy scans"}
    not_here = {"Guided backpropagation", "Deconvolution", "CAM"} | transformers_only | needs_references
    assert {text.split(" was left")[0] for text in left_out} <= not_here
    assert len(rows_of(result, tmp_path, "agreement")) == len(table) * (len(table) - 1) // 2
    grid = read_volume(scan).grid
    near = (
        np.linalg.norm(
            np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1) @ grid.affine[:3, :3].T
            + grid.affine[:3, 3]
            - LESION_POINT,
            axis=-1,
        )
        < 22
    )
    for item in result.artifacts:
        if item.kind != "volume" or item.role == "attribution" or item.units.endswith("input unit"):
            continue
        method = item.role.removeprefix("attribution-")
        if method in METHODS and METHODS[method].family in ("cam", "layer", "perturbation", "gradient"):
            positive = np.maximum(read_volume(tmp_path / "out" / item.file).array, 0)
            unspecific = method in ("deconvolution", "rise", "layer_activation", "internal_influence")
            unspecific |= method in ("feature_ablation", "shapley_sampling", "kernel_shap", "lime")  # 16 large regions
            assert positive[near].sum() / positive.sum() > (0.02 if unspecific else 0.5), method


def test_methods_that_hardly_heed_the_weights_are_marked_in_the_options_and_in_results(tmp_path):
    assert {"vargrad", "deconvolution"} < set(unreliable("classification"))
    assert ", ".join(unreliable("classification")) in ExplainPredictionOptions.model_fields["methods"].description
    assert METHODS["vargrad"].caution_for("classification") and not METHODS["gradcam"].caution_for("classification")
    model = model_of("regression", head=(0.02,), labels=("burden",), activation="none", spacing=3.0)
    result = explain(tmp_path, model, methods=["vargrad", "gradcam", "inverse_iba"], schedule="reference")
    assert result.status == "finished", result.error
    said = " ".join(result.warnings)
    assert "VarGrad: Its map stays partly" in said and "Grad-CAM: Its map stays partly" in said
    assert "Inverse information bottleneck: Its map" not in said


def test_the_completeness_of_integrated_gradients_survives_the_way_back(tmp_path):
    """The map's sum on the scan's grid is the change of the logit between baseline and scan."""
    model = model_of(spacing=None)
    result = explain(tmp_path, model, methods=["integrated_gradients"], target="ball", baseline="zero", max_steps=64)
    scan = thorax(GRIDS["axial"], (BALL,)).array.astype(np.float32)
    inputs = torch.from_numpy(np.clip((scan + 1000) / 1400, 0, 1))[None, None]
    change = float((model.network(inputs) - model.network(torch.zeros_like(inputs)))[0, 1])
    assert result.values["completeness_error"] < 0.05
    assert result.values["map_sum"] == pytest.approx(change, rel=0.05)
    assert re.fullmatch(r"R -?\d+\.\d, A -?\d+\.\d, S -?\d+\.\d", result.values["peak"])


def test_region_table_tells_how_much_lies_in_each_segment(tmp_path):
    grid = GRIDS["axial"]
    masks = [Mask("left lung", lung_mask(grid, "left")), Mask("right lung", lung_mask(grid, "right"))]
    path = str(write_segmentation(tmp_path / "lungs.seg.nrrd", Segmentation.from_masks(masks, grid)))
    result = explain(tmp_path, model_of(), methods=["layercam", "occlusion"], target="ball", segments=path)
    assert result.status == "finished", result.error
    rows = rows_of(result, tmp_path, "regions")
    assert [row["segment"] for row in rows] == ["left lung", "right lung", "outside all segments"] * 2
    for first in (0, 3):
        parts = [float(row["part of |map| (%)"]) for row in rows[first : first + 3]]
        assert parts[0] > 60 and parts[1] < 20 and sum(parts) == pytest.approx(100)
        assert int(rows[first]["rank"]) == 1


def test_segments_can_be_the_regions_of_shapley_values(tmp_path):
    grid = GRIDS["axial"]
    masks = [Mask("left lung", lung_mask(grid, "left")), Mask("right lung", lung_mask(grid, "right"))]
    path = str(write_segmentation(tmp_path / "lungs.seg.nrrd", Segmentation.from_masks(masks, grid)))
    options = {"methods": ["kernel_shap"], "segments": path, "regions_from": "segments"}
    result = explain(tmp_path, model_of(spacing=None), target="ball", **options)
    assert result.status == "finished", result.error
    rows = rows_of(result, tmp_path, "regions")
    assert float(rows[0]["attribution"]) > 5 * abs(float(rows[1]["attribution"]))


@pytest.mark.parametrize("methods", [["iba"], ["inverse_iba"], ["multilayer_iba"], ["input_iba"]])
def test_regression_is_explained_by_every_bottleneck(tmp_path, methods):
    model = model_of("regression", head=(0.02,), labels=("burden",), activation="none", spacing=3.0)
    result = explain(tmp_path, model, methods=methods, schedule="reference", layers=["bright", "late"])
    assert result.status == "finished", result.error
    assert result.values["explained_target"] == "burden"
    assert result.values["total_bits"] > 0


@pytest.mark.parametrize("loss, more", [("keep", {}), ("label", {"regression_label": 1.0}), ("maximise", {})])
def test_regression_losses(tmp_path, loss, more):
    model = model_of("regression", head=(0.02,), labels=("burden",), activation="none", spacing=3.0)
    result = explain(tmp_path, model, methods=["iba"], schedule="reference", regression_loss=loss, **more)
    assert result.status == "finished", result.error


@pytest.mark.parametrize(
    "model, options, value",
    [
        (model_of(), {"target": "ball", "against": "healthy"}, "logit of ball minus logit of healthy"),
        (model_of(), {"top_k": 2}, "logit of ball + healthy"),
        (model_of(activation="sigmoid", task="multilabel"), {"target": "1"}, "logit of ball"),
        (model_of(head=(0.05,), labels=("ball",), activation="sigmoid"), {}, "logit of ball"),
        (model_of(head=(0.05,), activation="sigmoid"), {"target": "healthy"}, "logit of healthy"),
        (model_of(), {"score": "probability"}, "probability of ball"),
    ],
)
def test_targets(tmp_path, model, options, value):
    result = explain(tmp_path, model, methods=["saliency", "iba"], schedule="reference", **options)
    assert result.status == "finished", result.error
    assert result.values["explained_target"] == value


@pytest.mark.parametrize("slices, count", [("highest", 1), ("all", 32), ("confident", None), ("16", 1)])
def test_slices_are_chosen(tmp_path, slices, count):
    model = model_of(spatial_dims=2, spacing=None)
    result = explain(tmp_path, model, methods=["gradcam"], target="ball", slices=slices)
    assert result.status == "finished", result.error
    table = rows_of(result, tmp_path, "prediction")
    explained = [int(row["sample"]) for row in table if row["explained"] == "yes"]
    confident = [int(row["sample"]) for row in table if float(row["ball"]) >= 0.5]
    assert len(explained) == (count or len(confident))
    if slices == "confident":
        assert explained == confident
    values = read_volume(tmp_path / "out" / "attribution.nrrd").array
    assert not values[:, :, [row for row in range(32) if row not in explained]].any()


def test_a_model_trained_on_lungs_sees_the_lungs_alone(tmp_path):
    """Whatever lies outside the lungs then changes neither the answer nor the map."""
    lungs_only = model_of(spacing=None, defaults={"quantify-lesions": {"outside_lungs": -1000}})
    grid = GRIDS["axial"]
    scan = thorax(grid, (BALL,))
    view = view_scan(scan, lungs_only, shown_part=lungs_alone)
    inside = segment_lungs(scan.array, grid).combined
    shown = view.samples[0, 0].numpy()
    assert "trained on lungs alone" in view.note
    assert (shown[~inside] == 0).all() and shown[inside].max() > 0
    assert view.volume is scan
    assert view_scan(scan, model_of(spacing=None), shown_part=lungs_alone).note == ""


def test_an_image_of_one_slice_is_explained(tmp_path):
    grid = Grid.from_directions((40, 36, 1), (1.0, 1.0, 1.0))
    image = np.full(grid.shape, -500, np.int16)
    image[20:30, 10:18] = BRIGHT
    path = str(write_volume(tmp_path / "xray.nrrd", Volume(image, grid, "x-ray")))
    result = explain(tmp_path, model_of(spatial_dims=2, spacing=None), scan=path, methods=["occlusion", "iba"])
    assert result.status == "finished", result.error
    assert any("pure noise" in text for text in result.warnings)
    values = read_volume(tmp_path / "out" / "attribution.nrrd").array
    inside = values[19:31, 9:19].sum() / values.sum()
    assert inside > 0.6
    assert result.artifact("picture") is not None


def test_further_maps_are_written_when_asked_for(tmp_path):
    options = {"methods": ["smoothgrad", "vargrad"], "samples": 4, "extra_maps": True}
    result = explain(tmp_path, model_of(), target="ball", **options)
    roles = [item.role for item in result.artifacts]
    assert {"attribution", "attribution-variance", "attribution-vargrad", "consensus", "disagreement"} <= set(roles)
    variance = nrrd.read(str(tmp_path / "out" / "attribution-variance.nrrd"))[0]
    assert variance.min() >= 0 and variance.max() > 0


def test_an_all_zero_map_is_said_and_not_scaled(tmp_path):
    model = model_of(spacing=None)
    result = explain(tmp_path, model, scan=write_scan(tmp_path, lesions=()), methods=["saliency"], target="ball")
    assert result.status == "finished", result.error
    assert any("zero everywhere" in text for text in result.warnings)
    assert not read_volume(tmp_path / "out" / "attribution.nrrd").array.any()


def test_the_same_seed_gives_the_same_maps(tmp_path):
    maps = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        explain(tmp_path / folder, model_of(spacing=3.0), methods=["iba"], target="ball", schedule="reference")
        maps.append(read_volume(tmp_path / folder / "out" / "attribution.nrrd").array)
    np.testing.assert_array_equal(*maps)


def test_the_network_is_left_as_it_was(tmp_path):
    model = model_of()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    explain(tmp_path, model, methods=["iba", "guided_backpropagation", "layer_conductance"], target="ball")
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert all(not module._forward_hooks and not module._backward_hooks for module in model.network.modules())
    assert all(parameter.requires_grad for parameter in model.network.parameters())


@pytest.mark.parametrize("method", ["integrated_gradients", "iba", "occlusion", "layer_conductance"])
def test_cancelling_leaves_no_artifact(tmp_path, method):
    seen = []
    progress = Progress(lambda event: seen.append(event), cancelled=lambda: any(e.done > 1 for e in seen), interval=0)
    result = explain(tmp_path, model_of(), progress, methods=[method], target="ball")
    assert result.status == "cancelled"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_progress_reaches_the_end_and_never_falls(tmp_path):
    seen = []
    progress = Progress(lambda event: seen.append(event.fraction), interval=0)
    explain(tmp_path, model_of(spacing=3.0), progress, methods=["iba", "rise"], masks=20, target="ball")
    assert seen[-1] == 1.0 and seen == sorted(seen)


@pytest.mark.parametrize(
    "model, options, message",
    [
        (model_of(), {"target": "cat"}, "0 healthy, 1 ball"),
        (model_of(), {"target": "7"}, "no output"),
        (model_of(), {"methods": ["gradcan"]}, "gradcam"),
        (model_of(), {"methods": ["iba"], "layers": ["lat"]}, "late"),
        (model_of(), {"methods": ["gradcam"], "layers": ["head"]}, "not a feature map"),
        (model_of(), {"regression_loss": "maximise", "methods": ["iba"]}, "for regression models"),
        (model_of(), {"target": "ball", "against": "ball"}, "against itself"),
        (model_of(), {"baseline": "scan"}, "none was given"),
        (model_of(), {"regions_from": "segments", "methods": ["lime"]}, "none were given"),
        (model_of("segmentation"), {}, "explain-segmentation"),
        (model_of(spatial_dims=2), {"slices": "999"}, "Choose 0 to"),
        (model_of(), {"occlusion_mm": 900, "methods": ["occlusion"]}, "whole image"),
        (model_of(in_channels=2), {}, "2 channels"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(tmp_path, model, options, message):
    result = explain(tmp_path, model, **options)
    assert result.status == "failed"
    assert message in f"{result.error.message} {result.error.remedy}" and result.error.remedy
    assert not result.error.details


def test_a_flat_image_is_refused_by_a_volume_model(tmp_path):
    grid = Grid.from_directions((40, 36, 1), (1.0, 1.0, 1.0))
    image = np.random.default_rng(0).integers(-500, 500, grid.shape).astype(np.int16)
    path = str(write_volume(tmp_path / "flat.nrrd", Volume(image, grid, "flat")))
    result = explain(tmp_path, model_of(), scan=path)
    assert result.status == "failed" and "two-dimensional" in result.error.message


def test_a_map_without_capability_is_refused(tmp_path):
    from xaiengine.models.explained_model import Capabilities

    limits = Capabilities(differentiable=False, reasons={"differentiable": "it is an ONNX file"})
    result = explain(tmp_path, model_of(capabilities=limits), methods=["saliency"])
    assert "ONNX" in result.error.message
    result = explain(tmp_path, model_of(capabilities=limits), methods=["occlusion"], target="ball")
    assert result.status == "finished", result.error


class BlackBox(torch.nn.Module):
    """A network that shows no layers and takes one sample at a time, as exported models do."""

    def __init__(self, network):
        super().__init__()
        self._hidden = [network]

    def forward(self, inputs):
        assert len(inputs) == 1
        return self._hidden[0](inputs)


def test_models_without_layers_or_batches_are_explained_by_perturbation_and_gradient(tmp_path):
    from dataclasses import replace

    from xaiengine.models.explained_model import Capabilities

    limits = Capabilities(layers=False, free_batch=False, reasons={"layers": "it is a TorchScript file"})
    model = model_of(spacing=None, capabilities=limits)
    methods = ["occlusion", "integrated_gradients"]
    found = {}
    for folder, box in (("open", model.network), ("closed", BlackBox(model.network))):
        (tmp_path / folder).mkdir()
        given = replace(model, network=box, capabilities=limits if folder == "closed" else Capabilities())
        result = explain(tmp_path / folder, given, methods=methods, target="ball", occlusion_mm=15, steps=8)
        assert result.status == "finished", result.error
        found[folder] = read_volume(tmp_path / folder / "out" / "attribution.nrrd").array
    np.testing.assert_allclose(found["open"], found["closed"], atol=1e-7)
    refused = explain(tmp_path, replace(model, network=BlackBox(model.network)), methods=["iba"], target="ball")
    assert "TorchScript" in refused.error.message


def test_amounts_keep_their_sum_on_another_grid():
    coarse = Grid.from_directions((8, 8, 8), (4.0, 4.0, 4.0))
    values = np.zeros((8, 8, 8), np.float32)
    values[3:5, 3:5, 3:5] = 2.0
    found = Explanation(values, coarse, "iba", "IBA", "t", unit="bits/voxel").on(coarse.resized((16, 16, 16)))
    assert found.map.sum() == pytest.approx(16.0, rel=1e-3)
