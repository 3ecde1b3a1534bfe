"""The task evaluate-explanation on maps of segmentations: a bright block whose voxels alone are the cause."""

import csv
import json

import numpy as np
import pytest
import torch
from support.segmentation_bundles import OBLIQUE, bright_bundle, bright_scan
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.tasks.evaluate_explanation.origin import origin_of

SIZE = (24, 20, 18)
QUICK = {"steps": 6, "orders": 3, "subsets": 20, "perturbations": 20, "draws": 2, "random_models": 1, "seeds": 2}
ALL = {"insertion-deletion", "tiles", "sensitivity-n", "infidelity", "sensitivity-max", "randomization", "run to run"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bright_bundle(tmp_path_factory.mktemp("bright"))


@pytest.fixture
def scene(tmp_path):
    mask = bright_scan(tmp_path / "scan.nrrd")
    grid = Grid(SIZE, OBLIQUE)
    write_segmentation(tmp_path / "truth.seg.nrrd", Segmentation.from_masks([Mask("block", mask)], grid))
    return mask


def run(folder, task, bundle, output, inputs, **options):
    job = Job(
        task=task,
        model=str(bundle),
        inputs={"volume": str(folder / "scan.nrrd"), **inputs},
        options=options,
        output=str(folder / output),
    )
    result = run_job(job)
    assert result.status == "finished", result.error
    return result


def explained(folder, bundle, **options):
    return run(folder, "explain-segmentation", bundle, "maps", {}, receptive_field=False, **options)


def checks(folder):
    with open(folder / "checks" / "checks.csv", encoding="utf-8", newline="") as stream:
        return {row["check"]: row for row in csv.DictReader(stream)}


def evaluated(folder, bundle, map_file, truth=True, **options):
    inputs = {"explanation": str(map_file)} | ({"truth": str(folder / "truth.seg.nrrd")} if truth else {})
    return run(folder, "evaluate-explanation", bundle, "checks", inputs, **QUICK, **options)


def test_a_true_map_passes_every_check_with_controls_and_errors(tmp_path, bundle, scene):
    explained(tmp_path, bundle, methods=["input_x_gradient"], baseline="mean")
    result = evaluated(tmp_path, bundle, tmp_path / "maps" / "attribution.nrrd")
    found = checks(tmp_path)
    assert set(found) == ALL | {"localization"}
    for name in ("insertion-deletion", "tiles", "sensitivity-n", "infidelity", "run to run", "localization"):
        assert found[name]["result"] == "passed", found[name]
    # input x gradient of a linear model predicts every change exactly; single voxels rarely hit the small block
    assert float(found["infidelity"]["value"]) < 1e-6 and float(found["sensitivity-n"]["value"]) > 0.8
    for name in ("insertion-deletion", "tiles", "sensitivity-n", "infidelity"):
        assert found[name]["error"] and found[name]["random map"] and found[name]["edge map"], name
    assert result.provenance["method"] == "input_x_gradient" and "bright" in result.provenance["target"]
    assert {item.role for item in result.artifacts} >= {"checks", "curves", "randomization", "verdict", "picture"}


def test_a_random_map_fails_and_the_verdict_says_so(tmp_path, bundle, scene):
    noise = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)
    write_volume(tmp_path / "noise.nrrd", Volume(noise, Grid(SIZE, OBLIQUE), "noise"))
    result = evaluated(tmp_path, bundle, tmp_path / "noise.nrrd", checks=["insertion_deletion", "localisation"])
    assert set(checks(tmp_path)) == {"insertion-deletion", "localization"}  # the former spelling is taken
    assert "do not rely on this map" in result.values["verdict"]


def test_the_map_of_one_of_several_targets_and_methods_is_known_by_its_file(tmp_path, bundle, scene):
    result = explained(
        tmp_path, bundle, methods=["saliency", "occlusion"], classes=["background", "bright"], occlusion_mm=9
    )
    files = {item.role: item.file for item in result.artifacts if item.role.startswith("attribution")}
    for role, file in files.items():
        origin = origin_of(tmp_path / "maps" / file)
        method = "occlusion" if "occlusion" in role else "saliency"
        label = "bright" if "bright" in role else "background"
        assert (origin.method, origin.target.split(" over")[0].split()[-1]) == (method, label), role
    file = tmp_path / "maps" / files["attribution-occlusion-bright"]
    result = evaluated(tmp_path, bundle, file, truth=False, checks=["insertion_deletion"])
    assert result.provenance["method"] == "occlusion" and "bright" in result.provenance["target"]
    assert not result.warnings and checks(tmp_path)["insertion-deletion"]["result"] == "passed"
    # a map that left its folder is checked against the class that is named
    elsewhere = write_volume(tmp_path / "copy.nrrd", read_volume(file))
    result = evaluated(tmp_path, bundle, elsewhere, truth=False, target="background", checks=["insertion_deletion"])
    assert "background" in result.provenance["target"] and result.provenance["method"] == ""


def test_a_result_of_the_version_before_is_understood(tmp_path, bundle, scene):
    """With the former spelling of the method and the former names of its options."""
    explained(tmp_path, bundle, methods=["occlusion"], occlusion_mm=9)
    path = tmp_path / "maps" / "result.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    options = content["provenance"]["options"]
    options |= {"block": options.pop("occlusion_mm"), "batch": 1, "mend": True, "methods": ["grad-cam"]}
    for name in ("batch_size", "correct"):
        options.pop(name)
    content["provenance"]["maps"][0]["method"] = "grad-cam"
    path.write_text(json.dumps(content), encoding="utf-8")
    result = evaluated(tmp_path, bundle, tmp_path / "maps" / "attribution.nrrd", False, checks=["insertion_deletion"])
    assert result.provenance["method"] == "gradcam"


def test_its_cost_is_estimated_in_windows(tmp_path, bundle, scene):
    explained(tmp_path, bundle, methods=["saliency"])
    inputs = {"volume": str(tmp_path / "scan.nrrd"), "explanation": str(tmp_path / "maps" / "attribution.nrrd")}
    job = Job(
        task="evaluate-explanation",
        model=str(bundle),
        inputs=inputs,
        options=QUICK,
        only_estimate=True,
        output=str(tmp_path / "estimate"),
    )
    result = run_job(job)
    assert result.status == "finished" and "windows through the model" in result.values["estimate"]
    assert result.values["estimated_seconds"] > 0


def test_a_random_network_has_statistics_of_its_own_and_the_trained_one_stays(tmp_path, bundle, scene):
    from xaiengine.attribution.registry import find_method
    from xaiengine.attribution.window_case import WindowCase
    from xaiengine.evaluation.judged import JudgedSegmentation
    from xaiengine.inference.segmentation_preparation import predict_scan
    from xaiengine.models import load_model
    from xaiengine.targets.target_choice import TargetRequest, choose_targets

    model = load_model(bundle)
    scan = predict_scan(read_volume(tmp_path / "scan.nrrd"), model)
    case = WindowCase(scan, choose_targets(scan, TargetRequest(classes=("bright",))))
    judged, method = JudgedSegmentation(case), find_method("saliency")
    before = judged.again(method, 0, None)
    twin = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        twin.weight.copy_(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1))
    # log-odds are the difference of the two logits: 4 of the trained network, 2 of the other
    assert np.allclose(judged.again(method, 0, None, network=twin) * 2, before, atol=1e-7)
    assert np.array_equal(judged.again(method, 0, None), before)
