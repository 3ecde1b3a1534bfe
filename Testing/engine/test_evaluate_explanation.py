"""The task evaluate-explanation, on a model whose answer has a known cause: a bright ball."""

import csv

import numpy as np
import pytest
import torch
from support.prediction_models import BRIGHT, model_of, session_with
from support.scans import Ball, thorax
from xaiengine.app.run import run_job
from xaiengine.attribution.registry import METHODS
from xaiengine.attribution.whole_case import WholeCase
from xaiengine.core.job import Job
from xaiengine.core.progress import Progress
from xaiengine.evaluation.evaluation_budget import Effort
from xaiengine.evaluation.judged import judged
from xaiengine.evaluation.repeated_checks import RepeatedChecks
from xaiengine.evaluation.verdict import Check, verdict_line
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.targets.targets import ClassTarget

BALL = Ball(radius=11.0, value=BRIGHT)
GRID = Grid.from_directions((24, 20, 16), (4.8, 4.8, 6.0), None, (-55.0, -46.0, -45.0))
QUICK = {"steps": 8, "orders": 3, "subsets": 20, "perturbations": 30, "draws": 2, "random_models": 1, "seeds": 2}
MODEL = {"spacing": None}


def run(folder, task, model, progress=None, **options):
    scan = folder / "scan.nrrd"
    if not scan.exists():
        write_volume(scan, thorax(GRID, (BALL,)))
    options = {"volume": str(scan), "model": "bright ball", **options}
    output = folder / task
    return run_job(Job(task=task, options=options, output=str(output)), progress, session=session_with(model))


def explained(folder, model, method="occlusion", **options):
    result = run(folder, "explain-prediction", model, methods=[method], target="ball", **options)
    assert result.status == "finished", result.error
    return str(folder / "explain-prediction" / "attribution.nrrd")


def truth(folder):
    segmentation = Segmentation.from_masks([Mask("ball", BALL.mask(GRID))], GRID)
    return str(write_segmentation(folder / "truth.seg.nrrd", segmentation))


def checks_of(folder):
    with open(folder / "evaluate-explanation" / "checks.csv", encoding="utf-8", newline="") as stream:
        return {row["check"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_true_map_passes_and_its_method_is_known_from_its_result(tmp_path, spatial_dims):
    model = model_of(spatial_dims=spatial_dims, **MODEL)
    path = explained(tmp_path, model, occlusion_mm=10)
    result = run(tmp_path, "evaluate-explanation", model, explanation=path, truth=truth(tmp_path), **QUICK)
    assert result.status == "finished", result.error
    checks = checks_of(tmp_path)
    assert set(checks) == {
        "insertion-deletion",
        "tiles",
        "sensitivity-n",
        "infidelity",
        "sensitivity-max",
        "randomization",
        "run to run",
        "localization",
    }
    for name in ("insertion-deletion", "sensitivity-n", "infidelity", "run to run", "localization"):
        assert checks[name]["result"] == "passed", checks[name]
    assert float(checks["insertion-deletion"]["value"]) > float(checks["insertion-deletion"]["edge map"])
    assert result.values["checks_done"] == 8
    roles = {item.role for item in result.artifacts}
    assert roles == {"checks", "curves", "curves-chart", "randomization", "verdict", "picture"}


def test_checks_that_explain_again_average_over_the_samples_with_most_of_the_map():
    model = model_of(spatial_dims=2, **MODEL)
    inputs = torch.rand(5, 1, 24, 20, generator=torch.Generator().manual_seed(3))
    maps = np.ones((5, 24, 20)) * np.array([1, 5, 2, 4, 3]).reshape(5, 1, 1)

    def checks_on(rows, kept):
        chosen = inputs[rows]
        case = WholeCase(model.network, ClassTarget(1), chosen, 0 * chosen, (1.0, 1.0), ("late",), ("late",), {})
        effort = Effort(draws=2, models=2, seeds=2, samples_again=kept)
        return RepeatedChecks(judged(case), maps[rows], effort, METHODS["layercam"])

    together = checks_on([0, 1, 2, 3, 4], 3)
    assert together.rows == [1, 3, 4]
    alone = [checks_on([row], 1) for row in together.rows]
    together.randomization()
    expected = []
    for item in alone:
        item.randomization()
        expected.append(item.cascade.spearman)
    np.testing.assert_allclose(together.cascade.spearman, np.mean(expected, axis=0))
    assert together.sensitivity_max().value == max(item.sensitivity_max().value for item in alone)
    assert "3 of 5 samples" in together.run_to_run().meaning


def test_a_map_that_knows_nothing_fails_and_the_verdict_says_so(tmp_path):
    model = model_of(**MODEL)
    noise = np.random.default_rng(5).standard_normal(GRID.shape).astype(np.float32)
    path = str(write_volume(tmp_path / "noise.nrrd", Volume(noise, GRID, "noise")))
    result = run(tmp_path, "evaluate-explanation", model, explanation=path, target="ball", **QUICK)
    assert result.status == "finished", result.error
    assert checks_of(tmp_path)["insertion-deletion"]["result"] == "failed"
    assert "do not rely on this map" in result.values["verdict"]
    assert any("Left out" in text for text in result.warnings)


def test_regression_maps_are_checked(tmp_path):
    model = model_of("regression", head=(0.02,), labels=("ball",), activation="none", **MODEL)
    path = explained(tmp_path, model, method="integrated_gradients", baseline="zero", max_steps=32)
    checks = ["insertion_deletion", "sensitivity_n"]
    result = run(tmp_path, "evaluate-explanation", model, explanation=path, checks=checks, **QUICK)
    assert result.status == "finished", result.error
    assert result.values["checks_passed"] == 2


def test_a_map_on_a_coarser_grid_is_checked_all_the_same(tmp_path):
    model = model_of(**MODEL)
    coarse = GRID.resized((12, 10, 8))
    values = BALL.mask(coarse).astype(np.float32)
    path = str(write_volume(tmp_path / "coarse.nrrd", Volume(values, coarse, "coarse")))
    checks = ["insertion_deletion"]
    result = run(tmp_path, "evaluate-explanation", model, explanation=path, target="ball", checks=checks, **QUICK)
    assert result.values["checks_passed"] == 1, result.error


def test_the_network_is_left_as_it_was(tmp_path):
    model = model_of(**MODEL)
    path = explained(tmp_path, model, method="saliency")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    checks = ["randomization", "sensitivity_max"]
    run(tmp_path, "evaluate-explanation", model, explanation=path, checks=checks, **QUICK)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.network.parameters())


def test_cancelling_leaves_no_artifact(tmp_path):
    model = model_of(**MODEL)
    values = BALL.mask(GRID).astype(np.float32)
    path = str(write_volume(tmp_path / "map.nrrd", Volume(values, GRID, "map")))
    seen = []
    progress = Progress(seen.append, cancelled=lambda: any(event.done > 3 for event in seen), interval=0)
    result = run(tmp_path, "evaluate-explanation", model, progress, explanation=path, target="ball", **QUICK)
    assert result.status == "cancelled"
    assert [item.name for item in (tmp_path / "evaluate-explanation").iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"checks": ["astrology"]}, "insertion_deletion"),
        ({"method": "gradcan"}, "gradcam"),
        ({"target": "cat"}, "0 healthy, 1 ball"),
        ({"value": 0.0}, "zero everywhere"),
        ({"origin": 900.0}, "does not cover the scan"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(tmp_path, options, message):
    grid = Grid.from_directions(GRID.shape, GRID.spacing, None, np.array(GRID.origin) + options.pop("origin", 0.0))
    values = np.full(GRID.shape, options.pop("value", 1.0), np.float32)
    values[0] = 0
    path = str(write_volume(tmp_path / "map.nrrd", Volume(values, grid, "map")))
    result = run(tmp_path, "evaluate-explanation", model_of(**MODEL), explanation=path, **options, **QUICK)
    assert result.status == "failed"
    assert message in f"{result.error.message} {result.error.remedy}" and result.error.remedy
    assert not result.error.details


def test_the_verdict_is_decided_by_the_decisive_checks():
    good = Check("insertion-deletion", 0.5, 0.1, "")
    insane = Check("randomization", 0.6, 0.2, "", above=False)
    weak = Check("tiles", 0.0, 0.1, "")
    assert "can be trusted" in verdict_line("map", [good])
    assert "do not rely" in verdict_line("map", [good, insane])
    assert "mostly faithful" in verdict_line("map", [good, good, weak])
    assert "doubtful" in verdict_line("map", [good, weak])
    assert "randomization (0.60 ≥ 0.20)" in verdict_line("map", [insane])
