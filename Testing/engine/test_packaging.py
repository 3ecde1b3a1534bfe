"""The extension's package holds every file that it needs, and generated files are current."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SlicerXAI"
UPDATE = ROOT / "Testing" / "update_generated_files.py"


def cmake_list(file: Path, name: str) -> list[str]:
    """The items of ``set(name ...)`` as CMake would read them."""
    text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
    return re.search(rf"\bset\(\s*{name}\b([^)]*)\)", text).group(1).split()


def load_update_script():
    spec = importlib.util.spec_from_file_location("update_generated_files", UPDATE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tracked_or_new(folder: Path) -> set[str]:
    """The files below a folder that git knows or would take, relative to the module's folder."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", str(folder)]
    listed = subprocess.run(command, cwd=MODULE, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return {line for line in listed.stdout.splitlines() if (MODULE / line).is_file()}


def test_every_file_of_the_packages_is_listed_for_cmake():
    listed = cmake_list(MODULE / "CMakeLists.txt", "MODULE_PYTHON_SCRIPTS")
    listed += cmake_list(MODULE / "CMakeLists.txt", "MODULE_PYTHON_RESOURCES")
    assert len(listed) == len(set(listed))
    shipped = set().union(*(tracked_or_new(MODULE / name) for name in ("SlicerXAILib", "xaiengine", "Resources")))
    hint = "run: python Testing/update_generated_files.py"
    assert shipped - set(listed) == set(), hint
    assert set(listed) - shipped == {"SlicerXAI.py"}, hint


def test_every_module_is_added_to_the_extension():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(XAI)" in text and "add_subdirectory(SlicerXAI)" in text
    folders = sorted(path.parent.name for path in MODULE.glob("XAI*/*.py"))
    assert sorted(cmake_list(ROOT / "CMakeLists.txt", "CLI_MODULES")) == folders
    for name in folders:
        assert (MODULE / name / f"{name}.xml").is_file()
        assert f"SlicerMacroBuildScriptedCLI(NAME {name})" in (MODULE / name / "CMakeLists.txt").read_text("utf-8")


def test_generated_files_are_current():
    stale = [
        path.relative_to(ROOT).as_posix()
        for path, content in load_update_script().generated_files().items()
        if path.read_bytes() != content.encode("utf-8")
    ]
    assert stale == [], "run: python Testing/update_generated_files.py"


def test_module_files_do_not_start_with_an_interpreter_line():
    for path in [MODULE / "SlicerXAI.py", *(MODULE / "SlicerXAILib").rglob("*.py")]:
        assert not path.read_bytes().startswith(b"#!"), path.name


def test_text_files_have_line_feeds_only():
    names = [name for name in tracked_or_new(MODULE) if name.endswith((".py", ".txt", ".xml", ".json", ".ui"))]
    assert len(names) > 50
    assert [name for name in names if b"\r" in (MODULE / name).read_bytes()] == []


def test_the_license_lies_in_the_root():
    assert "Apache License" in (ROOT / "LICENSE.txt").read_text(encoding="utf-8")


def test_the_environment_of_demo_and_tests_holds_every_dependency():
    declared = load_update_script().requirements().split()
    installed = (ROOT / "Testing" / "requirements-demo.txt").read_text(encoding="utf-8").split()
    assert {name for name in declared if not name.startswith("torch>")} <= set(installed)
