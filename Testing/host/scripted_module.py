"""``slicer.ScriptedLoadableModule``: the base classes that scripted modules import."""

from __future__ import annotations

import sys
import types
import unittest
from typing import Any

import slicer
import vtk


class ScriptedLoadableModule:
    """Base class of the module object; holds what the module panel's header shows."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        parent.hidden = False

    def getDefaultModuleDocumentationLink(self) -> str:
        return ""


class ScriptedLoadableModuleWidget:
    """Base class of the panel; a host with Qt replaces it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self) -> None:
        pass

    def resourcePath(self, fileName: str) -> str:
        path = getattr(slicer.modules, self.moduleName.lower()).path
        return path.removesuffix(self.moduleName + ".py") + "Resources/" + fileName


class ScriptedLoadableModuleLogic:
    """Base class of the logic; finds or makes the module's parameter node."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()  # as Slicer's: a second base of a module's logic is initialized from here
        self.parent = parent
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        return node or self.createParameterNode()

    def createParameterNode(self) -> slicer.vtkMRMLScriptedModuleNode:
        node = slicer.vtkMRMLScriptedModuleNode()
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        return slicer.mrmlScene.AddNode(node)


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base class of a module's self test."""

    messageDelay = 0

    def delayDisplay(self, message: str, *_args: Any, **_kwargs: Any) -> None:
        print(message)

    def runTest(self) -> None:
        pass


def install() -> None:
    """Make ``from slicer.ScriptedLoadableModule import *`` work."""
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for base in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(scripted, base.__name__, base)
    # In the application this module also carries the names that it imported itself.
    scripted.slicer, scripted.vtk, scripted.unittest = slicer, vtk, unittest

    slicer.ScriptedLoadableModule = scripted
    sys.modules[scripted.__name__] = scripted
