"""Fixtures: the Slicer application's stand-in, and a CLI module of a small task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer_core")

import slicer  # noqa: E402
from host import mark_brightest  # noqa: E402
from host.application import Application  # noqa: E402
from host.cli_engine import SUPPORTED, CommandLineModule  # noqa: E402
from host.scan_geometries import IJK_TO_RAS, SHAPE  # noqa: E402
from xaiengine.app.cli_xml import cli_xml  # noqa: E402

TESTING = Path(__file__).resolve().parents[1]
SCRIPT = f"""
import sys
sys.path[:0] = [{str(TESTING)!r}, {str(TESTING.parent / "SlicerXAI")!r}]
from host import mark_brightest
from xaiengine.app.slicer_cli import main
mark_brightest.register()
sys.exit(main(mark_brightest.NAME))
"""
PEAK_KJI = (5, 11, 3)


@pytest.fixture(scope="session")
def application() -> Application:
    return Application.instance()


@pytest.fixture
def scene(application: Application):
    """An empty MRML scene, cleared again afterwards."""
    application.clear_scene()
    yield application.scene
    application.clear_scene()


@pytest.fixture(scope="session")
def mark_script(tmp_path_factory) -> Path:
    """The script of a CLI module that marks a volume's brightest voxel, with its XML beside it."""
    script = tmp_path_factory.mktemp("module") / "MarkBrightest.py"
    script.write_text(SCRIPT, encoding="utf-8")
    script.with_suffix(".xml").write_text(cli_xml(mark_brightest.MarkBrightest(), "1.0"), encoding="utf-8")
    return script


@pytest.fixture(scope="session")
def make_mark_module(application, mark_script):
    """Loads that module as Slicer does."""
    if not SUPPORTED:
        pytest.skip("Slicer's CLI engine is reached on Linux only")
    return lambda: CommandLineModule(mark_script)


@pytest.fixture
def mark_module(scene, make_mark_module) -> CommandLineModule:
    return make_mark_module()


@pytest.fixture(scope="session")
def make_scan(application):
    """Adds an oblique volume node whose brightest voxel, 3000, is at PEAK_KJI."""

    def make() -> slicer.vtkMRMLScalarVolumeNode:
        voxels = np.random.default_rng(5).integers(-1000, 400, SHAPE[::-1]).astype(np.int16)
        voxels[PEAK_KJI] = 3000
        node = slicer.util.addVolumeFromArray(voxels, name="CT")
        node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(IJK_TO_RAS["oblique"]))
        return node

    return make


@pytest.fixture
def a_scan(scene, make_scan):
    return make_scan()
