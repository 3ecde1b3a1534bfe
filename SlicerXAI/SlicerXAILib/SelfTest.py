"""What the module's self test does in the application, with files that it writes itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import slicer

from .EngineErrors import EngineError
from .JobWriter import JobFolder
from .ResultAttributes import RESULT_NAME
from .ResultLoader import loadResult
from .Translation import tr as _

_SHAPE_KJI = (6, 8, 10)
_PEAK_KJI = (4, 2, 7)


def checkResultBecomesNodes(temporaryPath: str) -> None:
    """Write a scan as a job does and a map as the engine does, load it, and check where it lies.

    :raises EngineError: the map is not where it should be.
    """
    scan = slicer.util.addVolumeFromArray(np.zeros(_SHAPE_KJI, np.int16), name="CT")
    scan.SetSpacing(0.7, 0.8, 2.5)
    scan.SetOrigin(12.0, -30.0, 45.0)
    folder = JobFolder(temporaryPath)
    try:
        written = Path(folder.writeInput("volume", scan))
        _writeResult(folder.output, written)
        loaded = loadResult(folder.output, scan)
    finally:
        folder.remove()
    attribution = loaded.nodes["attribution"]
    values = slicer.util.arrayFromVolume(attribution)
    if np.unravel_index(values.argmax(), values.shape) != _PEAK_KJI:
        raise EngineError(_("The map's brightest voxel is not where it was put."))
    places = [[*node.GetSpacing(), *node.GetOrigin()] for node in (attribution, scan)]
    if not np.allclose(*places, atol=1e-4):
        raise EngineError(_("The map does not lie on its scan."))
    if attribution.GetName() != "CT attribution":
        raise EngineError(_("The map is called {name}.").format(name=attribution.GetName()))


def _writeResult(folder: Path, scanFile: Path) -> None:
    """Write a map with one bright voxel on the scan's grid, by way of the scan's own file."""
    folder.mkdir()
    shutil.copyfile(scanFile, folder / "attribution.nrrd")
    node = slicer.util.loadVolume(str(folder / "attribution.nrrd"), {"show": False})
    slicer.util.arrayFromVolume(node)[_PEAK_KJI] = 3
    slicer.util.saveNode(node, str(folder / "attribution.nrrd"))
    slicer.mrmlScene.RemoveNode(node)
    artifact = {"kind": "volume", "file": "attribution.nrrd", "name": "attribution", "role": "attribution"}
    result = {"status": "finished", "task": "quantify-lesions", "artifacts": [artifact]}
    (folder / RESULT_NAME).write_text(json.dumps(result), encoding="utf-8")
