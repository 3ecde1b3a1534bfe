"""The Python API: an own network in five lines, results that show and save themselves, and nothing written unasked."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xaiengine as xai
from host.bright_lesion import write_model
from support.lesion_patients import grid_of, patient
from support.prediction_models import BrightBall
from torch import nn
from xaiengine.core.errors import OptionError
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.volume_files import read_volume, write_volume

SHAPE = (24, 20, 16)
QUICK = {"steps": 6, "orders": 3, "subsets": 20, "perturbations": 20, "draws": 2, "models": 1, "seeds": 2}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def ball(center=(15, 8, 9), radius=4.0):
    distance = sum((axis - middle) ** 2 for axis, middle in zip(np.ogrid[tuple(map(slice, SHAPE))], center))
    return distance <= radius**2


def scan_with_ball():
    values = np.random.default_rng(0).normal(0.5, 0.02, SHAPE) + 0.5 * ball()
    return xai.Volume(values.astype(np.float32), np.diag([1.5, 1.5, 2.0, 1.0]))


def ball_counter(dimensions=3):
    return BrightBall(dimensions, torch.tensor([-0.05, 0.05]))


class Threshold(nn.Module):
    """Segments what is bright: log-odds of foreground are 20 (x - 0.75), smoothed a little."""

    def __init__(self):
        super().__init__()
        self.smooth = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.ReLU())
        self.head = nn.Conv3d(2, 2, 1)
        with torch.no_grad():
            self.smooth[0].weight.fill_(1 / 27)
            self.smooth[0].bias.copy_(torch.tensor([0.0, -0.6]))
            self.head.weight.copy_(torch.tensor([[0.0, 0.0], [20.0, 10.0]])[..., None, None, None])
            self.head.bias.copy_(torch.tensor([0.0, -15.0]))

    def forward(self, inputs):
        return self.head(self.smooth(inputs))


# ------------------------------------------------------------------ names


def test_every_public_name_is_there_and_lazy():
    assert set(xai.__all__) == {"__version__", *xai._NAMES} and set(xai.__all__) <= set(dir(xai))
    for name in xai.__all__:
        assert getattr(xai, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        xai.nothing  # noqa: B018


def test_the_type_checker_sees_the_same_names():
    tree = ast.parse(Path(xai.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {name.name: node.module for node in block.body for name in node.names}
    assert typed == xai._NAMES


# ------------------------------------------------------------------ explaining


def test_an_own_3d_network_in_five_lines(tmp_path):
    scan, network = scan_with_ball(), ball_counter()
    model = xai.wrap(network, task="classification", labels=["healthy", "ball"])
    result = xai.explain(model, scan, methods=["occlusion", "gradcam"], target="ball", occlusion_mm=6)
    heat = result["occlusion"]
    heat.on(scan.grid).save("attribution.nrrd")
    result.figure().savefig("maps.png")

    assert list(result) == ["occlusion", "gradcam"] and result["Grad-CAM"] is result["gradcam"]
    assert heat.map.shape == SHAPE and heat.grid == scan.grid and heat.unit and heat.method == "occlusion"
    inside = np.abs(heat.map[ball()]).sum() / np.abs(heat.map).sum()
    assert inside > 0.4  # the ball is 4 % of the volume
    saved = read_volume(tmp_path / "attribution.nrrd")
    assert np.array_equal(saved.array, heat.map) and np.allclose(saved.grid.affine, scan.grid.affine)
    assert result.prediction["ball"] > 0.5 and result.target == "logit of ball"
    assert {path.name for path in tmp_path.iterdir()} == {"attribution.nrrd", "maps.png"}  # and no cache


def test_an_own_2d_network_explains_arrays_and_slices():
    model = xai.wrap(ball_counter(2), labels=["healthy", "ball"])
    picture = 0.5 + 0.5 * ball()[:, :, 9].astype(np.float32)
    flat = xai.explain(model, picture, "integrated_gradients", "ball")["integrated_gradients"]
    assert flat.map.shape == (24, 20, 1)
    assert np.abs(flat.map[ball()[:, :, 9]]).sum() > 0.5 * np.abs(flat.map).sum()
    sliced = xai.explain(model, scan_with_ball(), "saliency", "ball", slices="all")["saliency"]
    assert sliced.map.shape == SHAPE
    rest = np.delete(np.arange(16), np.arange(4, 15))
    assert np.abs(sliced.map[:, :, 9]).sum() > 3 * np.abs(sliced.map[:, :, rest]).mean((0, 1)).max()


def test_a_regression_and_a_model_that_ends_in_softmax():
    scan = scan_with_ball()
    value = xai.wrap(BrightBall(3, torch.tensor([0.02])), task="regression", labels=["volume"])
    result = xai.explain(value, scan, "integrated_gradients")
    assert result.target == "volume" and abs(result.value - result.prediction["volume"]) < 1e-5
    assert result["integrated_gradients"].convergence["completeness_error"] < 0.05
    soft = xai.wrap(nn.Sequential(ball_counter(), nn.Softmax(1)), labels=["healthy", "ball"])
    plain = xai.wrap(ball_counter(), labels=["healthy", "ball"])
    predictions = [xai.explain(model, scan, "saliency", "ball").prediction["ball"] for model in (soft, plain)]
    assert abs(predictions[0] - predictions[1]) < 1e-4  # no second softmax
    assert any("softmax" in note for note in soft.notes)


@pytest.mark.parametrize("window", [(), (16, 16, 16)])
def test_targets_of_a_segmentation(window):
    scan = scan_with_ball()
    model = xai.wrap(Threshold(), "segmentation", ["background", "bright"], window=window)
    center = scan.grid.index_to_ras((15, 8, 9))
    mask = ball()
    truth = Segmentation.from_masks([Mask("ball", mask), Mask("other", np.roll(mask, 6, 0))], scan.grid)
    asked = {
        "bright over its mask": "bright",
        "component": xai.at_point(*center),
        "at the point": xai.at_point(*center, voxel=True, label="bright"),
        "inside ball": xai.at_segment(truth, "ball", label="bright"),
        "inside the region": xai.at_segment(mask),
        "inside the box": xai.box(center - 5, center + 5),
        "surface": xai.boundary("bright", width_mm=2),
        "volume": xai.volume_of("bright"),
        "minus": xai.difference("bright", against="background"),
        "false": xai.errors(truth, "other", kind="false-positives"),
    }
    for words, target in asked.items():
        result = xai.explain(model, scan, "input_x_gradient", target)
        assert "bright" in result.target and (
            words in ("component", "surface", "volume", "minus", "false") or words in result.target
        )
        heat = result["input_x_gradient"]
        assert not heat.is_empty and heat.map.shape == SHAPE
        near = np.abs(heat.map)[ball(radius=7.0)].sum() / np.abs(heat.map).sum()
        assert near > 0.8, words
    several = xai.explain(model, scan, "saliency", ["bright", "background"])
    assert list(several) == ["saliency/bright", "saliency/background"] and several.value is None


def test_a_loaded_model_and_a_scan_as_in_the_readme(tmp_path):
    volume, _, lesion = patient(grid_of((3.0, 3.0, 5.0)))
    write_volume(tmp_path / "ct.nrrd", volume)
    scan = xai.read_volume("ct.nrrd")
    model = xai.load_model(write_model(tmp_path / "my_bundle"))
    result = xai.explain(model, scan, methods=["iba", "gradcam"], target="lesion", progress=lambda line: None)
    heat = result["iba"]
    on_scan = heat.on(scan).map
    assert on_scan.shape == scan.grid.shape and on_scan[lesion].mean() > 5 * on_scan.mean() > 0
    check = xai.evaluate(heat, checks=["insertion_deletion", "randomisation"], **QUICK)
    assert list(check.checks) == ["insertion-deletion", "randomization"]
    assert check.verdict.startswith("Information bottleneck: ") and "checks passed" in str(check)
    folder = result.save("results")
    assert {path.name for path in folder.iterdir()} == {"iba.nrrd", "gradcam.nrrd", "picture.png", "summary.json"}
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["maps"]["iba"]["unit"] == heat.unit and summary["provenance"]["model"]["digest"] == model.digest


def test_notebooks_show_three_planes():
    result = xai.explain(xai.wrap(ball_counter(), labels=["healthy", "<b>ball</b>"]), scan_with_ball(), "saliency")
    for item in (result, result["saliency"]):
        assert item._repr_png_().startswith(b"\x89PNG")
        page = item._repr_html_()
        assert "data:image/png;base64," in page and "&lt;b&gt;ball" in page and "<b>ball" not in page
    assert "<table>" in xai.methods()._repr_html_()


@pytest.mark.parametrize("source", ["flips", "seeds"])
def test_uncertainty_is_the_sd_of_the_maps_of_the_runs(source):
    model = xai.wrap(ball_counter(), task="classification", labels=["healthy", "ball"])
    asked = {"methods": "smoothgrad", "target": "ball", "samples": 4}
    result = xai.explain(model, scan_with_ball(), **asked, uncertainty=source, uncertainty_runs=3)
    heat = result["smoothgrad"]
    assert heat.uncertainty.shape == SHAPE and heat.uncertainty.any()
    assert len(result.uncertainty["runs"]) == 4 and 0 < result.uncertainty["stable_share"]["smoothgrad"] <= 1
    assert xai.explain(model, scan_with_ball(), **asked)["smoothgrad"].uncertainty is None
    if source == "seeds":
        maps = [xai.explain(model, scan_with_ball(), **asked, seed=seed)["smoothgrad"].map for seed in range(4)]
        np.testing.assert_allclose(heat.uncertainty, np.std(maps, axis=0, ddof=1), rtol=1e-3, atol=1e-7)
    for wrong in ({"uncertainty": "luck"}, {"uncertainty": "flips", "uncertainty_runs": 1}):
        with pytest.raises(OptionError, match="over 'luck'|1 runs"):
            xai.explain(model, scan_with_ball(), **asked, **wrong)


def test_a_result_writes_its_report(tmp_path):
    model = xai.wrap(ball_counter(), task="classification", labels=["healthy", "<b>ball"])
    result = xai.explain(model, scan_with_ball(), ["saliency", "gradcam"], target="<b>ball", uncertainty="flips")
    page = result.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Stability of the map" in page and "Interactive planes" in page and "<b>ball" not in page
    assert "SD of Saliency" in page and "flipped along axis 1" in page
    bare = result.report(tmp_path / "bare.html", with_scan=False).read_text(encoding="utf-8")
    assert 'id="scene"' not in bare and 'id="scene"' in page
    segmenter = xai.wrap(Threshold(), "segmentation", ["background", "bright"])
    seg = xai.explain(segmenter, scan_with_ball(), "hirescam", "bright", uncertainty="flips", uncertainty_runs=2)
    page = seg.report(tmp_path / "seg.html").read_text(encoding="utf-8")
    assert "Explained" in page and "hirescam" not in page.split("<h3>")[1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["bare.html", "page.html", "seg.html"]


def test_the_same_seed_gives_the_same_map_and_progress_is_told():
    model, scan, lines = xai.wrap(ball_counter(), labels=["healthy", "ball"]), scan_with_ball(), []
    maps = [xai.explain(model, scan, "smoothgrad", seed=seed, samples=4, progress=lines.append) for seed in (1, 1, 2)]
    first, same, other = (item["smoothgrad"].map for item in maps)
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert any("SmoothGrad" in line for line in lines) and all(isinstance(line, str) for line in lines)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "words", "remedy"),
    [
        ({"methods": "gradcamm"}, "no method called 'gradcamm'", "gradcam"),
        ({"methods": "occlusion", "occlusion_m": 3}, "no setting 'occlusion_m'", "occlusion_mm"),
        ({"methods": "smoothgrad", "samples": 1}, "settings of smoothgrad do not fit", ""),
        ({"target": "tumor"}, "no output 'tumor'", "healthy"),
        ({"target": xai.at_point(0, 0, 0)}, "for segmentation models", "one label"),
        ({"target": "ball", "against": "ball"}, "against itself", ""),
        ({"baseline": "white"}, "no baseline 'white'", "blurred"),
        ({"score": "loss"}, "no score 'loss'", "probability"),
        ({"slices": "some"}, "slices 'some'", "confident"),
        ({"device": "cuda:99"}, "cuda:99", "cpu"),
        ({"scan": "ct.nrrd"}, "is a name", "read_volume"),
        ({"scan": np.zeros((2, 3, 4, 5, 6))}, "array of float64", "(I, J, K)"),
        ({"scan": np.full(SHAPE, np.nan)}, "not numbers", ""),
        ({"roi": np.zeros((3, 3, 3), bool)}, "has the shape (3, 3, 3)", "segmentation"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_questions_are_refused_with_what_to_do(arguments, words, remedy):
    model = xai.wrap(ball_counter(), labels=["healthy", "ball"])
    asked = {"scan": scan_with_ball(), "methods": "saliency", **arguments}
    with pytest.raises(xai.XAIError) as caught:
        xai.explain(model, **asked)
    assert words in str(caught.value) and remedy in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "segment"}, "no task called"),
        ({"task": "segmentation"}, "no segmentation"),
        ({"labels": ["a", "b", "c"]}, "3 labels"),
        ({"labels": ["a", "b"], "target": "c"}, "no output 'c'"),
        ({"device": "gpu"}, "device"),
        ({"dimensions": 2}, "does not take an input"),
    ],
    ids=str,
)
def test_wrong_networks_are_refused(settings, words):
    with pytest.raises(xai.XAIError, match=words):
        xai.wrap(ball_counter(), **settings)


def test_a_missing_model_is_named_and_no_network_is_no_model():
    with pytest.raises(xai.XAIError, match="no model 'nowhere'"):
        xai.load_model("nowhere")
    with pytest.raises(xai.XAIError, match="takes a torch.nn.Module"):
        xai.wrap(lambda image: image)


# ------------------------------------------------------------------ listing, references


def test_methods_are_listed_with_what_they_need():
    table = xai.methods("segmentation")
    assert table["Grad-CAM"].name == "gradcam" and "layers" in table["gradcam"].needs
    assert table["integrated_gradients"].cost > table["saliency"].cost > 0
    assert not table["guided_backpropagation"].reliable and table["guided_backpropagation"].caution
    assert table["occlusion"].settings["occlusion_mm"] == 0.0
    assert str(table).splitlines()[0].startswith("method") and len(str(table).splitlines()) == len(table) + 1
    with pytest.raises(xai.XAIError, match="no task"):
        xai.methods("detection")


def test_references_serve_at_once_and_later_when_saved(tmp_path):
    model = xai.wrap(ball_counter(), labels=["healthy", "ball"])
    healthy = [np.random.default_rng(seed).normal(0.5, 0.02, SHAPE).astype(np.float32) for seed in range(3)]
    reference = xai.fit_reference(model, healthy, ["bright"])
    assert reference["bright"].source == "3 samples from 3 scans"
    assert not (tmp_path / "cache").exists()
    unaware = xai.explain(model, scan_with_ball(), "iba", "ball", layers="bright")
    assert any("no reference statistics for bright" in note for note in unaware.notes)
    aware = xai.explain(model, scan_with_ball(), "iba", "ball", layers="bright", reference=reference)
    assert not any("no reference statistics" in note for note in aware.notes)
    statistics, examples = reference.save()
    assert statistics.is_file() and examples.is_file()
    again = xai.wrap(ball_counter(), labels=["healthy", "ball"])
    assert again.digest == model.digest
    later = xai.explain(again, scan_with_ball(), "iba", "ball", layers="bright")
    assert np.allclose(later["iba"].map, aware["iba"].map, atol=1e-6)
    other = xai.wrap(ball_counter(), labels=["healthy", "ball"], spacing=2.0)
    assert other.digest != model.digest  # what was seen through another preprocessing belongs to another model


# ------------------------------------------------------------------ evaluating


@pytest.mark.parametrize("window", [(), (16, 16, 16)])
def test_maps_of_segmentations_are_checked_through_their_windows(window):
    scan = scan_with_ball()
    model = xai.wrap(Threshold(), "segmentation", ["background", "bright"], window=window)
    heat = xai.explain(model, scan, "occlusion", "bright", occlusion_mm=5)["occlusion"]
    mask = Segmentation.from_masks([Mask("ball", ball())], scan.grid)
    check = xai.evaluate(heat, truth=mask, tile=4, **QUICK)
    assert set(check.checks) == {
        "insertion-deletion",
        "tiles",
        "sensitivity-n",
        "infidelity",
        "sensitivity-max",
        "randomization",
        "run to run",
        "localization",
    }
    for name in ("insertion-deletion", "tiles", "infidelity", "run to run", "localization"):
        assert check.checks[name].passed, check.checks[name]
    gain = check.checks["insertion-deletion"]
    assert gain.error is not None and gain.random == 0.0 and gain.value > gain.edges
    # from nothing shown to all shown the value goes from the baseline's to the scan's
    assert np.isclose(check.curves["insertion"].values[0], 0, atol=1e-4)
    assert np.isclose(check.curves["insertion"].values[-1], 1, atol=1e-4)
    wrong = replace(heat, map=np.ascontiguousarray(heat.map[::-1, ::-1, ::-1]))
    unfaithful = xai.evaluate(wrong, ["insertion_deletion", "localization"], truth=ball(), **QUICK)
    assert not unfaithful.passed and "do not rely" in unfaithful.verdict


def test_curves_of_a_segmentation_are_its_values_for_hidden_voxels():
    """Against whole predictions of the hidden images, without windows or caches."""
    scan, network = scan_with_ball(), Threshold()
    model = xai.wrap(network, "segmentation", ["background", "bright"], window=(16, 16, 16))
    heat = xai.explain(model, scan, "saliency", "bright", baseline="mean")["saliency"]
    check = xai.evaluate(heat, "insertion_deletion", steps=4, orders=2)
    image = torch.from_numpy(scan.array)[None, None]
    with torch.no_grad():
        mask = network(image).argmax(1)[0] == 1
        order = np.argsort(-np.abs(heat.map).ravel(), kind="stable")
        values = []
        for fraction in check.curves["insertion"].fractions:
            shown = np.zeros(image.numel(), bool)
            shown[order[: round(fraction * image.numel())]] = True
            output = network(torch.where(torch.from_numpy(shown.reshape(SHAPE)), image, image.mean()))
            values.append(float((output[0, 1] - output[0, 0])[mask].mean()))
    expected = (np.array(values) - values[0]) / (values[-1] - values[0])
    # windows of 16 voxels over 24: borders of windows are padded with zeros, which moves values a little
    assert np.allclose(check.curves["insertion"].values, expected, atol=0.05)


def test_checks_that_lack_something_are_left_out_or_refused():
    heat = xai.explain(xai.wrap(ball_counter(), labels=["a", "ball"]), scan_with_ball(), "saliency")["saliency"]
    with pytest.raises(xai.XAIError, match="localization needs the truth"):
        xai.evaluate(heat, "localization")
    with pytest.raises(xai.XAIError, match="no check called 'faith'"):
        xai.evaluate(heat, "faith")
    with pytest.raises(xai.XAIError, match="no effort 'stepps'"):
        xai.evaluate(heat, stepps=3)
    with pytest.raises(xai.XAIError, match="zero everywhere"):
        xai.evaluate(replace(heat, map=np.zeros_like(heat.map)), "tiles")
    check = xai.evaluate(heat, ["tiles"], **QUICK)
    assert check.figure() is not None and check.table()[0]["check"] == "tiles" and "<table>" in check._repr_html_()
