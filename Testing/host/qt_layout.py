"""The layout manager: Slicer's real layout logic makes the view nodes, each slice view gets its real slice logic."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from . import qt_binding
from .slice_picture import SliceView

FIRST_SIZE = (595, 328)
"""Of a view that was just made: Qt gives it its own in a later turn of the event loop."""
CONVENTIONAL_LAYOUT = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView


class SliceWidget:
    """``layoutManager().sliceWidget(name)`` as far as scripts without OpenGL can use it."""

    def __init__(self, view: SliceView) -> None:
        self.view = view

    def sliceLogic(self) -> slicer.vtkMRMLSliceLogic:
        return self.view.logic

    def mrmlSliceNode(self) -> slicer.vtkMRMLSliceNode:
        return self.view.node


class LayoutManager:
    """``slicer.app.layoutManager()``: the layout follows the layout node, as in the application."""

    def __init__(self, scene: slicer.vtkMRMLScene, application_logic: Any, size: tuple[int, int] = (380, 320)) -> None:
        self._scene = scene
        self._application_logic = application_logic
        self._size = size
        self._views: dict[str, SliceView] = {}
        self._backgrounds: dict[str, str] = {}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        self._logic.SetMRMLScene(scene)
        node, changed = self._logic.GetLayoutNode(), vtk.vtkCommand.ModifiedEvent
        self._observations = [
            (node, node.AddObserver(changed, lambda *_event: self._make_views())),
            (scene, scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, lambda *_event: self.reset())),
        ]
        self.reset()

    @property
    def layout(self) -> int:
        return self._logic.GetLayoutNode().GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._logic.GetLayoutNode().SetViewArrangement(layout)

    def layoutLogic(self) -> slicer.vtkMRMLLayoutLogic:
        return self._logic

    def sliceViewNames(self) -> list[str]:
        return [node.GetLayoutName() for node in self.view_nodes() if node.IsA("vtkMRMLSliceNode")]

    def sliceWidget(self, name: str) -> SliceWidget | None:
        return SliceWidget(self._views[name]) if name in self._views else None

    def mrmlSliceLogics(self) -> vtk.vtkCollection:
        return self._application_logic.GetSliceLogics()

    def resetSliceViews(self) -> None:
        for view in self._views.values():
            view.fit()

    def view_nodes(self) -> list[Any]:
        """The nodes of the views that the layout shows."""
        nodes = self._logic.GetViewNodes()
        return [nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems())]

    def visible_views(self) -> dict[str, SliceView]:
        """The slice views on the screen by their names, each fitted to its volume the first time that it has one."""
        self._make_views()
        shown = {name: self._views[name] for name in self.sliceViewNames()}
        for name, view in shown.items():
            if view.node.GetDimensions()[:2] != self._size:  # others share the nodes of views
                view.node.SetDimensions(*self._size, 1)
                view.fit()
            background = view.composite_node().GetBackgroundVolumeID() or ""
            if background and self._backgrounds.get(name) != background:
                view.fit()
            self._backgrounds[name] = background
        return shown

    def reset(self) -> None:
        """Show the usual layout, as after the scene was closed."""
        self._backgrounds.clear()
        self.setLayout(CONVENTIONAL_LAYOUT)
        self._make_views()

    def close(self) -> None:
        """Let go of the scene before it ends."""
        for observed, tag in self._observations:
            observed.RemoveObserver(tag)
        self._application_logic.GetSliceLogics().RemoveAllItems()
        self._views.clear()
        self._logic.SetMRMLScene(None)

    def _make_views(self) -> None:
        for node in self.view_nodes():
            if not node.IsA("vtkMRMLSliceNode"):
                continue
            view = self._views.get(node.GetLayoutName())
            if view is not None and view.node is node:
                continue
            if view is not None:
                self._application_logic.GetSliceLogics().RemoveItem(view.logic)
            view = SliceView(node.GetLayoutName(), node.GetOrientation(), FIRST_SIZE)
            qt_binding.single_shot(0, lambda view=view: view.logic.ResizeSliceNode(*self._size))
            self._views[node.GetLayoutName()] = view
            self._application_logic.GetSliceLogics().AddItem(view.logic)
