"""Reference statistics fitted over a folder of scans: against plain numpy, found again by later runs."""

import numpy as np
import pytest
import torch
from host.bright_lesion import write_model
from support.lesion_patients import grid_of, patient
from xaiengine.app.run import run_job
from xaiengine.attribution.bottleneck.reference_store import find_statistics, stored_path
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics
from xaiengine.core.job import Job
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.volume_files import write_volume
from xaiengine.models import load_model

LAYER = "net.layer_0"


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Three scans, one file that is none, and an empty cache of our own."""
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in range(3):
        volume, _, _ = patient(grid_of((3.0, 3.0, 5.0 + number)), lesion=number > 0)
        write_volume(folder / f"scan{number}.nrrd", volume)
    (folder / "broken.nrrd").write_text("no scan")
    (folder / "notes.txt").write_text("not a scan")
    return folder


@pytest.fixture
def model_folder(tmp_path):
    return write_model(tmp_path / "bright")


def fit(cohort, model_folder, output, **options):
    inputs = {"scans": str(cohort)}
    return run_job(
        Job(task="fit-reference", model=str(model_folder), inputs=inputs, options=options, output=str(output))
    )


def activations(cohort, model):
    """Every activation of the layer over the readable scans, by a plain forward of the first block."""
    from xaiengine.io.volume_files import read_volume

    found = []
    for path in sorted(cohort.glob("scan*.nrrd")):
        slices = preprocess(read_volume(path), model.preprocessing()).tensor.movedim(3, 0)
        with torch.no_grad():
            found.append(model.network.get_submodule(LAYER)(slices).double().numpy())
    return np.concatenate(found)


def test_statistics_equal_those_of_all_activations_at_once(cohort, model_folder, tmp_path):
    result = fit(cohort, model_folder, tmp_path / "out")
    assert result.status == "finished", result.error
    fitted = ReferenceStatistics.load(tmp_path / "out" / "reference.safetensors")
    truth = activations(cohort, load_model(model_folder))
    by_channel = truth.transpose(1, 0, 2, 3).reshape(truth.shape[1], -1)
    assert np.allclose(fitted.mean.numpy(), by_channel.mean(1), atol=1e-6)
    assert np.allclose(fitted.std.numpy(), np.maximum(by_channel.std(1, ddof=1), 0.01), atol=1e-5)
    assert result.values == {"samples": 60, "scans_read": 3}
    # the channel of lesions answers in well under one cell in a hundred, and is heard all the same
    assert 0 < (by_channel[0] > 0).mean() < 0.01 and bool(fitted.active[0])


def test_unreadable_scans_are_listed_and_counted(cohort, model_folder, tmp_path):
    result = fit(cohort, model_folder, tmp_path / "out")
    assert any("1 of 4 scans" in text and "broken.nrrd" in text for text in result.warnings)
    table = (tmp_path / "out" / "scans.csv").read_text().splitlines()
    assert len(table) == 5 and table[1].startswith("broken.nrrd,0,")


def test_later_runs_find_them_until_the_weights_change(cohort, model_folder, tmp_path):
    model = load_model(model_folder)
    assert find_statistics(model, LAYER) is None
    fit(cohort, model_folder, tmp_path / "out")
    assert find_statistics(model, LAYER).metadata["layer"] == LAYER
    assert stored_path(model.digest, LAYER).is_file()
    assert find_statistics(model, "net.layer_1") is None
    write_model(tmp_path / "other")
    weights = tmp_path / "other" / "models" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    state = load_file(weights)
    save_file({name: value * 1.5 for name, value in state.items()}, weights)
    assert find_statistics(load_model(tmp_path / "other"), LAYER) is None


def test_few_slices_are_spread_over_the_scans(cohort, model_folder, tmp_path):
    result = fit(cohort, model_folder, tmp_path / "out", maximum_slices=12)
    assert result.values["samples"] == 9  # 12 slices over 4 files, one of which cannot be read


@pytest.mark.parametrize(("folder", "words"), [("nowhere", "no folder"), ("empty", "holds no scans")])
def test_a_folder_without_scans_is_refused(cohort, model_folder, tmp_path, folder, words):
    (tmp_path / "empty").mkdir()
    result = fit(tmp_path / folder, model_folder, tmp_path / "out")
    assert result.status == "failed" and words in result.error.message and result.error.remedy
