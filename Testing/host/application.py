"""The application object: starts everything once per process, as Slicer itself does."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from vtk import vtkLogger

from . import scripted_module, translation
from .io_manager import CoreIOManager
from .modules import ModuleManager, ScriptedModule, modules_namespace
from .scene import SceneWithLogics
from .subject_hierarchy import SubjectHierarchyMirror

STARTUP_COMPLETED = "startupCompleted()"

translation.install()  # when this is imported, as what is imported next may take it into use


class SlicerApp:
    """``slicer.app`` as far as scripts without windows need it."""

    applicationName = "SlicerHost"
    majorVersion, minorVersion = 5, 13

    def __init__(self, scene: SceneWithLogics, temporary_path: str, modules: Any) -> None:
        self.temporaryPath = temporary_path
        self.defaultScenePath = str(Path(temporary_path) / "documents")
        self._scene = scene
        self._io_manager = CoreIOManager(scene)
        self._module_manager = ModuleManager(modules)
        self._at_start: list[Callable[[], Any]] = []

    def connect(self, signal: str, slot: Callable[[], Any]) -> bool:
        """Keep what is to be done when the application has started; nothing else is announced without windows."""
        if signal != STARTUP_COMPLETED:
            raise NotImplementedError(f"slicer.app announces no {signal} outside the desktop application.")
        self._at_start.append(slot)
        return True

    def complete_startup(self) -> None:
        """Do what scripted modules wait for until all modules are loaded."""
        waiting, self._at_start = self._at_start, []
        for slot in waiting:
            slot()

    def coreIOManager(self) -> CoreIOManager:
        return self._io_manager

    ioManager = coreIOManager

    def moduleManager(self) -> ModuleManager:
        return self._module_manager

    def applicationLogic(self) -> slicer.vtkSlicerApplicationLogic:
        return self._scene.application_logic

    def mrmlScene(self) -> slicer.vtkMRMLScene:
        return self._scene.scene

    def testingEnabled(self) -> bool:
        return True

    def processEvents(self, *_flags: Any) -> None:
        self._scene.process_requests()

    def layoutManager(self) -> None:  # what Slicer gives without a main window
        return None

    def pauseRender(self) -> None:
        pass

    def resumeRender(self) -> None:
        pass

    def setOverrideCursor(self, _cursor: Any) -> None:
        pass

    def restoreOverrideCursor(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"slicer.app.{name} is not provided outside the desktop application.")


class Application:
    """Scene, logics, ``slicer.app`` and ``slicer.modules`` of this process; use :meth:`instance`."""

    _instance: Application | None = None

    @classmethod
    def instance(cls) -> Application:
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def __init__(self) -> None:
        self.temporary_path = tempfile.mkdtemp(prefix="slicer-host-")
        self._with_logics = _start_quietly(self.temporary_path)
        self.scene = self._with_logics.scene
        self.application_logic = self._with_logics.application_logic
        slicer.mrmlScene = self.scene
        slicer.modules = modules_namespace(self._with_logics.module_logics)
        slicer.app = SlicerApp(self._with_logics, self.temporary_path, slicer.modules)
        # slicer.util asks for these classes by name; no object of this host is one of them.
        slicer.qSlicerScriptedLoadableModule = type("qSlicerScriptedLoadableModule", (), {})
        slicer.qSlicerScriptedLoadableModuleWidget = type("qSlicerScriptedLoadableModuleWidget", (), {})
        scripted_module.install()
        self._hierarchy = SubjectHierarchyMirror(self.scene)
        atexit.register(self._close)

    def load_scripted_module(self, path: str | Path) -> ScriptedModule:
        """Load a scripted module's file and register it as ``slicer.modules.<lower-case name>``."""
        module = ScriptedModule(Path(path))
        if reader := module.file_reader():
            slicer.app.coreIOManager().register_reader(reader)
        setattr(slicer.modules, module.name.lower(), module)
        return module

    def process_events(self) -> None:
        """Do what one turn of the application's event loop does for the scene."""
        self._with_logics.process_requests()

    def clear_scene(self) -> None:
        """Close the scene; singletons such as color tables and slice presets stay."""
        self.scene.Clear(False)

    def _close(self) -> None:
        self.scene.Clear(True)
        self._with_logics.close()
        shutil.rmtree(self.temporary_path, ignore_errors=True)


def _start_quietly(temporary_path: str) -> SceneWithLogics:
    """Start the logics without the complaints about Slicer's terminology files, which the wheel lacks."""
    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        return SceneWithLogics(temporary_path)
    finally:
        vtkLogger.SetStderrVerbosity(verbosity)
