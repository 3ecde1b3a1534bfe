"""Carries the shipped models, which lie beside the package in the repository, into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED_MODELS = Path(__file__).parent / "SlicerXAI" / "Resources" / "Models"


class BuildWithModels(build_py):
    """Copies ``SlicerXAI/Resources/Models`` to ``xaiengine/shipped_models``, where the catalogue looks for it."""

    def run(self):
        super().run()
        if SHIPPED_MODELS.is_dir() and not self.editable_mode:
            target = Path(self.build_lib) / "xaiengine" / "shipped_models"
            shutil.copytree(SHIPPED_MODELS, target, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithModels})
