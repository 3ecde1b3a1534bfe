"""Whether torch works is found by importing it, in a process that may fail; the remedy fits the failure."""

from __future__ import annotations

import sys

import pytest
from SlicerXAILib.TorchProbe import probeTorch, remedyFor

WORKING = """
__version__ = "2.13.0+cu128"
class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod(lambda number: ["H100", "T4"][number])
"""
CPU_ONLY = """
__version__ = "2.13.0+cpu"
print("a library greets")
class cuda:
    is_available = staticmethod(lambda: False)
class backends:
    mps = None
"""


@pytest.fixture
def torch_that(tmp_path, monkeypatch):
    """Puts a package called torch before all others of the child process."""

    def write(code: str) -> None:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch" / "__init__.py").write_text(code, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_devices_of_a_working_torch_are_listed(torch_that):
    torch_that(WORKING)
    report = probeTorch()
    assert report.devices == (("cuda:0", "H100"), ("cuda:1", "T4"))
    assert (report.version, report.problem) == ("2.13.0+cu128", "")
    assert "torch" not in sys.modules or sys.modules["torch"].__version__ != "2.13.0+cu128"


def test_without_a_gpu_there_are_no_devices(torch_that):
    torch_that(CPU_ONLY)
    assert probeTorch().devices == ()
    assert probeTorch().problem == ""


def test_a_missing_library_is_said_with_its_correct(torch_that):
    torch_that("raise ImportError('libcublas.so.12: cannot open shared object file')")
    report = probeTorch()
    assert "libcublas.so.12" in report.problem
    assert "build for the CPU" in report.remedy


def test_a_torch_that_ends_the_process_is_survived(torch_that):
    torch_that("import os; os._exit(139)")
    report = probeTorch()
    assert report.problem.startswith("Importing torch") and "139" in report.problem
    assert "Uninstall" in report.remedy


def test_a_torch_that_never_ends_loading_is_given_up(torch_that):
    torch_that("import threading; threading.Event().wait()")
    assert "not imported within 2 s" in probeTorch(seconds=2).problem


@pytest.mark.parametrize(
    ("error", "correct"),
    [
        ("ModuleNotFoundError: No module named 'torch'", "Install torch with the panel"),
        ("OSError: [WinError 126] Error loading c10.dll", "Visual C++"),
        ("ImportError: numpy.core.multiarray failed to import", "numpy do not fit"),
        ("SyntaxError: invalid syntax", "Uninstall"),
    ],
)
def test_each_failure_has_its_correct(error, correct):
    assert correct in remedyFor(error)
