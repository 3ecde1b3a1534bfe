"""What a job takes is told without doing it, for every task that can tell."""

from __future__ import annotations

from host import mark_brightest
from host.bright_lesion import write_model
from support.prediction_models import model_of, session_with
from support.scans import GRIDS, thorax
from support.segmentation_bundles import bright_bundle, bright_scan
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.io.grid import Grid
from xaiengine.io.volume_files import write_volume


def estimate(folder, task, model, scan, session=None, **options):
    job = Job(
        task=task,
        model=str(model),
        inputs={"volume": str(scan)},
        options=options,
        only_estimate=True,
        output=str(folder / "out"),
    )
    result = run_job(job, session=session)
    assert result.status == "finished", result.error
    assert result.artifacts == []
    assert [path.name for path in (folder / "out").iterdir()] == ["result.json"]
    return result.values


def test_of_a_prediction(tmp_path):
    scan = write_volume(tmp_path / "scan.nrrd", thorax(GRIDS["axial"], ()))
    session = session_with(model_of())
    few = estimate(tmp_path, "explain-prediction", "bright ball", scan, session, methods=["occlusion"])
    many = estimate(tmp_path, "explain-prediction", "bright ball", scan, session, methods=["rise"], masks=20_000)
    assert 0 < few["estimated_seconds"] < many["estimated_seconds"]
    assert few["estimated_memory_gb"] > 0
    assert "samples are explained" in few["estimate"]


def test_of_a_segmentation(tmp_path):
    scan = tmp_path / "scan.nrrd"
    bright_scan(scan)
    found = estimate(tmp_path, "explain-segmentation", bright_bundle(tmp_path / "model"), scan, methods=["saliency"])
    assert found["estimated_seconds"] > 0 and found["estimated_memory_gb"] > 0
    assert "window passes" in found["estimate"]


def test_of_lesions(tmp_path):
    grid = Grid.from_directions((32, 28, 20), (9.0, 9.0, 10.0), None, (-140.0, -120.0, -90.0))
    scan = write_volume(tmp_path / "scan.nrrd", thorax(grid, ()))
    found = estimate(tmp_path, "quantify-lesions", write_model(tmp_path / "bright"), scan)
    assert found["estimated_seconds"] >= 0 and found["estimated_memory_gb"] > 0
    assert "slices are called lesion" in found["estimate"]


def test_a_task_that_cannot_tell_says_so_and_leaves_no_files(tmp_path, monkeypatch):
    from xaiengine.tasks import TASKS

    monkeypatch.setitem(TASKS, mark_brightest.NAME, "")
    mark_brightest.register()
    scan = write_volume(tmp_path / "scan.nrrd", thorax(GRIDS["axial"], ()))
    found = estimate(tmp_path, mark_brightest.NAME, "", scan)
    assert found["estimated_seconds"] is None
    assert "Mark brightest" in found["estimate"]


def test_of_checks_of_a_map(tmp_path):
    scan = write_volume(tmp_path / "scan.nrrd", thorax(GRIDS["axial"], ()))
    map_file = write_volume(tmp_path / "map.nrrd", thorax(GRIDS["axial"], ()))
    session = session_with(model_of())
    few, many = (
        estimate(
            tmp_path,
            "evaluate-explanation",
            "bright ball",
            scan,
            session,
            explanation=str(map_file),
            checks=["insertion_deletion"],
            steps=steps,
        )
        for steps in (4, 400)
    )
    assert 0 < few["estimated_seconds"] < many["estimated_seconds"]
    assert "passes through the model" in few["estimate"]


def test_a_task_whose_cost_shows_only_on_the_way_is_not_run(tmp_path):
    """The folder of scans is not even looked into."""
    (tmp_path / "none").mkdir()
    job = Job(
        task="fit-reference",
        model="bright ball",
        options={"scans": str(tmp_path / "none")},
        only_estimate=True,
        output=str(tmp_path / "out"),
    )
    result = run_job(job, session=session_with(model_of()))
    assert result.status == "finished", result.error
    assert result.values["estimated_seconds"] is None and "not known before it runs" in result.values["estimate"]
