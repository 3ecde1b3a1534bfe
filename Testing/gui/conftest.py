"""Fixtures: the panel on the screen of an application that stands in for Slicer, with engines real and pretended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
_MISSING = ""
try:
    import slicer
    from host import qt_driver
    from host.bright_lesion import make_patient, write_model
    from host.qt_application import GuiApplication, OpenedModule
    from host.scan_geometries import IJK_TO_RAS, SHAPE
    from SlicerXAILib.EngineProcess import EngineProcess
except ImportError as error:  # not installed, or a library of the system (libEGL, libGL) is missing
    _MISSING, EngineProcess = f"The panel's tests need slicer-core and PySide6-Essentials: {error}", object

ROOT = Path(__file__).resolve().parents[2]
MODULE_FILE = ROOT / "SlicerXAI" / "SlicerXAI.py"
FAKE_ENGINE = ROOT / "Testing" / "mrml" / "fake_engine.py"
PANEL_SIZE = (480, 1700)


class _LeftOut(pytest.Module):
    """A file of tests that cannot run here, and why."""

    def collect(self):
        pytest.skip(_MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return _LeftOut.from_parent(parent, path=module_path) if _MISSING else None


@pytest.fixture(scope="session")
def gui() -> GuiApplication:
    return GuiApplication.instance()


@pytest.fixture
def scene(gui):
    """An empty scene and no settings of earlier tests."""
    gui.clear_scene()
    slicer.app.userSettings().clear()
    yield gui.scene
    gui.clear_scene()


@pytest.fixture
def open_panel(gui, scene, monkeypatch):
    """Opens the module with an engine; may be called twice, as two windows would."""
    opened: list[OpenedModule] = []

    def open_with(engine: EngineProcess):
        monkeypatch.setattr("SlicerXAILib.Logic.EngineProcess", lambda: engine)
        module = gui.open_module(MODULE_FILE)
        module.representation.resize(*PANEL_SIZE)
        module.representation.show()
        opened.append(module)
        qt_driver.turn()
        return module.widget.panel

    yield open_with
    for module in opened:
        module.close()
    qt_driver.turn()


@pytest.fixture
def fake_engine():
    """An engine that answers at once with an example result, or misbehaves as the model's name tells it to."""
    engine = EngineProcess([sys.executable, "-u", str(FAKE_ENGINE)])
    yield engine
    engine.shutdown(timeout=0)


@pytest.fixture
def panel(open_panel, fake_engine):
    """The panel with the engine that answers at once."""
    return open_panel(fake_engine)


class KeptEngine(EngineProcess):
    """The real engine, which outlives the panels of several tests as torch takes long to load."""

    def shutdown(self, timeout: float = 3.0) -> None:
        self.cancel()


@pytest.fixture(scope="session")
def kept_engine():
    engine = KeptEngine()
    yield engine
    EngineProcess.shutdown(engine)


@pytest.fixture
def real_panel(open_panel, kept_engine):
    """The panel with the real engine."""
    return open_panel(kept_engine)


@pytest.fixture(scope="session")
def bright_model(tmp_path_factory) -> str:
    """A classifier of slices that calls lesion what is brighter than soft tissue."""
    return str(write_model(tmp_path_factory.mktemp("model") / "bright_lesions"))


@pytest.fixture
def a_patient(scene):
    """A CT of a chest with one bright ball in the left lung, and the segmentation of the lungs."""
    ijk_to_ras = IJK_TO_RAS["oblique"]
    center = (ijk_to_ras @ [*(size * 0.4 for size in SHAPE), 1.0])[:3]
    return make_patient(ijk_to_ras, SHAPE, center)


@pytest.fixture
def a_scan(a_patient):
    return a_patient[0]
