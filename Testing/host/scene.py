"""The MRML scene with Slicer's real module logics attached to it."""

from __future__ import annotations

import os

import slicer
import vtk

# Name under ``slicer.modules``, name Slicer registers the logic under, class in slicer-core.
_MODULE_LOGICS = (
    ("colors", "Colors", "vtkSlicerColorLogic"),
    ("volumes", "Volumes", "vtkSlicerVolumesLogic"),
    ("terminologies", "Terminologies", "vtkSlicerTerminologiesModuleLogic"),
    ("segmentations", "Segmentations", "vtkSlicerSegmentationsModuleLogic"),
    ("subjecthierarchy", "SubjectHierarchy", "vtkSlicerSubjectHierarchyModuleLogic"),
    ("sequences", "Sequences", "vtkSlicerSequencesLogic"),
    ("tables", "Tables", "vtkSlicerTablesLogic"),
    ("plots", "Plots", "vtkSlicerPlotsLogic"),
    ("texts", "Texts", "vtkSlicerTextsLogic"),
    ("transforms", "Transforms", "vtkSlicerTransformLogic"),
    ("markups", "Markups", "vtkSlicerMarkupsLogic"),
    ("models", "Models", "vtkSlicerModelsLogic"),
    ("volumerendering", "VolumeRendering", "vtkSlicerVolumeRenderingLogic"),
    ("cropvolume", "CropVolume", "vtkSlicerCropVolumeLogic"),
    ("data", "Data", "vtkSlicerDataModuleLogic"),
    ("units", "Units", "vtkSlicerUnitsLogic"),
)


class SceneWithLogics:
    """A scene in which volumes, segmentations, tables and scenes load and save as in the application."""

    def __init__(self, temporary_path: str) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.application_logic.SetTemporaryPath(temporary_path)
        self._add_crosshair()
        self.application_logic.SetMRMLScene(self.scene)
        self._add_default_colors()
        self._attach_views()
        self._attach_remote_io(temporary_path)
        self.module_logics = {key: self._attach_logic(name, cls) for key, name, cls in _MODULE_LOGICS}
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        # Without this prototype a command-line module node cannot be created by class name.
        self.scene.RegisterNodeClass(slicer.vtkMRMLCommandLineModuleNode())
        # Without this thread RequestReadFile() is dropped and the outputs of CLI modules never load. It would give
        # the process, and every child, the least priority there is.
        os.environ.setdefault("SLICER_BACKGROUND_THREAD_PRIORITY", "0")
        self.application_logic.CreateProcessingThread()

    def process_requests(self) -> None:
        """Do what the application's event loop does with requests of the processing thread."""
        self.application_logic.ProcessModified()
        self.application_logic.ProcessReadData()
        self.application_logic.ProcessWriteData()

    def close(self) -> None:
        self.application_logic.TerminateProcessingThread()

    def _add_crosshair(self) -> None:
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)

    def _add_default_colors(self) -> None:
        colorLogic = self.application_logic.GetColorLogic()
        colorLogic.SetMRMLScene(self.scene)
        colorLogic.AddDefaultColorNodes()

    def _attach_views(self) -> None:
        self.application_logic.SetSliceLogics(vtk.vtkCollection())
        self.application_logic.SetViewLogics(vtk.vtkCollection())
        for factory in (
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory,
            slicer.vtkMRMLSliceViewDisplayableManagerFactory,
        ):
            factory.GetInstance().SetMRMLApplicationLogic(self.application_logic)

    def _attach_remote_io(self, cache_directory: str) -> None:
        """Scenes that hold data (.mrb, .mrml) are read through the data IO manager."""
        self._remote_io = slicer.vtkMRMLRemoteIOLogic()
        self._remote_io.SetMRMLScene(self.scene)
        self._remote_io.SetMRMLApplicationLogic(self.application_logic)
        self._remote_io.GetCacheManager().SetRemoteCacheDirectory(cache_directory)
        self._data_io = slicer.vtkDataIOManagerLogic()
        self._data_io.SetMRMLScene(self.scene)
        self._data_io.SetMRMLApplicationLogic(self.application_logic)
        self._data_io.SetAndObserveDataIOManager(self._remote_io.GetDataIOManager())
        self._remote_io.AddDataIOToScene()

    def _attach_logic(self, module_name: str, class_name: str) -> vtk.vtkObject:
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(self.application_logic)
        logic.SetMRMLScene(self.scene)
        self.application_logic.SetModuleLogic(module_name, logic)
        return logic
