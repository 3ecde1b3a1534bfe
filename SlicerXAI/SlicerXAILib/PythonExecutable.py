"""Which Python runs the engine, and in which environment."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .EngineErrors import EngineError
from .Translation import tr as _

# The folder that holds the packages SlicerXAILib and xaiengine.
PACKAGES_FOLDER = Path(__file__).resolve().parent.parent


def findPythonExecutable() -> str:
    """Return Slicer's ``PythonSlicer`` inside the application, this interpreter otherwise.

    :raises EngineError: neither exists.
    """
    pythonSlicer = shutil.which("PythonSlicer")
    if pythonSlicer and _isSlicerApplication():
        return pythonSlicer
    interpreter = Path(sys.executable or "")
    if interpreter.stem.lower().startswith("python") and interpreter.is_file():
        return str(interpreter)
    raise EngineError(
        _("No Python interpreter was found to run the engine: {program} is not one.").format(
            program=sys.executable or _("nothing")
        ),
        _("Check that PythonSlicer lies in the bin folder of the Slicer installation."),
    )


def engineEnvironment(onlyCpu: bool = False) -> dict[str, str]:
    """Return the environment of the engine: UTF-8, able to import ``xaiengine``, optionally without GPU."""
    environment = dict(os.environ)
    paths = [str(PACKAGES_FOLDER), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    if onlyCpu:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
    return environment


def _isSlicerApplication() -> bool:
    slicerModule = sys.modules.get("slicer")
    return slicerModule is not None and hasattr(slicerModule, "app")
