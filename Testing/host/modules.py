"""``slicer.modules`` and the module manager: C++ module logics, and scripted modules loaded from a file."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import slicer


class CoreModule:
    """What ``slicer.modules.volumes`` is to a script: a name and a logic."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name = name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


class ScriptedModule:
    """A scripted module without its widget: the module object, its path and its logic."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.path = str(path)
        directory = str(path.parent)
        if directory not in sys.path:  # as the application's module factory does
            sys.path.insert(0, directory)
        self._source = _import_file(path)
        parent = types.SimpleNamespace(path=str(path), name=self.name, icon=None)
        self.instance = getattr(self._source, self.name)(parent)
        self.title = parent.title
        self._logic: Any = None

    def logic(self) -> Any:
        if self._logic is None:
            self._logic = getattr(self._source, self.name + "Logic")()
        return self._logic

    def widget_class(self) -> type:
        return getattr(self._source, self.name + "Widget")

    def test_class(self) -> type:
        return getattr(self._source, self.name + "Test")

    def file_reader(self) -> Any:
        """A new reader of the module's own files, as the application registers it; None if it has none."""
        reader = getattr(self._source, self.name + "FileReader", None)
        return reader(_ReaderParent()) if reader else None

    def widgetRepresentation(self) -> Any:
        raise NotImplementedError(f"The widget of {self.name} needs Qt.")


class _ReaderParent:
    """What qSlicerScriptedFileReader gives its Python part."""

    def __init__(self) -> None:
        self.loadedNodes: list[str] = []
        self._messages = slicer.vtkMRMLMessageCollection()

    def userMessages(self) -> Any:
        return self._messages


class ModuleManager:
    """``slicer.app.moduleManager()``: finds modules by name, in any letter case."""

    def __init__(self, namespace: types.SimpleNamespace) -> None:
        self._namespace = namespace

    def module(self, name: str) -> Any:
        return getattr(self._namespace, name.lower(), None)


def modules_namespace(module_logics: dict[str, Any]) -> types.SimpleNamespace:
    """Return a new ``slicer.modules`` that holds the modules with a C++ logic."""
    modules = {name: CoreModule(name, logic) for name, logic in module_logics.items()}
    return types.SimpleNamespace(**modules)


def _import_file(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
