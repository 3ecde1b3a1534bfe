"""The task quantify-lesions from files to artifacts, and what it refuses."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import nrrd
import numpy as np
import pytest
import torch
from host.bright_lesion import write_model
from support.lesion_patients import LESION_AT, SHAPE, patient
from xaiengine.app.run import run_job
from xaiengine.core.folder_lock import LOCK_NAME
from xaiengine.core.job import Job, read_result
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import read_segmentation, write_segmentation
from xaiengine.io.volume_files import read_volume, write_volume

ENGINE = Path(__file__).resolve().parents[2] / "SlicerXAI"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "bright")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    volume, lungs, ball = patient()
    write_volume(folder / "ct.nrrd", volume)
    sides = [Mask("left lung", lungs.left), Mask("right lung", lungs.right)]
    write_segmentation(folder / "lungs.seg.nrrd", Segmentation.from_masks(sides, volume.grid, "lungs"))
    write_segmentation(folder / "truth.seg.nrrd", Segmentation.from_masks([Mask("t", ball)], volume.grid, "truth"))
    return folder


def job(scan, model, output, inputs=None, **options):
    inputs = {"volume": str(scan / "ct.nrrd"), "lungs": str(scan / "lungs.seg.nrrd"), **(inputs or {})}
    options = {"threshold_method": "otsu", **options}
    return Job(task="quantify-lesions", model=str(model), inputs=inputs, options=options, output=str(output))


@pytest.fixture(scope="module")
def finished(scan, model_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("result")
    inputs = {"reference": str(scan / "truth.seg.nrrd")}
    return run_job(job(scan, model_folder, output, inputs)), output


def test_the_task_writes_every_artifact(finished):
    result, output = finished
    assert result.status == "finished", result.error
    names = [item.file for item in result.artifacts]
    assert {"attribution.nrrd", "lesions.seg.nrrd", "lungs.seg.nrrd", "lesions.csv", "picture.png"} <= set(names)
    assert sorted(path.name for path in output.iterdir()) == sorted([*names, "result.json"])
    assert (output / "picture.png").read_bytes()[:4] == b"\x89PNG"


def test_a_grade_of_covid_is_given_for_models_that_ask_for_it(finished, scan, tmp_path):
    assert "severity" not in finished[0].values
    bundle = write_model(tmp_path / "covid")
    settings = json.loads((bundle / "configs" / "explanation.json").read_text(encoding="utf-8"))
    (bundle / "configs" / "explanation.json").write_text(json.dumps({**settings, "grading": "covid-19"}), "utf-8")
    result = run_job(job(scan, bundle, tmp_path / "out"))
    assert result.values["severity"] == "COVID-19 CT extent, CT-1 of 0-4"
    (bundle / "configs" / "explanation.json").write_text(json.dumps({**settings, "grading": "flu"}), "utf-8")
    refused = run_job(job(scan, bundle, tmp_path / "refused"))
    assert refused.status == "failed" and "grading" in refused.error.message


def test_the_files_lie_on_the_scan(finished, scan):
    _, output = finished
    grid = read_volume(scan / "ct.nrrd").grid
    attribution = read_volume(output / "attribution.nrrd")
    assert attribution.grid.same_as(grid)
    header = nrrd.read_header(str(output / "attribution.nrrd"))
    assert header["space"] == "left-posterior-superior"
    lesions = read_segmentation(output / "lesions.seg.nrrd")
    assert lesions.names == ("Lesion 1",) and lesions.segments[0].terminology.type.meaning == "Lesion"
    center = grid.index_to_ras(np.argwhere(lesions.mask("Lesion 1")).mean(0))
    assert np.linalg.norm(center - LESION_AT) < 3.0


def test_the_tables_agree_with_the_values(finished):
    result, output = finished
    with open(output / "lesions.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == result.values["lesion_count"] == 1
    assert float(rows[0]["volume (mL)"]) == pytest.approx(result.values["burden_ml"], rel=1e-4)
    assert result.values["burden_percent"] == pytest.approx(
        100 * result.values["burden_ml"] / result.values["lung_ml"], rel=1e-6
    )
    assert result.values["reference_dice"] > 0.6
    with open(output / "slices.csv", encoding="utf-8", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == SHAPE[2]


def test_the_provenance_is_enough_to_make_it_again(finished, scan, tmp_path):
    result, output = finished
    again = run_job(Job(**{**result.provenance["job"], "output": str(tmp_path / "again")}))
    assert again.values == result.values
    first, second = (read_volume(folder / "attribution.nrrd").array for folder in (output, tmp_path / "again"))
    assert np.array_equal(first, second)
    assert len(result.provenance["model"]["digest"]) == 64


def hostile_bundle(folder, model_folder, change):
    import shutil

    shutil.copytree(model_folder, folder)
    path = folder / "configs" / "inference.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return folder


def two_channels(folder, model_folder):
    def change(config):
        config["network_def"]["in_shape"] = [2, 48, 48]
        return config

    from monai.networks.nets import Classifier
    from safetensors.torch import save_file

    bundle = hostile_bundle(folder, model_folder, change)
    network = Classifier((2, 48, 48), 2, [2, 2, 2], [1, 1, 1], num_res_units=0, norm=None, act="RELU")
    save_file(network.state_dict(), bundle / "models" / "model.safetensors")
    return bundle


def write_values(path, array, **header):
    nrrd.write(str(path), array, {"space": "left-posterior-superior", **header})
    return path


def bad_scans():
    directions = np.diag([3.0, 3.0, 5.0])
    origin = np.zeros(3)
    place = {"space directions": directions, "space origin": origin, "kinds": ["domain"] * 3}
    ramp = np.arange(60 * 56 * 20, dtype=np.int16).reshape(60, 56, 20) % 999
    nan = np.where(ramp == 5, np.nan, ramp).astype(np.float32)
    return {
        "constant": (np.zeros((60, 56, 20), np.int16), place, "empty|same value"),
        "nan": (nan, place, "not numbers|NaN|finite"),
        "tiny": (ramp[:5, :2, :1], place, "voxels"),
        "zero spacing": (ramp, {**place, "space directions": np.diag([3.0, 3.0, 0.0])}, "spacing|direction|zero"),
        "singular": (ramp, {**place, "space directions": np.ones((3, 3))}, "direction|singular|parallel|independent"),
    }


@pytest.mark.parametrize("name", sorted(bad_scans()))
def test_bad_scans_are_refused_with_a_remedy(name, scan, model_folder, tmp_path):
    array, header, words = bad_scans()[name]
    path = write_values(tmp_path / "bad.nrrd", array, **header)
    result = run_job(job(scan, model_folder, tmp_path / "out", {"volume": str(path)}))
    assert_refused(result, tmp_path / "out", words)


def assert_refused(result, output, words):
    import re

    assert result.status == "failed" and result.error.remedy and not result.error.details, result.error
    assert re.search(words, result.error.message, re.IGNORECASE), result.error.message
    assert [path.name for path in output.iterdir()] == ["result.json"]
    assert read_result(output) == result


def test_other_bad_files_are_refused(scan, model_folder, tmp_path):
    (tmp_path / "text.nrrd").write_text("no volume")
    (tmp_path / "ct.docx").write_text("no volume")
    gray = np.zeros((40, 40), np.int16)
    nrrd.write(str(tmp_path / "flat.nrrd"), gray)
    nrrd.write(str(tmp_path / "color.nrrd"), np.zeros((3, 40, 40, 20), np.uint8))
    for number, (file, words) in enumerate(
        [
            ("missing.nrrd", "no |not"),
            ("text.nrrd", "NRRD|read"),
            ("ct.docx", "docx|format|ending|extension"),
            ("flat.nrrd", "2|dimension|axes"),
            ("color.nrrd", "4|channel|colou?r|axes"),
        ]
    ):
        output = tmp_path / f"out{number}"
        result = run_job(job(scan, model_folder, output, {"volume": str(tmp_path / file)}))
        assert_refused(result, output, words)


def test_a_segmentation_of_another_place_is_refused_and_one_of_another_grid_resampled(scan, model_folder, tmp_path):
    volume, lungs, _ = patient()
    far = Grid(volume.grid.shape, volume.grid.affine + np.array([[0, 0, 0, 900]] + [[0] * 4] * 3))
    write_segmentation(tmp_path / "far.seg.nrrd", Segmentation.from_masks([Mask("lungs", lungs.combined)], far, "far"))
    result = run_job(job(scan, model_folder, tmp_path / "out", {"lungs": str(tmp_path / "far.seg.nrrd")}))
    assert_refused(result, tmp_path / "out", "overlap")
    coarse = volume.grid.resized((30, 28, 10))
    _, coarse_lungs, _ = patient(coarse)
    masks = [Mask("lungs", coarse_lungs.combined)]
    write_segmentation(tmp_path / "coarse.seg.nrrd", Segmentation.from_masks(masks, coarse, "coarse"))
    result = run_job(job(scan, model_folder, tmp_path / "good", {"lungs": str(tmp_path / "coarse.seg.nrrd")}))
    assert result.status == "finished" and result.values["lung_ml"] == pytest.approx(lungs.total_ml, rel=0.1)


def test_bad_models_are_refused(scan, model_folder, tmp_path):
    def importing(config):
        config["network_def"]["spatial"] = "$import os"
        return config

    evil = hostile_bundle(tmp_path / "evil", model_folder, importing)
    result = run_job(job(scan, evil, tmp_path / "out0"))
    assert_refused(result, tmp_path / "out0", "import")
    wrong = two_channels(tmp_path / "two", model_folder)
    assert_refused(run_job(job(scan, wrong, tmp_path / "out1")), tmp_path / "out1", "2 channels|channel")
    assert_refused(run_job(job(scan, tmp_path / "none", tmp_path / "out2")), tmp_path / "out2", "no model")
    result = run_job(job(scan, model_folder, tmp_path / "out3", layer="net.layer_O"))
    assert_refused(result, tmp_path / "out3", "net.layer_O")
    assert "net.layer_0" in result.error.remedy or "net.layer_0" in result.error.message


def test_a_pickle_with_code_is_refused_and_not_run(scan, model_folder, tmp_path):
    import shutil

    class Canary:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    bundle = tmp_path / "pickled"
    shutil.copytree(model_folder, bundle)
    (bundle / "models" / "model.safetensors").unlink()
    torch.save({"weight": Canary()}, bundle / "models" / "model.pt")
    result = run_job(job(scan, bundle, tmp_path / "out"))
    assert_refused(result, tmp_path / "out", "would call")
    assert not (tmp_path / "canary").exists()


def test_the_shell_answers_with_exit_code_and_remedy(scan, model_folder, tmp_path):
    settings = {**os.environ, "PYTHONPATH": str(ENGINE), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-m", "xaiengine", "quantify-lesions", "--model", str(model_folder), "-o"]
    bad = [*call, str(tmp_path / "bad"), str(tmp_path / "missing.nrrd")]
    failed = subprocess.run(bad, env=settings, capture_output=True, text=True)
    assert failed.returncode == 1 and "missing.nrrd" in failed.stderr and failed.stdout == ""
    assert read_result(tmp_path / "bad").status == "failed"
    good = [*call, str(tmp_path / "good"), str(scan / "ct.nrrd"), "--lungs", str(scan / "lungs.seg.nrrd")]
    done = subprocess.run([*good, "--threshold-method", "otsu"], env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lesion_count = 1" in done.stderr and "CT-1" not in done.stderr and "lesions.csv" in done.stderr
    help_text = subprocess.run([*call[:4], "--help"], env=settings, capture_output=True, text=True).stdout
    assert "--minimum-probability" in help_text and "[mL]" in help_text


def test_a_run_killed_half_way_leaves_no_artifact(scan, model_folder, tmp_path):
    settings = {**os.environ, "PYTHONPATH": str(ENGINE), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
    content = job(scan, model_folder, tmp_path / "out", repeats=20).model_dump()
    (tmp_path / "job.json").write_text(json.dumps(content))
    command = [sys.executable, "-u", "-m", "xaiengine", "run", str(tmp_path / "job.json"), "--json-progress"]
    child = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in child.stdout:
        if "Explaining" in line:
            child.kill()
            break
    child.wait()
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert all(name.startswith((".partial-", LOCK_NAME)) for name in left)
    result = run_job(job(scan, model_folder, tmp_path / "out"))
    assert result.status == "finished"
    assert not any(path.name.startswith(".partial-") for path in (tmp_path / "out").iterdir())
