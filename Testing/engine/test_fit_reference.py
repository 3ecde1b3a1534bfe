"""Reference statistics fitted over a folder of scans: against plain numpy, found again by later runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from host.bright_lesion import write_model
from monai.transforms import ScaleIntensityRange
from support.lesion_patients import grid_of, patient
from support.prediction_models import session_with
from support.small_networks import SmallClassifier
from torch import nn
from xaiengine.app.run import run_job
from xaiengine.attribution.bottleneck.reference_store import find_statistics, stored_path
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics
from xaiengine.core.job import Job
from xaiengine.inference.preprocessing import preprocess
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.models import load_model
from xaiengine.models.explained_model import Capabilities, ExplainedModel, Inferer

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
    options.setdefault("layers", [LAYER])
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
    assert result.values == {"samples": 60, "scans_read": 3, "examples_kept": 0, "fitted_layers": LAYER}
    assert (fitted.samples, fitted.scans) == (60, 3)
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
    result = fit(cohort, model_folder, tmp_path / "out", maximum_samples=12)
    assert result.values["samples"] == 9  # 12 slices over 4 files, one of which cannot be read


@pytest.mark.parametrize(("folder", "words"), [("nowhere", "no folder"), ("empty", "holds no scans")])
def test_a_folder_without_scans_is_refused(cohort, model_folder, tmp_path, folder, words):
    (tmp_path / "empty").mkdir()
    result = fit(tmp_path / folder, model_folder, tmp_path / "out")
    assert result.status == "failed" and words in result.error.message and result.error.remedy


def test_options_of_the_version_before_still_run(cohort, model_folder, tmp_path):
    options = {"layer": LAYER, "maximum_slices": 12, "layers": None}
    options.pop("layers")
    job = Job(
        task="fit-reference",
        model=str(model_folder),
        inputs={"scans": str(cohort)},
        options=options,
        output=str(tmp_path / "out"),
    )
    assert run_job(job).values["samples"] == 9


# ---------------------------------------------------------------- every kind of model


def a_folder(tmp_path, kind, monkeypatch, count=3):
    """``count`` scans (or pictures), each another, in a folder; and a cache of our own."""
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "references"
    folder.mkdir()
    for number in range(count):
        values = np.random.default_rng(number).normal(40, 60, (20, 18, 16)).astype(np.float32)
        if kind == "pictures":
            from PIL import Image

            Image.fromarray((values[..., 0] * 0.5 + 100).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        elif kind == "channels":
            for channel in range(2):
                shifted = Volume(values + channel, grid_of((2.0, 2.0, 3.0), values.shape))
                write_volume(folder / f"case{number}_{channel:04d}.nrrd", shifted)
        else:
            write_volume(folder / f"{number}.nrrd", Volume(values, grid_of((2.0, 2.0, 3.0), values.shape)))
    return folder


def model_for(kind):
    flat = kind in ("pictures", "slices")
    channels = 2 if kind == "channels" else 1
    task = {"regression": "regression", "windows": "segmentation", "whole segmentation": "segmentation"}.get(kind)
    task = task or ("multilabel" if kind == "channels" else "classification")
    torch.manual_seed(3)
    if task == "segmentation":
        network = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv3d(3, 2, 1)).eval()
    else:
        network = SmallClassifier(2 if flat else 3, outputs=2, channels=channels).eval()
    inferer = Inferer("sliding_window", roi_size=(12, 12, 12)) if kind == "windows" else Inferer()
    return ExplainedModel(
        name=kind, network=network, task=task, labels=("a", "b"), digest=f"{kind:0<64}", source=Path("memory"),
        format="memory", spatial_dims=2 if flat else 3, in_channels=channels, inferer=inferer,
        activation="softmax" if task in ("classification", "segmentation") else "none",
        preprocessing=lambda: [ScaleIntensityRange(-200, 300, 0.0, 1.0)],
    )  # fmt: skip


SAMPLES = {"pictures": 3, "slices": 48, "volumes": 3, "regression": 3, "channels": 3, "whole segmentation": 3}


@pytest.mark.parametrize("kind", [*SAMPLES, "windows"])
def test_statistics_of_every_kind_of_model(kind, tmp_path, monkeypatch):
    model = model_for(kind)
    folder = a_folder(tmp_path, kind, monkeypatch)
    segments = model.task == "segmentation"
    layers = ["0", "1"] if segments else ["early", "middle"]
    for statistics in ("channel", "position"):
        job = Job(
            task="fit-reference",
            model=kind,
            inputs={"scans": str(folder)},
            options={"layers": layers, "statistics": statistics},
            output=str(tmp_path / statistics),
        )
        result = run_job(job, session=session_with(model))
        assert result.status == "finished", result.error
        assert result.values["scans_read"] == 3 and result.values["fitted_layers"] == ", ".join(layers)
        fitted = [find_statistics(model, layer) for layer in layers]
        assert [item.scope for item in fitted] == [statistics] * 2
        assert all(item.scans == 3 and item.samples == result.values["samples"] for item in fitted)
        if kind in SAMPLES:
            assert result.values["samples"] == SAMPLES[kind]
        else:
            assert result.values["samples"] > 3  # several windows of each scan
    if kind == "volumes":
        seen = [preprocess(read_volume(path), model.preprocessing()).tensor for path in sorted(folder.iterdir())]
        with torch.no_grad():
            truth = model.network.early(torch.stack(seen)).double().numpy()
        assert np.allclose(fitted[0].mean.numpy(), truth.mean(0), atol=1e-6)
        assert np.allclose(fitted[0].std.numpy(), np.maximum(truth.std(0, ddof=1), 0.01), atol=1e-6)


@pytest.mark.parametrize("kind", ["pictures", "regression", "windows"])
def test_layers_are_those_of_the_methods_and_can_lie_beside_the_model(kind, tmp_path, monkeypatch):
    folder = a_folder(tmp_path, kind, monkeypatch)
    place = tmp_path / "my_model"
    place.mkdir()
    model = replace(model_for(kind), source=place)
    job = Job(
        task="fit-reference",
        model=kind,
        inputs={"scans": str(folder)},
        options={"keep": "model"},
        output=str(tmp_path / "out"),
    )
    result = run_job(job, session=session_with(model))
    assert result.status == "finished", result.error
    layers = result.values["fitted_layers"].split(", ")
    assert len(list(place.rglob("*.safetensors"))) == len(layers) and not (tmp_path / "cache").exists()
    assert all(find_statistics(model, layer) is not None for layer in layers)
    assert find_statistics(replace(model, digest="1" * 64), layers[0]) is None


def test_volumes_of_several_sizes_per_position_keep_the_first_size(tmp_path, monkeypatch):
    folder = a_folder(tmp_path, "volumes", monkeypatch)
    write_volume(
        folder / "9.nrrd", Volume(np.random.rand(24, 18, 16).astype(np.float32), grid_of((2.0,) * 3, (24, 18, 16)))
    )
    model = model_for("volumes")
    job = Job(
        task="fit-reference",
        model="m",
        inputs={"scans": str(folder)},
        options={"layers": ["early"], "statistics": "position"},
        output=str(tmp_path / "out"),
    )
    result = run_job(job, session=session_with(model))
    assert result.values["scans_read"] == 3
    assert any("1 of 4 scans" in text and "statistics per channel" in text for text in result.warnings), (
        result.warnings
    )


def test_a_model_without_layers_is_refused_with_the_reason(tmp_path, monkeypatch):
    folder = a_folder(tmp_path, "volumes", monkeypatch)
    model = replace(model_for("volumes"), capabilities=Capabilities(layers=False, reasons={"layers": "it is a graph"}))
    job = Job(task="fit-reference", model="m", inputs={"scans": str(folder)}, output=str(tmp_path / "out"))
    result = run_job(job, session=session_with(model))
    assert result.error.kind == "model" and "it is a graph" in result.error.message
