"""The panel's settings, kept in the module's parameter node so that a saved scene restores them.

``slicer.parameterNodeWrapper`` needs its fields when the code is written; the panel's fields come from the engine's
description, so that a plain ``vtkMRMLScriptedModuleNode`` holds them: values as JSON, nodes as references.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import slicer
import vtk

# Inputs of this name are shared by all tasks: the scan is chosen once.
SHARED_INPUTS = ("volume",)


class Parameters:
    """Settings by name; what was never set has its default."""

    def __init__(self, node: slicer.vtkMRMLScriptedModuleNode) -> None:
        self.node = node
        self._observation: int | None = None
        self._isWriting = False

    def observe(self, changed: Callable[[], Any]) -> None:
        """Have a function called whenever somebody else changes a setting."""

        def onModified(_node: Any, _event: str) -> None:
            if not self._isWriting:
                changed()

        self.ignore()
        self._observation = self.node.AddObserver(vtk.vtkCommand.ModifiedEvent, onModified)

    def ignore(self) -> None:
        """Look at the node's changes no longer."""
        if self._observation is not None:
            self.node.RemoveObserver(self._observation)
            self._observation = None

    def value(self, name: str, default: Any = None) -> Any:
        """Return a setting; the default too where the scene holds something that cannot be read."""
        text = self.node.GetParameter(name)
        if not text:
            return default
        try:
            return json.loads(text)
        except ValueError:
            return default

    def setValue(self, name: str, value: Any) -> None:
        """Keep a JSON value; None forgets it."""
        with self._writing():
            if value is None:
                self.node.UnsetParameter(name)
            else:
                self.node.SetParameter(name, json.dumps(value))

    def reference(self, name: str) -> Any:
        """Return the node of a name, or None."""
        return self.node.GetNodeReference(name)

    def setReference(self, name: str, node: Any) -> None:
        with self._writing():
            self.node.SetNodeReferenceID(name, node.GetID() if node is not None else None)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._isWriting = True
        try:
            yield
        finally:
            self._isWriting = False


def optionKey(task: str, option: str) -> str:
    """Return the name under which a task's option is kept."""
    return f"{task}.{option}"


def inputKey(task: str, name: str) -> str:
    """Return the name under which a task's input is kept, which tasks share for the scan."""
    return name if name in SHARED_INPUTS else f"{task}.{name}"
