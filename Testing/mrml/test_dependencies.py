"""Missing, old and half-installed packages are found by their files, and corrected with consent."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest
from host.slicer_packaging import Packaging
from SlicerXAILib import Dependencies
from SlicerXAILib.Dependencies import Requirement
from SlicerXAILib.EngineErrors import EngineError

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A site-packages folder of its own, the only place where packages are looked for."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("torch", "torchvision"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def installPackage(folder: Path, name: str, version: str, requires: str = "") -> Path:
    """Install a package of one library and one start file, as pip would leave it."""
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (metadata / "METADATA").write_text(text + (f"Requires-Dist: {requires}\n" if requires else ""))
    library = folder / name / "lib" / "libcore.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"x" * 100)
    (folder / name / "__init__.py").write_text("raise ImportError\n")
    size = (folder / name / "__init__.py").stat().st_size
    (metadata / "RECORD").write_text(f"{name}/__init__.py,,{size}\n{name}/lib/libcore.so,,100\n")
    return library


def test_a_whole_installation_has_no_problem_and_is_not_imported(packages):
    installPackage(packages, "torch", "2.13.0+cpu")
    assert Dependencies.torchProblem() == ""
    assert "torch" not in sys.modules


def test_an_absent_torch_is_missing_but_no_problem(packages):
    assert Dependencies.torchProblem() == ""
    assert Requirement("torch", "2.6") in Dependencies.missingRequirements()
    assert "torch>=2.6" in Dependencies.whyNotReady()


def test_a_cut_off_library_is_named(packages):
    installPackage(packages, "torch", "2.13.0").write_bytes(b"x" * 40)
    assert "libcore.so is missing or cut off" in Dependencies.torchProblem()
    assert "Uninstall" in Dependencies.whyNotReady()


def test_a_folder_without_metadata_is_half_an_installation(packages):
    (packages / "torch").mkdir()
    (packages / "torch" / "__init__.py").write_text("")
    assert "without its metadata" in Dependencies.torchProblem()


def test_metadata_without_files_is_half_an_installation(packages):
    installPackage(packages, "torch", "2.13.0")
    (packages / "torch").rename(packages / "gone")
    assert "its files are gone" in Dependencies.torchProblem()


def test_a_torchvision_made_for_another_torch_is_named(packages):
    installPackage(packages, "torch", "2.13.0+cpu")
    installPackage(packages, "torchvision", "0.20.0", "torch (==2.5.0)")
    assert "torchvision 0.20.0 is made for torch 2.5.0, but torch 2.13.0" in Dependencies.torchProblem()


@pytest.mark.parametrize(
    ("installed", "minimum", "missing"),
    [("1.6.0", "1.6", False), ("1.10", "1.6", False), ("1.5.9", "1.6", True), ("2.0rc1", "1.6", False)],
)
def test_versions_are_compared_as_numbers(packages, installed, minimum, missing):
    installPackage(packages, "monai", installed)
    wanted = Requirement("monai", minimum)
    assert (wanted in Dependencies.missingRequirements([wanted])) == missing


def test_the_shipped_requirements_are_those_of_the_package():
    text = PYPROJECT.read_text(encoding="utf-8")
    block = text.partition("dependencies = [")[2].partition("]")[0]
    declared = [line.strip().strip('",') for line in block.splitlines() if line.strip()]
    assert [str(item) for item in Dependencies.readRequirements()] == declared


def test_nothing_is_installed_without_consent(packages, monkeypatch):
    asked = []
    monkeypatch.setattr(Dependencies, "_installTorch", lambda *_: pytest.fail("torch was installed"))
    assert Dependencies.install(lambda text: asked.append(text)) is False
    assert "monai>=1.6" in asked[0]


class PyTorchUtilsLogic:
    """The PyTorch extension's logic, with the signature of its installTorch."""

    calls: list[tuple] = []

    def installTorch(
        self,
        askConfirmation: bool = False,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
        torchvisionVersionRequirement: str | None = None,
    ):
        self.calls.append((askConfirmation, torchVersionRequirement, forceComputationBackend))
        return types.SimpleNamespace(__version__="2.13.0")


@pytest.fixture
def newSlicer(packages, monkeypatch):
    """Slicer 5.12 with the PyTorch extension; returns its package manager."""
    packaging = Packaging()
    PyTorchUtilsLogic.calls = []
    monkeypatch.setitem(sys.modules, "PyTorchUtils", types.SimpleNamespace(PyTorchUtilsLogic=PyTorchUtilsLogic))
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr("slicer.packaging", packaging, raising=False)
    return packaging


def test_torch_is_installed_by_the_pytorch_extension_and_the_rest_by_slicer(newSlicer):
    Dependencies.install(lambda text: True)
    assert PyTorchUtilsLogic.calls == [(False, ">=2.6", None)]
    assert newSlicer.calls == [("SlicerXAI", ["torch", "SimpleITK"])] and "monai>=1.6" in newSlicer.installed
    Dependencies.install(lambda text: True, onlyCpu=True)
    assert PyTorchUtilsLogic.calls[1:] == [(False, ">=2.6", "cpu")]


def test_the_user_is_asked_once(newSlicer):
    asked = []
    Dependencies.install(lambda text: asked.append(text) or True)
    assert len(asked) == 1 and newSlicer.questions == []


def test_pip_that_fails_is_told_with_what_to_do(newSlicer):
    newSlicer.exit_code = 1
    with pytest.raises(EngineError, match="pip ended with exit code 1") as failure:
        Dependencies.install(lambda text: True)
    assert "network" in failure.value.remedy and "Without network" in failure.value.remedy


def test_an_older_slicers_pip_that_fails_is_told_too(packages, monkeypatch):
    for item in Dependencies.readRequirements():
        if item.name != "captum":
            installPackage(packages, item.name, "99.0")

    def fail(requirements, requester=None):
        raise subprocess.CalledProcessError(2, ["pip"])

    monkeypatch.setattr("slicer.util.pip_install", fail)
    with pytest.raises(EngineError, match="exit code 2"):
        Dependencies.install(lambda text: True)


def test_a_torch_that_slicer_declines_to_install_is_told(newSlicer, monkeypatch):
    def decline(self, **_wanted):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(PyTorchUtilsLogic, "installTorch", decline)
    with pytest.raises(EngineError, match="User declined package installation"):
        Dependencies.install(lambda text: True)


def test_without_the_pytorch_extension_the_user_is_told_to_install_it(packages):
    with pytest.raises(EngineError, match="PyTorch extension in the Extensions Manager"):
        Dependencies.install(lambda text: True)


def test_an_older_slicer_installs_with_its_pip(packages, monkeypatch):
    for item in Dependencies.readRequirements():
        if item.name != "captum":
            installPackage(packages, item.name, "99.0")
    installed = []
    monkeypatch.setattr("slicer.util.pip_install", installed.extend)
    Dependencies.install(lambda text: True)
    assert installed == ["captum>=0.9"]


def writeWheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one empty module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = {f"{name}/__init__.py": "", f"{info}/METADATA": metadata, f"{info}/WHEEL": tag}
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)


def test_the_offline_command_installs_from_a_folder_of_wheels(tmp_path, monkeypatch):
    """The command as it is told, run by a real pip into an empty folder, then looked at without import."""
    names = [item.name for item in Dependencies.readRequirements()]
    (tmp_path / "wheels").mkdir()
    for name in names:
        writeWheel(tmp_path / "wheels", name, "99.0")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "path", [str(tmp_path)])
        told = Dependencies.offlineInstructions().splitlines()[-1]
    command = shlex.split(told.strip().replace("PythonSlicer", "python"))[1:]
    command = [sys.executable, *command, "--target", str(tmp_path / "site"), "--no-deps", "--quiet"]
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    settings["PIP_CONFIG_FILE"] = os.devnull  # the computer's own settings may name other places
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=settings)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site")])
    assert Dependencies.missingRequirements() == []
    assert {Dependencies.installedVersion(name) for name in names} == {"99.0"}


def test_offline_machines_get_the_list_of_packages(packages):
    text = Dependencies.offlineInstructions()
    assert '"torch>=2.6"' in text and "--no-index" in text
