"""Fixtures: the Slicer application's stand-in with an empty scene for each test, scans and results."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer_core")

import slicer  # noqa: E402
from host.application import Application  # noqa: E402
from host.example_result import write_example_result  # noqa: E402
from host.scan_geometries import IJK_TO_RAS, SHAPE  # noqa: E402
from SlicerXAILib.EngineProcess import EngineProcess  # noqa: E402
from SlicerXAILib.Logic import XAILogic  # noqa: E402

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


@pytest.fixture(scope="session")
def application() -> Application:
    return Application.instance()


@pytest.fixture
def scene(application: Application):
    """An empty MRML scene, cleared again afterwards."""
    application.clear_scene()
    yield application.scene
    application.clear_scene()


@pytest.fixture(scope="module")
def engine():
    """An engine that answers at once with an example result."""
    engine = EngineProcess([sys.executable, "-u", str(FAKE_ENGINE)])
    yield engine
    engine.shutdown()


@pytest.fixture(scope="session")
def real_engine(application):
    """The engine itself, one process for all tests of the console."""
    engine = EngineProcess()
    yield engine
    engine.shutdown()


@pytest.fixture
def logic(scene, engine):
    """The module's logic over that engine."""
    logic = XAILogic(engine)
    yield logic
    slicer.mrmlScene.RemoveObserver(logic._closing)


@pytest.fixture
def a_scan(scene):
    """A volume node "CT" of random Hounsfield units on an oblique grid."""
    return make_scan("oblique")


@pytest.fixture
def scan_on(scene):
    """Makes a volume node "CT" on one of the named geometries."""
    return make_scan


@pytest.fixture
def result_folder(tmp_path: Path) -> Path:
    """A result with an artifact of every kind, on the grid of ``a_scan``."""
    return write_example_result(tmp_path / "result", SHAPE, IJK_TO_RAS["oblique"])


def make_scan(geometry: str) -> slicer.vtkMRMLScalarVolumeNode:
    voxels = np.random.default_rng(5).integers(-1000, 400, SHAPE[::-1]).astype(np.int16)
    node = slicer.util.addVolumeFromArray(voxels, name="CT")
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(IJK_TO_RAS[geometry]))
    return node
