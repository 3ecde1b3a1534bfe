"""The application with windows: ``qt``, ``ctk``, qMRML widgets, ``slicer.app`` and the panels of scripted modules.

    from host.qt_application import GuiApplication
    application = GuiApplication.instance()
    module = application.open_module("SlicerXAI/SlicerXAI.py")

Runs without a display (``QT_QPA_PLATFORM=offscreen``). Slicer's own widgets are written for the host in
:mod:`host.qt_ctk` and :mod:`host.qt_mrml_widgets`; scene, nodes, logics and ``slicer.util`` are the real ones.
"""

from __future__ import annotations

import atexit
import os
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer  # noqa: E402
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets  # noqa: E402

from . import qt_binding, qt_ctk, qt_mrml_widgets, scripted_module  # noqa: E402
from .application import STARTUP_COMPLETED, Application, SlicerApp  # noqa: E402
from .modules import ScriptedModule  # noqa: E402
from .qt_layout import LayoutManager  # noqa: E402

_PUMP_MILLISECONDS = 20


class GuiApplication:
    """The one application of this process, see :meth:`instance`."""

    _instance: GuiApplication | None = None

    @classmethod
    def instance(cls) -> GuiApplication:
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def __init__(self) -> None:
        self.core = Application.instance()
        self.qt = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["SlicerHost"])
        self.qt.setStyle("Fusion")
        self.qt.setPalette(self.qt.style().standardPalette())
        qt_binding.install()
        _provide_modules()
        self.layout_manager = LayoutManager(self.core.scene, self.core.application_logic)
        slicer.app = GuiSlicerApp(self)
        slicer.qSlicerScriptedLoadableModuleWidget = ModuleRepresentation
        scripted_module.ScriptedLoadableModuleWidget = ScriptedLoadableModuleWidget
        sys.modules["slicer.ScriptedLoadableModule"].ScriptedLoadableModuleWidget = ScriptedLoadableModuleWidget
        self._timer = QtCore.QTimer()
        self._timer.timeout.connect(self.core.process_events)
        self._timer.start(_PUMP_MILLISECONDS)
        atexit.register(self._close)  # before the scene ends, as this was registered later

    @property
    def scene(self) -> slicer.vtkMRMLScene:
        return self.core.scene

    def clear_scene(self) -> None:
        self.core.clear_scene()

    def open_module(self, path: str | Path) -> OpenedModule:
        """Load a scripted module and open its panel, as selecting it in the application does."""
        return OpenedModule(self.core.load_scripted_module(path))

    def _close(self) -> None:
        self._timer.stop()
        self.layout_manager.close()


class OpenedModule:
    """A module with its panel in a window."""

    def __init__(self, module: ScriptedModule) -> None:
        self.module = module
        self.representation = ModuleRepresentation()
        self.representation.setLayout(QtWidgets.QVBoxLayout())
        self.representation.setMRMLScene(slicer.mrmlScene)
        self.widget = module.widget_class()(self.representation)
        self.representation.scripted = self.widget
        module.widgetRepresentation = lambda: self.representation
        self.widget.setup()
        if hasattr(self.widget, "enter"):
            self.widget.enter()

    def close(self) -> None:
        """What the application does with a panel when it quits."""
        if hasattr(self.widget, "exit"):
            self.widget.exit()
        self.widget.cleanup()
        self.representation.close()
        self.representation.deleteLater()


class ModuleRepresentation(qt_mrml_widgets.qMRMLWidget):
    """``module.widgetRepresentation()``: the parent of the panel."""

    scripted: Any = None

    def self(self) -> Any:
        return self.scripted


class ScriptedLoadableModuleWidget:
    """Base class of a module's panel."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.parent = parent
        self.layout = parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def resourcePath(self, fileName: str) -> str:
        module = getattr(slicer.modules, self.moduleName.lower())
        return str(Path(module.path).parent / "Resources" / fileName)


class GuiSlicerApp(SlicerApp):
    """``slicer.app`` with windows."""

    def __init__(self, application: GuiApplication) -> None:
        core = application.core
        super().__init__(core._with_logics, core.temporary_path, slicer.modules)
        self._application = application
        path = str(Path(core.temporary_path) / "settings.ini")
        self._settings = QtCore.QSettings(path, QtCore.QSettings.IniFormat)

    def layoutManager(self) -> LayoutManager:
        return self._application.layout_manager

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    settings = userSettings

    def connect(self, signature: str, slot: Callable[..., Any]) -> bool:
        if signature == STARTUP_COMPLETED:
            return super().connect(signature, slot)
        return qt_binding.connect(self._application.qt, signature, slot)

    def disconnect(self, signature: str, slot: Callable[..., Any]) -> bool:
        return qt_binding.disconnect(self._application.qt, signature, slot)

    def processEvents(self, *_flags: Any) -> None:
        super().processEvents()
        self._application.qt.processEvents()

    def setOverrideCursor(self, cursor: Any) -> None:
        self._application.qt.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        self._application.qt.restoreOverrideCursor()

    def topLevelWidgets(self) -> list[QtWidgets.QWidget]:
        return self._application.qt.topLevelWidgets()

    def clipboard(self) -> QtGui.QClipboard:
        return self._application.qt.clipboard()


class UiLoader(QtUiTools.QUiLoader):
    """Loads .ui files with Slicer's widgets, and makes exactly the connections that they declare."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        for widget in (*qt_ctk.WIDGETS, *qt_mrml_widgets.WIDGETS):
            self.registerCustomWidget(widget)

    def load(self, file: QtCore.QFile, parent: Any = None) -> QtWidgets.QWidget:
        root = ElementTree.fromstring(bytes(file.readAll().data()).decode("utf-8"))
        connections = root.find("connections")
        if connections is not None:
            root.remove(connections)
        content = QtCore.QBuffer()
        content.setData(ElementTree.tostring(root, encoding="utf-8"))
        content.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(content, parent)
        for item in connections if connections is not None else ():
            sender, signal, receiver, slot = (item.findtext(key) for key in ("sender", "signal", "receiver", "slot"))
            qt_binding.connect(_named(widget, sender), signal, _named(widget, receiver), slot)
        return widget


def _named(root: QtWidgets.QWidget, name: str) -> QtWidgets.QWidget:
    found = root if root.objectName == name else root.findChild(QtWidgets.QWidget, name)
    if found is None:
        raise ValueError(f"The .ui file connects {name}, which it does not hold.")
    return found


class _Timer(QtCore.QTimer):
    singleShot = staticmethod(qt_binding.single_shot)


class _FileDialog(QtWidgets.QFileDialog):
    """PythonQt gives what was chosen alone; PySide adds the filter."""

    @staticmethod
    def getOpenFileName(*arguments: Any) -> str:
        return QtWidgets.QFileDialog.getOpenFileName(*arguments)[0]

    @staticmethod
    def getSaveFileName(*arguments: Any) -> str:
        return QtWidgets.QFileDialog.getSaveFileName(*arguments)[0]


def _provide_modules() -> None:
    """Make ``import qt``, ``import ctk`` and ``slicer.qMRMLNodeComboBox`` work."""
    qt, ctk = types.ModuleType("qt"), types.ModuleType("ctk")
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            if name.startswith("Q"):
                setattr(qt, name, getattr(module, name))
    qt.QUiLoader = UiLoader
    qt.QFileDialog = _FileDialog
    qt.QTimer = _Timer
    for widget in qt_ctk.WIDGETS:
        setattr(ctk, widget.__name__, qt_binding.turn_properties_into_attributes(widget))
    for widget in qt_mrml_widgets.WIDGETS:
        setattr(slicer, widget.__name__, qt_binding.turn_properties_into_attributes(widget))
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
