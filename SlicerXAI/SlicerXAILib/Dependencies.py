"""The Python packages that the engine needs: found without importing them, installed with the user's consent.

Importing torch can end the Slicer application, and a half-finished installation cannot be imported at all;
so only the packages' metadata and files are looked at.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import slicer

from .EngineErrors import EngineError
from .Translation import tr as _

REQUIREMENTS_FILE = Path(__file__).resolve().parent.parent / "Resources" / "requirements.txt"
REQUESTER = "SlicerXAI"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Requirement:
    """A package and the least version of it."""

    name: str
    minimum: str

    def __str__(self) -> str:
        return f"{self.name}>={self.minimum}"


def readRequirements(path: Path = REQUIREMENTS_FILE) -> list[Requirement]:
    """Return the requirements of a file that holds one ``name>=version`` a line."""
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [Requirement(*(part.strip() for part in line.split(">="))) for line in lines if line]


def installedVersion(name: str) -> str | None:
    """Return the version that a package's metadata states, without importing the package.

    Only the line with the version is read; to parse all of the metadata takes a tenth of a second for each package.
    """
    try:
        text = metadata.distribution(name).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return None
    stated = re.search(r"^Version: *(\S+)", text, re.MULTILINE)
    return stated.group(1) if stated else metadata.version(name)


def missingRequirements(requirements: Sequence[Requirement] | None = None) -> list[Requirement]:
    """Return what is absent or too old."""
    wanted = readRequirements() if requirements is None else requirements
    return [item for item in wanted if not _suffices(installedVersion(item.name), item.minimum)]


def torchProblem() -> str:
    """Say what is wrong with the installed torch and how to correct it; empty if it is whole or absent."""
    again = _("In the PyTorch Utils module click Uninstall, restart Slicer, and install it again.")
    version = installedVersion("torch")
    isFound = importlib.util.find_spec("torch") is not None
    if version is None:
        cutOff = _("There is a torch folder without its metadata: an installation was cut off. {again}")
        return cutOff.format(again=again) if isFound else ""
    if not isFound:
        return _("torch {version} is registered, but its files are gone. {again}").format(version=version, again=again)
    damaged = _damagedFiles("torch")
    if damaged:
        return _("torch {version} is installed in part: {file} is missing or cut off. {again}").format(
            version=version, file=damaged[0], again=again
        )
    wanted = _pinned("torchvision", "torch")
    if wanted and wanted != version.partition("+")[0]:
        return _(
            "torchvision {vision} is made for torch {wanted}, but torch {version} is "
            "installed. Uninstall torchvision, or install both again with the PyTorch Utils module."
        ).format(vision=installedVersion("torchvision"), wanted=wanted, version=version)
    return ""


def whyNotReady() -> str:
    """Say what keeps the engine from running here; empty if nothing does."""
    problem = torchProblem()
    if problem:
        return problem
    missing = ", ".join(str(item) for item in missingRequirements())
    return _("These Python packages are needed: {names}.").format(names=missing) if missing else ""


def install(confirm: Callable[[str], bool], onlyCpu: bool = False) -> bool:
    """Install what is missing; returns False if the user declines.

    torch goes through the PyTorch extension, which finds the build for this machine's GPU; the rest through
    Slicer's package manager.

    :param confirm: asks the user whether the packages named in its text may be installed.
    :param onlyCpu: take torch's build without GPU support, which is a tenth of the size.
    :raises EngineError: the PyTorch extension is absent, pip failed, or Slicer's own question was declined.
    """
    missing = missingRequirements()
    if not missing:
        return True
    names = ", ".join(str(item) for item in missing)
    if not confirm(_("These Python packages will be installed: {names}").format(names=names)):
        return False
    torch = [item for item in missing if item.name == "torch"]
    with _saidToTheUser():
        if torch:
            _installTorch(torch[0], onlyCpu)
        _installPackages([item for item in missing if item.name != "torch"])
    importlib.invalidate_caches()
    return not missingRequirements()


@contextlib.contextmanager
def _saidToTheUser() -> Iterator[None]:
    """Turn what Slicer's package manager raises into sentences with a remedy."""
    try:
        yield
    except subprocess.CalledProcessError as error:
        raise EngineError(
            _("The packages could not be installed: pip ended with exit code {code}.").format(code=error.returncode),
            _(
                "Check the network connection and the proxy settings, and read the Python console, which shows what "
                "pip said. For computers without network, click 'Without network...'."
            ),
        ) from error
    except RuntimeError as error:
        raise EngineError(
            _("The packages were not installed: {reason}").format(reason=error),
            _("Click Install again and agree, or click 'Without network...' for the commands to run by hand."),
        ) from error


def offlineInstructions() -> str:
    """Say how to bring the packages to a machine without network."""
    names = " ".join(f'"{item}"' for item in missingRequirements() or readRequirements())
    return _(
        "On a machine with network, the same operating system and the same Slicer, run in a "
        "terminal:\n  PythonSlicer -m pip download {names} -d wheels\n(for torch without GPU support, "
        "a tenth of the size, add: --extra-index-url {address})\nCopy the folder wheels to this "
        "machine and run:\n  PythonSlicer -m pip install --no-index --find-links wheels {names}"
    ).format(names=names, address=CPU_WHEELS)


def _installTorch(requirement: Requirement, onlyCpu: bool) -> None:
    try:
        import PyTorchUtils
    except ImportError as error:
        raise EngineError(
            _("torch is not installed, and the PyTorch extension, which installs it, is missing."),
            _("Install the PyTorch extension in the Extensions Manager, restart Slicer and try again."),
        ) from error
    logic = PyTorchUtils.PyTorchUtilsLogic()
    wanted = {"torchVersionRequirement": f">={requirement.minimum}"}
    if onlyCpu:
        wanted["forceComputationBackend"] = "cpu"
    if logic.installTorch(askConfirmation=False, **wanted) is None:
        raise EngineError(
            _("torch could not be installed."), _("See the log, and install it with the PyTorch Utils module.")
        )


def _installPackages(requirements: Sequence[Requirement]) -> None:
    if not requirements:
        return
    try:
        from slicer import packaging
    except ImportError:  # Slicer 5.10
        slicer.util.pip_install([str(item) for item in requirements])
        return
    packaging.pip_ensure(
        packaging.load_requirements(REQUIREMENTS_FILE),
        requester=REQUESTER,
        skip_packages=["torch", "SimpleITK"],
        prompt_install=False,  # the user has agreed already
    )


def _suffices(version: str | None, minimum: str) -> bool:
    return version is not None and _numbers(version) >= _numbers(minimum)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version: ``(2, 6)`` for ``2.6.0+cpu``, zeros at the end left out."""
    numbers = [int(part) for part in re.match(r"[0-9.]*", version).group().split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _damagedFiles(name: str) -> list[str]:
    """Return the package's own libraries and start file that are missing or of another size than installed.

    Its list of files has thousands of lines, of which only these few are looked at: the panel asks while it opens.
    """
    distribution = metadata.distribution(name)
    start, libraries = f"{name}/__init__.py", f"{name}/lib/"
    lines = (distribution.read_text("RECORD") or "").splitlines()
    rows = csv.reader(line for line in lines if line.startswith((start, libraries)))
    relevant = [row for row in rows if row[0] == start or row[0].count("/") == libraries.count("/")]
    return [row[0] for row in relevant if not _isWhole(Path(distribution.locate_file(row[0])), row[-1])]


def _isWhole(path: Path, size: str) -> bool:
    return path.is_file() and (not size.isdecimal() or path.stat().st_size == int(size))


def _pinned(name: str, dependency: str) -> str | None:
    """Return the one version of a dependency that a package asks for."""
    try:
        wanted = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None
    pins = (re.match(rf"{dependency}\s*\(?==\s*([0-9.]+)", item) for item in wanted)
    return next((pin.group(1) for pin in pins if pin), None)
