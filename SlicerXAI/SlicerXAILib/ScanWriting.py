"""A scan on its way to the engine: a part of its voxels in each turn of the event loop."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .BackgroundCall import inBackground
from .EngineErrors import NodeError
from .NrrdFile import headerText
from .Translation import tr as _

# What is copied in one turn; the rest of the time the disk works.
_BLOCK_BYTES = 1 << 23
# How often writing begins again because voxels have changed.
_MOST_ATTEMPTS = 3


class ScanWriting:
    """Writes a volume node; ``steps()`` yields in between, and begins again where the voxels change meanwhile.

    The voxels are copied in the application's thread, as whoever changes a volume may free them.
    """

    def __init__(self, node: slicer.vtkMRMLScalarVolumeNode, path: Path) -> None:
        """:param node: a node outside the scene, which no one moves."""
        self.path = path
        self._name, self._image = node.GetName(), node.GetImageData()
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        self._ijkToRas = slicer.util.arrayFromVTKMatrix(matrix)

    def isPossible(self) -> bool:
        """Whether the voxels are of a kind that can be written so; others are left to Slicer's writer."""
        return self._image.GetNumberOfScalarComponents() == 1 and self._header() is not None

    def steps(self) -> Generator[None, None, None]:
        """:raises NodeError: the file cannot be written."""
        try:
            for _attempt in range(_MOST_ATTEMPTS):
                with open(self.path, "wb") as stream:
                    if (yield from self._writeInTurns(stream)):
                        return
            with open(self.path, "wb") as stream:  # voxels that change all the time are taken as they are now
                stream.write(self._header().encode("ascii"))
                for block in self._blocks():
                    stream.write(block)
        except OSError as error:
            raise NodeError(
                _("{name} could not be written to {path}: {reason}.").format(
                    name=self._name, path=self.path, reason=error
                ),
                _("Check that the disk is not full."),
            ) from error

    def _writeInTurns(self, stream: BinaryIO) -> Generator[None, None, bool]:
        """Write the whole file; returns False as soon as the voxels are not those of the beginning."""
        began = self._image.GetMTime()
        stream.write(self._header().encode("ascii"))
        for block in self._blocks():
            yield from inBackground(_writeBlock, stream, block)
            yield
            if self._image.GetMTime() != began:
                return False
        return True

    def _blocks(self) -> Generator[bytes, None, None]:
        """Copy the voxels part by part, from where they are when a part is asked for."""
        place = 0
        while place < (values := self._values()).size:
            step = max(1, _BLOCK_BYTES // values.itemsize)
            yield values[place : place + step].astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
            place += step

    def _values(self) -> np.ndarray:
        return vtk_to_numpy(self._image.GetPointData().GetScalars())

    def _header(self) -> str | None:
        return headerText(self._values().dtype, self._image.GetDimensions(), self._ijkToRas)


def _writeBlock(_isStopped, stream: BinaryIO, block: bytes) -> None:
    stream.write(block)
