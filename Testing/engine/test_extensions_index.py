"""The extension's catalog entry keeps the rules of the Extensions Index that can be read off files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
# The index's check refuses others; these are those that its catalog uses.
CATEGORIES = {
    "Analysis",
    "Active Learning",
    "Cardiac",
    "Developer Tools",
    "Diffusion",
    "DICOM",
    "Examples",
    "Exporter",
    "Filtering",
    "IGT",
    "Informatics",
    "Libraries",
    "Neuroimaging",
    "Orthodontics",
    "Photogrammetry",
    "Quantification",
    "Radiotherapy",
    "Registration",
    "Rendering",
    "Segmentation",
    "Sequences",
    "Shape Analysis",
    "Surface Models",
    "Testing",
    "Tomographic Reconstruction",
    "Ultrasound",
    "Utilities",
    "Vascular Modeling Toolkit",
    "Virtual Reality",
    "Web System Tools",
}
REQUIRED = {"category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory", "tier"}


@pytest.fixture(scope="module")
def entry() -> dict:
    (file,) = (ROOT / "ExtensionsIndex").glob("*.json")
    assert file.stem == re.search(r"project\((\w+)\)", CMAKE).group(1), "the file is called as the extension"
    return json.loads(file.read_text(encoding="utf-8"))


def setting(name: str) -> str:
    return re.search(rf'set\({name} "([^"]*)"\)', CMAKE).group(1)


def test_the_entry_is_complete_and_points_to_the_repository(entry):
    assert entry.keys() >= REQUIRED and "$schema" in entry
    repository = re.fullmatch(r"https://github\.com/[\w-]+/([\w-]+)\.git", entry["scm_url"]).group(1)
    assert repository.startswith("Slicer") and entry["tier"] in range(1, 6)
    assert not re.search(r"project\(Slicer", CMAKE)


def test_extension_modules_and_entry_name_one_known_category(entry):
    assert entry["category"] in CATEGORIES
    assert setting("EXTENSION_CATEGORY") == entry["category"]
    module = (ROOT / "SlicerXAI" / "SlicerXAI.py").read_text(encoding="utf-8")
    assert f'"{entry["category"]}"' in module
    for description in (ROOT / "SlicerXAI").glob("XAI*/XAI*.xml"):
        assert f"<category>{entry['category']}</category>" in description.read_text(encoding="utf-8"), description.name


def test_dependencies_are_those_of_the_build(entry):
    assert entry["build_dependencies"] == setting("EXTENSION_DEPENDS").split()


def test_what_reviewers_look_for_is_there():
    assert (ROOT / "LICENSE.txt").is_file() and (ROOT / "NOTICE").is_file()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for module in sorted(path.parent.name for path in (ROOT / "SlicerXAI").glob("XAI*/*.py")):
        assert module in readme, f"README says nothing about {module}"
    assert "![" in readme and "cite" in readme.lower()
    assert setting("EXTENSION_HOMEPAGE") and setting("EXTENSION_DESCRIPTION") and setting("EXTENSION_CONTRIBUTORS")
