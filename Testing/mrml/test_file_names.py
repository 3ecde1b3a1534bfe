"""Names of scans become names of files on every system."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import slicer
from SlicerXAILib.FileNames import fileName

HOSTILE = [
    "3: CHEST W/O 1.0",
    'a?b*<c>|"d"',
    "..",
    "",
    "  ",
    "../../etc/passwd",
    "C:\\scan",
    "NUL",
    "com1.nii",
    "trailing. ",
    "x" * 400,
    "line\nbreak",
    "Müller^Jörg",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_of_a_scan_is_one_legal_name(name, tmp_path):
    made = fileName(name, "quantify-lesions", extension=".html")
    for kind in (PurePosixPath, PureWindowsPath):
        assert kind(made).name == made and len(kind(made).parts) == 1
    assert not PureWindowsPath(fileName(name)).is_reserved()
    assert not set(made) & set('<>:"/\\|?*') and made.isprintable()
    assert not fileName(name).endswith((".", " ")) and len(made) < 200
    (tmp_path / made).write_text("", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [made]


def test_a_usual_name_stays_as_it_is():
    assert fileName("Chest CT 2", "dissect") == "Chest CT 2 dissect"
    assert fileName("Müller^Jörg") == "Müller^Jörg"


def test_files_for_other_tasks_are_kept_in_a_folder_that_every_system_allows(logic, a_scan):
    a_scan.SetName("3: CHEST W/O 1.0")
    loaded = logic.runTask("find-directions", {"volume": a_scan}, {})
    kept = Path(next(text for text in loaded.warnings if "kept" in text).partition("kept in ")[2].rstrip("."))
    assert kept.is_dir() and kept.parent == Path(slicer.app.defaultScenePath) / "SlicerXAI"
    assert not set(kept.name) & set('<>:"/\\|?*') and "CHEST W O 1.0" in kept.name
