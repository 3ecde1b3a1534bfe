"""Runs CLI modules as the application does: Slicer's XML parser, vtkSlicerCLIModuleLogic, temporary files."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import slicer

from .application import Application
from .native_calls import SUPPORTED, ModuleDescription

__all__ = ["SUPPORTED", "CommandLineModule"]


class CommandLineModule:
    """A scripted CLI module: ``<name>.py`` with ``<name>.xml`` beside it."""

    def __init__(self, script: str | Path, interpreter: str = sys.executable) -> None:
        script = Path(script)
        self._application = Application.instance()
        self._description = ModuleDescription(script.with_suffix(".xml").read_text(encoding="utf-8"))
        self._description.set_executable(interpreter, str(script))
        self._logic = slicer.vtkSlicerCLIModuleLogic()
        self._description.give_to(self._logic)
        self._logic.SetMRMLApplicationLogic(self._application.application_logic)
        self._logic.SetMRMLScene(self._application.scene)

    def create_node(self, **parameters: Any) -> slicer.vtkMRMLCommandLineModuleNode:
        """Add a parameter node; MRML nodes are passed by ID, lists as comma-separated text."""
        node = self._logic.CreateNodeInScene()
        for name, value in parameters.items():
            _set_parameter(node, name, value)
        return node

    def run(self, node: slicer.vtkMRMLCommandLineModuleNode) -> None:
        """Run to the end and load the outputs, as ``slicer.cli.runSync`` does."""
        self._logic.ApplyAndWait(node, False)
        self._application.process_events()

    def start(self, node: slicer.vtkMRMLCommandLineModuleNode) -> None:
        """Start in Slicer's processing thread, as ``slicer.cli.run`` does."""
        self._logic.Apply(node, False)

    def wait(self, node: slicer.vtkMRMLCommandLineModuleNode, until: Any = None, limit: float = 120.0) -> None:
        """Turn the event loop until the module has ended or ``until(node)`` is true.

        :raises TimeoutError: neither happened within ``limit`` seconds.
        """
        end = time.monotonic() + limit
        while node.IsBusy() and not (until and until(node)):
            if time.monotonic() > end:
                raise TimeoutError(f"The CLI module is still {node.GetStatusString()} after {limit} s.")
            self._application.process_events()
            time.sleep(0.02)
        self._application.process_events()


def _set_parameter(node: slicer.vtkMRMLCommandLineModuleNode, name: str, value: Any) -> None:
    if isinstance(value, slicer.vtkMRMLNode):
        node.SetParameterAsString(name, value.GetID())
    elif isinstance(value, bool):
        node.SetParameterAsBool(name, value)
    elif isinstance(value, (list, tuple)):
        node.SetParameterAsString(name, ",".join(str(item) for item in value))
    else:
        node.SetParameterAsString(name, str(value))
