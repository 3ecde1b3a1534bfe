"""Methods register themselves: one class in one file runs in both tasks, with its own option, from the shell."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import Classifier
from support.segmentation_bundles import bright_bundle, bright_scan, write_bundle
from xaiengine.app.run import run_job, task_options
from xaiengine.app.shell import main
from xaiengine.attribution.registry import METHODS, AttributionMethod, MethodSettings, Passes, find_method, register
from xaiengine.core.errors import OptionError, ResourceError
from xaiengine.core.job import Job, read_result
from xaiengine.core.options import option
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.tasks import find_task

DATA = Path(__file__).resolve().parents[1] / "data"
TOY = """
from xaiengine.attribution.registry import AttributionMethod, MethodSettings, register
from xaiengine.core.options import option


class ToySettings(MethodSettings):
    toy_scale: float = option(1.0, "Toy scale", "Factor of the toy method's map.", gt=0)


@register
class Toy(AttributionMethod):
    name, title, family = "toy_gradient", "Toy gradient", "gradient"
    needs = ("differentiable",)
    Settings = ToySettings

    def passes(self, case):
        return case.gradient_pass()

    def run(self, case):
        from xaiengine.attribution.forward import Attribution

        return Attribution(self.settings(case).toy_scale * case.forward().gradient(case.inputs), unit="toys")
"""


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy_method.py"
    path.write_text(TOY, encoding="utf-8")
    yield path
    METHODS.remove("toy_gradient")


@pytest.fixture
def classifier(tmp_path) -> Path:
    """A linear model of ``bright_scan``: every voxel adds a hundredth of its value to the logit of bright."""
    options = {"in_shape": [1, 24, 20, 18], "classes": 2, "channels": [1], "strides": [1], "num_res_units": 0}
    definition = {"_target_": "monai.networks.nets.Classifier", **options, "norm": None, "act": None}
    network = Classifier(**options, norm=None, act=None)
    state = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
    state[next(name for name in state if name.endswith("conv.weight"))][0, 0, 1, 1, 1] = 1.0
    state[next(name for name in state if name.startswith("final") and name.endswith("weight"))][1] = 0.01
    network.load_state_dict(state)
    described = {"task": "classification", "labels": ["dark", "bright"], "activation": "softmax"}
    return write_bundle(tmp_path / "classifier", network, definition, explanation=described)


def test_a_method_from_a_file_runs_in_both_tasks_from_the_shell(tmp_path, toy, classifier, capsys):
    """Gradients of linear models are known, so the map is; with its own option, an estimate and an evaluation."""
    mask = bright_scan(tmp_path / "scan.nrrd")
    scan = read_volume(tmp_path / "scan.nrrd")
    given = ["--methods-from", str(toy), "--trust-model"]
    segmenter = bright_bundle(tmp_path / "segmenter")
    runs = {
        "explain-prediction": (classifier, ["--target", "bright"], np.full(scan.grid.shape, 0.01)),
        "explain-segmentation": (segmenter, ["--no-receptive-field"], np.where(mask, 4 / mask.sum(), 0)),
    }
    for task, (model, more, gradient) in runs.items():
        folder = tmp_path / task
        arguments = [task, str(tmp_path / "scan.nrrd"), "--model", str(model), "--output", str(folder), *more, *given]
        assert main([*arguments, "--methods", "toy_gradient", "saliency", "--toy-scale", "2.5"]) == 0
        found = read_volume(folder / "attribution.nrrd")
        np.testing.assert_allclose(found.array, 2.5 * gradient, rtol=1e-4, atol=1e-9)
        plain = read_volume(folder / "attribution-saliency.nrrd")
        np.testing.assert_allclose(found.array, 2.5 * plain.array, rtol=1e-4, atol=1e-9)
        assert read_result(folder).artifact("attribution").units == "toys"
        job = Job(
            task=task,
            model=str(model),
            inputs={"volume": str(tmp_path / "scan.nrrd")},
            options={"methods": ["toy_gradient"]},
            output=str(tmp_path / "estimate"),
            only_estimate=True,
        )
        assert "pass" in run_job(job).values["estimate"]
    checked = ["evaluate-explanation", str(tmp_path / "scan.nrrd"), "--model", str(classifier), *given]
    checked += ["--explanation", str(tmp_path / "explain-prediction" / "attribution.nrrd"), "--checks", "run_to_run"]
    assert main([*checked, "--output", str(tmp_path / "checks")]) == 0
    with open(tmp_path / "checks" / "checks.csv", encoding="utf-8") as stream:
        assert [row["check"] for row in csv.DictReader(stream)] == ["run to run"]
    assert read_result(tmp_path / "checks").provenance["method"] == "toy_gradient"


def test_a_file_of_methods_runs_only_when_it_is_trusted(tmp_path, toy):
    toy.write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    job = Job(task="explain-prediction", options={}, output=str(tmp_path / "out"), methods_from=[str(toy)])
    result = run_job(job)
    assert result.error.kind == "option" and "--trust-model" in result.error.remedy


def test_the_shell_describes_methods_and_their_options_without_torch(tmp_path, toy):
    code = (
        "import sys; from xaiengine.app.shell import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    arguments = ["explain-segmentation", "--methods-from", str(toy), "--trust-model", "--help"]
    found = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert "--toy-scale" in found.stdout and "toy_gradient" in found.stdout
    assert found.stdout.strip().endswith("False")


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("grad-cam", "gradcam"),
        ("Grad_CAM++", "gradcam++"),
        ("hires-cam", "hirescam"),
        ("deeplift-shap", "deep_lift_shap"),
        ("layer-deeplift", "layer_deep_lift"),
        ("gradient-x-activation", "layer_gradient_x_activation"),
        ("Input × gradient", "input_x_gradient"),
        ("ig", "integrated_gradients"),
    ],
)
def test_every_spelling_of_earlier_versions_is_known(spelling, name):
    assert find_method(spelling).name == name


@pytest.mark.parametrize("task", ["explain-prediction", "explain-segmentation"])
def test_jobs_of_the_version_before_still_run(tmp_path, task, classifier):
    """The job that a result of then holds, with every option under the names and with the empty values of then."""
    job = Job.model_validate(json.loads((DATA / "former_jobs.json").read_text(encoding="utf-8"))[task])
    bright_scan(tmp_path / "scan.nrrd")
    model = classifier if task == "explain-prediction" else bright_bundle(tmp_path / "segmenter")
    where = {"inputs": {"volume": str(tmp_path / "scan.nrrd")}, "model": str(model), "output": str(tmp_path / "out")}
    job = job.model_copy(update=where)
    options = task_options(find_task(task), job)
    assert options.batch_size == 0 and options.steps == 0 and options.occlusion_stride_mm == 0
    if task == "explain-segmentation":
        assert options.occlusion_mm == 6.0 and options.samples == 4
        job.options |= {"methods": ["saliency", "occlusion"], "receptive_field": False}
    else:
        job.options |= {"methods": ["saliency"]}
    result = run_job(job)
    assert result.status == "finished", result.error


def test_former_names_of_options_are_known_on_the_command_line(tmp_path):
    bright_scan(tmp_path / "scan.nrrd")
    model = bright_bundle(tmp_path / "segmenter")
    arguments = ["explain-segmentation", str(tmp_path / "scan.nrrd"), "--model", str(model), "--no-receptive-field"]
    given = ["--methods", "occlusion", "--block", "5", "--stride", "2.5", "--constant", "0.5", "--batch", "2"]
    assert main([*arguments, *given, "--output", str(tmp_path / "out")]) == 0
    options = read_result(tmp_path / "out").provenance["options"]
    assert (options["occlusion_mm"], options["occlusion_stride_mm"]) == (5, 2.5)
    assert (options["baseline_value"], options["batch_size"]) == (0.5, 2)


def test_both_tasks_show_the_settings_of_methods_with_the_same_names_and_defaults():
    own = {name for method in METHODS.values() for name in method.Settings.model_fields}
    described = [find_task(task).Options.model_fields for task in ("explain-prediction", "explain-segmentation")]
    assert own <= set(described[0]) and own <= set(described[1])
    # The baseline differs: of a prediction it is tried first whether one changes the answer.
    for name in own | {"baseline_value", "layers", "batch_size"}:
        assert described[0][name].default == described[1][name].default, name
        assert described[0][name].annotation == described[1][name].annotation, name


def test_a_method_cannot_take_anothers_name_or_declare_its_option_otherwise():
    class Other(MethodSettings):
        samples: int = option(7, "Samples", "Something else.")

    class Thief(AttributionMethod):
        name, title, family = "saliency_two", "Thief", "gradient"
        aliases = ("grad-cam",)

        def passes(self, case):
            return Passes()

        def run(self, case):
            raise NotImplementedError

    with pytest.raises(OptionError, match="gradcam"):
        register(Thief)
    Thief.aliases, Thief.Settings = (), Other
    with pytest.raises(OptionError, match="samples"):
        register(Thief)
    assert "saliency_two" not in METHODS


def test_a_baseline_scan_is_taken_by_its_place_in_the_patient(tmp_path):
    """Moved by 20 mm it is another baseline; on another grid at the same place it is the same one."""
    bright_scan(tmp_path / "scan.nrrd")
    scan = read_volume(tmp_path / "scan.nrrd")
    ramp = np.indices(scan.grid.shape)[0].astype(np.float32) / scan.grid.shape[0]
    base = scan.with_array(ramp)
    write_volume(tmp_path / "same.nrrd", base)
    moved = base.grid.affine.copy()
    moved[:3, 3] += 20.0
    write_volume(tmp_path / "moved.nrrd", type(base)(ramp, type(base.grid)(base.grid.shape, moved), "moved"))
    cropped = base.grid.cropped((-3, -2, -1), tuple(size + 5 for size in base.grid.shape))
    wide = np.pad(ramp, [(3, 2), (2, 3), (1, 4)], mode="edge")
    write_volume(tmp_path / "wider.nrrd", type(base)(wide, cropped, "wider"))
    model, maps = bright_bundle(tmp_path / "segmenter"), {}
    for name in ("same", "moved", "wider"):
        job = Job(
            task="explain-segmentation",
            model=str(model),
            inputs={"volume": str(tmp_path / "scan.nrrd"), "baseline_scan": str(tmp_path / f"{name}.nrrd")},
            options={"methods": ["input_x_gradient"], "baseline": "scan", "receptive_field": False},
            output=str(tmp_path / name),
        )
        assert run_job(job).status == "finished"
        maps[name] = read_volume(tmp_path / name / "attribution.nrrd").array
    np.testing.assert_allclose(maps["wider"], maps["same"], atol=1e-6)
    assert np.abs(maps["moved"] - maps["same"]).max() > 0.1 * np.abs(maps["same"]).max()


@pytest.mark.parametrize("task", ["explain-prediction", "explain-segmentation"])
def test_memory_of_the_cpu_that_runs_out_halves_the_batch_and_is_reported_as_what_it_is(
    tmp_path, monkeypatch, task, classifier
):
    """The allocator of the CPU raises a plain RuntimeError; here at more than one input (or window) at a time."""
    from xaiengine.attribution.methods.saliency import Saliency
    from xaiengine.attribution.window_case import WindowCase

    words = "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
    usual = Saliency.run

    def short(self, case, most=1):
        size = case.scan.windows.batch_size if isinstance(case, WindowCase) else case.batch_size
        if size > most:
            raise RuntimeError(words)
        return usual(self, case)

    bright_scan(tmp_path / "scan.nrrd")
    model = classifier if task == "explain-prediction" else bright_bundle(tmp_path / "segmenter")
    job = Job(
        task=task,
        model=str(model),
        inputs={"volume": str(tmp_path / "scan.nrrd")},
        options={"methods": ["saliency"], "batch_size": 4},
        output=str(tmp_path / "out"),
    )
    monkeypatch.setattr(Saliency, "run", short)
    result = run_job(job)
    assert result.status == "finished", result.error
    assert any("emory" in text for text in result.warnings)
    monkeypatch.setattr(Saliency, "run", lambda self, case: short(self, case, most=0))
    result = run_job(job)
    assert result.error.kind == ResourceError.kind and result.error.remedy


def test_memory_that_runs_out_anywhere_is_reported_as_what_it_is(tmp_path, monkeypatch):
    """In every task, also outside a method."""
    task = type(find_task("dissect"))

    def run(self, options, context):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory")

    monkeypatch.setattr(task, "run", run)
    model = bright_bundle(tmp_path / "segmenter")
    result = run_job(
        Job(task="dissect", model=str(model), options={"images": str(tmp_path)}, output=str(tmp_path / "out"))
    )
    assert result.error.kind == ResourceError.kind, result.error


def test_the_method_that_the_guide_for_contributors_shows_is_found_and_runs(tmp_path, classifier):
    guide = (DATA.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = guide.partition("## A new method\n")[2].partition("\n`Case`")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ") or not line]
    text = "\n".join(lines)
    for module in ("registry", "case", "forward"):
        text = text.replace(f"from ..{module}", f"from xaiengine.attribution.{module}")
    path = tmp_path / "gradient_norm.py"
    path.write_text(text, encoding="utf-8")
    bright_scan(tmp_path / "scan.nrrd")
    job = Job(
        task="explain-prediction",
        model=str(classifier),
        inputs={"volume": str(tmp_path / "scan.nrrd")},
        options={"methods": ["gradient-norm"], "target": "bright"},
        output=str(tmp_path / "out"),
        methods_from=[str(path)],
        trust_model=True,
    )
    try:
        assert run_job(job).status == "finished"
    finally:
        METHODS.remove("gradient_norm")
    np.testing.assert_allclose(read_volume(tmp_path / "out" / "attribution.nrrd").array, 0.01, rtol=1e-5)
