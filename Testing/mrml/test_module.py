"""The module as Slicer loads it, and its console facade over an engine that stands in for the real one."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slicer
from SlicerXAILib.EngineErrors import EngineCrashed, EngineError, JobCancelled
from SlicerXAILib.EngineProcess import EngineProcess

MODULE_FILE = Path(__file__).parents[2] / "SlicerXAI" / "SlicerXAI.py"
FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


@pytest.fixture
def module(application, scene):
    module = application.load_scripted_module(MODULE_FILE)
    yield module
    module.logic().close()


@pytest.fixture
def logic(module):
    module.logic().engine = EngineProcess([sys.executable, "-u", str(FAKE_ENGINE)])
    return module.logic()


def temporaryJobs() -> list[Path]:
    return list(Path(slicer.app.temporaryPath).glob("xai-job-*"))


def test_slicer_finds_the_logic_by_the_modules_name(module):
    assert slicer.util.getModuleLogic("SlicerXAI") is module.logic()
    assert module.title == "SlicerXAI"


def test_the_self_test_passes(module):
    module.test_class()().runTest()


def test_nothing_that_slicer_loads_imports_torch():
    """A fresh interpreter, as tests of the engine may have imported it in this one."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from host.application import Application\n"
        f"Application.instance().load_scripted_module({str(MODULE_FILE)!r})\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'xaiengine', 'pydantic', 'nrrd')))"
    )
    paths = [str(MODULE_FILE.parents[1] / "Testing"), str(MODULE_FILE.parent)]
    assert subprocess.run([sys.executable, "-c", script, *paths], check=False).returncode == 0


def test_what_slicer_loads_imports_at_file_scope_only_what_slicer_ships():
    allowed = {"slicer", "vtk", "numpy", "SimpleITK", "scipy", "SlicerXAILib", "qt", "ctk", *sys.stdlib_module_names}
    files = [MODULE_FILE, *(MODULE_FILE.parent / "SlicerXAILib").rglob("*.py")]
    assert len(files) > 10
    for file in files:
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(statement, ast.Import):
                names = [alias.name for alias in statement.names]
            elif isinstance(statement, ast.ImportFrom) and statement.level == 0:
                names = [statement.module]
            foreign = {name.partition(".")[0] for name in names} - allowed
            assert not foreign, f"{file.name} imports {foreign}"


def test_quantify_lesions_gives_nodes_and_numbers(logic, a_scan):
    seen = []
    result = logic.quantifyLesions(a_scan, progress=lambda fraction, text: seen.append((fraction, text)))
    assert result.attribution.GetName() == "CT attribution"
    assert result.lesions.GetSegmentation().GetNthSegment(0).GetName() == "Lesion 1"
    assert result.table.GetNumberOfRows() == 2
    assert result.values["burden_ml"] == 8.0
    assert seen[0] == (0.25, "Explaining, about 40 s left")
    assert temporaryJobs() == []


def test_options_and_model_reach_the_engine(logic, a_scan):
    result = logic.quantifyLesions(a_scan, model="my-model", repeats=3, threshold=None, seed=9, device="cpu")
    job = result.provenance["job"]
    assert (job["model"], job["seed"], job["device"]) == ("my-model", 9, "cpu")
    assert job["options"] == {"repeats": 3}
    assert set(job["inputs"]) == {"volume"}


def test_a_transformed_scan_is_said_in_the_warnings(logic, a_scan):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Registration")
    a_scan.SetAndObserveTransformNodeID(transform.GetID())
    assert any("Registration" in text for text in logic.quantifyLesions(a_scan).warnings)


def test_no_volume_is_an_error_with_a_remedy(logic):
    with pytest.raises(EngineError, match="Quantify lesions needs volume.*Chest CT"):
        logic.quantifyLesions(None)


@pytest.mark.parametrize(("task", "error"), [("fail", EngineError), ("crash", EngineCrashed)])
def test_a_failed_task_raises_leaves_nothing_and_the_next_works(logic, a_scan, task, error):
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(error):
        logic.runTask(task, {"volume": a_scan})
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert temporaryJobs() == []
    assert logic.quantifyLesions(a_scan).values["severity"] == "CT-1"


def test_closing_the_scene_stops_the_job(application, logic, a_scan):
    run = logic.startTask("hang", {"volume": a_scan})
    run.progress.connect(lambda fraction, text: application.clear_scene())
    with pytest.raises(JobCancelled):
        run.wait()
    assert temporaryJobs() == []


def test_a_result_that_cannot_be_loaded_fails_the_task(logic, a_scan):
    with pytest.raises(EngineError, match="result.json"):
        logic.runTask("count", {"volume": a_scan})
    assert temporaryJobs() == []


def test_showing_the_map_puts_it_over_its_scan(logic, a_scan):
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    result = logic.quantifyLesions(a_scan)
    composite = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetForegroundVolumeID() == result.attribution.GetID()
    assert composite.GetBackgroundVolumeID() == a_scan.GetID()
    assert np.isclose(composite.GetForegroundOpacity(), 0.6)
