"""Pictures of slice views without a window or OpenGL: background and foreground, not segmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .application import Application


class SliceView:
    """One slice view (``Red``, ``Yellow``, ``Green`` ...) rendered by vtkMRMLSliceLogic."""

    def __init__(self, name: str = "Red", orientation: str = "Axial", size: tuple[int, int] = (512, 512)) -> None:
        self.logic = slicer.vtkMRMLSliceLogic()
        application = Application.instance()
        self.logic.SetMRMLApplicationLogic(application.application_logic)
        self.logic.SetMRMLScene(application.scene)
        self.node = application.scene.GetSingletonNode(name, "vtkMRMLSliceNode") or self.logic.AddSliceNode(name)
        self.logic.SetSliceNode(self.node)
        self.node.SetOrientation(orientation)
        self.node.SetDimensions(*size, 1)
        self._size = size

    def show(
        self,
        background: slicer.vtkMRMLVolumeNode,
        foreground: slicer.vtkMRMLVolumeNode | None = None,
        opacity: float = 0.5,
    ) -> None:
        composite = self.composite_node()
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
        composite.SetForegroundOpacity(opacity)
        self.fit()

    def composite_node(self) -> slicer.vtkMRMLSliceCompositeNode:
        """What the view shows."""
        return self.logic.GetSliceCompositeNode()

    def fit(self) -> None:
        """Zoom so that the volumes fill the view."""
        self.logic.FitSliceToAll(*self._size)

    def jump_to(self, ras: tuple[float, float, float]) -> None:
        """Center the view on a point in RAS millimeters."""
        self.node.JumpSliceByCentering(*ras)

    def pixels(self) -> np.ndarray:
        """Return the picture, ``(rows, columns, RGB or RGBA)`` uint8, first row on top."""
        image = self._image()
        columns, rows, _ = image.GetDimensions()
        scalars = vtk_to_numpy(image.GetPointData().GetScalars())
        return scalars.reshape(rows, columns, -1)[::-1].copy()

    def write_png(self, path: str | Path) -> None:
        writer = vtk.vtkPNGWriter()
        writer.SetInputData(self._image())
        writer.SetFileName(str(path))
        writer.Write()

    def _image(self) -> vtk.vtkImageData:
        self.logic.UpdatePipeline()
        connection = self.logic.GetImageDataConnection()
        connection.GetProducer().Update()
        return connection.GetProducer().GetOutputDataObject(connection.GetIndex())
