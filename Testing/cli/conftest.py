"""Fixtures: the Slicer application's stand-in, with an empty scene for each test."""

from __future__ import annotations

import pytest

pytest.importorskip("slicer_core")

from host.application import Application  # noqa: E402


@pytest.fixture(scope="session")
def application() -> Application:
    return Application.instance()


@pytest.fixture
def scene(application: Application):
    """An empty MRML scene, cleared again afterwards."""
    application.clear_scene()
    yield application.scene
    application.clear_scene()
