"""Build commands that carry the shipped models, which lie beside the package in the repository, into the wheel.

Used by pyproject.toml when a distribution is built; never imported by the engine.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

SHIPPED_MODELS = Path("SlicerXAI") / "Resources" / "Models"


class BuildWithModels(build_py):
    """Copies the models to ``xaiengine/shipped_models``, where the catalogue looks for them."""

    def run(self) -> None:
        super().run()
        if SHIPPED_MODELS.is_dir() and not self.editable_mode:
            target = Path(self.build_lib) / "xaiengine" / "shipped_models"
            shutil.copytree(SHIPPED_MODELS, target, dirs_exist_ok=True)


class SourceWithModels(sdist):
    """Adds the models to the source archive, from which a wheel may be built later."""

    def make_distribution(self) -> None:
        self.filelist.extend(str(path) for path in sorted(SHIPPED_MODELS.rglob("*")) if path.is_file())
        super().make_distribution()
