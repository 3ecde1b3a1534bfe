"""Results open like other data: recognized by name and content, loaded whole or not at all."""

from __future__ import annotations

import fnmatch
import re
import shutil
from pathlib import Path

import pytest
import slicer
from SlicerXAILib.ResultFileReader import readingConfidence

MODULE_FILE = Path(__file__).parents[2] / "SlicerXAI" / "SlicerXAI.py"


@pytest.fixture
def module(application, scene):
    return application.load_scripted_module(MODULE_FILE)


def test_a_result_is_recognized_by_name_and_content(result_folder, tmp_path):
    renamed = tmp_path / "Patient 7.XAI.json"
    shutil.copy(result_folder / "result.json", renamed)
    assert readingConfidence(result_folder / "result.json") > 0.5
    assert readingConfidence(renamed) > 0.5


@pytest.mark.parametrize(
    ("name", "content"),
    [("result.json", "{}"), ("result.json", "no JSON"), ("result.json", "[1]"), ("other.json", None)],
)
def test_other_files_are_left_to_other_readers(result_folder, tmp_path, name, content):
    path = tmp_path / name
    path.write_text((result_folder / "result.json").read_text("utf-8") if content is None else content, "utf-8")
    assert readingConfidence(path) == 0.0
    assert readingConfidence(tmp_path / "result.json" / "absent") == 0.0


@pytest.mark.parametrize("name", ["result.json", "Patient 7.xai.json"])
def test_its_patterns_fit_whole_paths_as_slicer_compares_them(module, result_folder, name):
    """Slicer lets a wildcard pattern fit the absolute path, not the file's name alone."""
    reader = module.file_reader()
    patterns = [re.search(r"\((.*)\)", text).group(1) for text in reader.extensions()]
    assert any(fnmatch.fnmatchcase(str(result_folder / name), pattern) for pattern in patterns)
    assert not any(fnmatch.fnmatchcase(str(result_folder / "scan.json"), pattern) for pattern in patterns)


@pytest.mark.parametrize("name", ["result.json", "Patient 7.xai.json"])
def test_a_dropped_result_becomes_nodes(module, result_folder, name):
    path = result_folder / name
    if not path.exists():
        (result_folder / "result.json").rename(path)
    expected = "Patient 7" if name.startswith("Patient") else "result"
    assert slicer.app.coreIOManager().fileType(str(path)) == "XAIResult"
    assert slicer.util.loadNodeFromFile(str(path)).GetName() == f"{expected} attribution"
    for name in ("attribution", "lesions", "lesion table"):
        assert slicer.util.getNode(f"{expected} {name}") is not None
    attribution = slicer.util.getNode(f"{expected} attribution")
    assert attribution.GetStorageNode().GetFileName() == str(result_folder / "attribution.nrrd")


def test_a_damaged_result_is_said_and_leaves_nothing(module, result_folder):
    (result_folder / "table.csv").unlink()
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(RuntimeError, match="lacks its file table.csv"):
        slicer.util.loadNodeFromFile(str(result_folder / "result.json"))
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_the_reader_says_what_it_reads(module):
    reader = module.file_reader()
    assert reader.fileType() == "XAIResult" and reader.description()
    assert any("*.xai.json" in extension for extension in reader.extensions())
