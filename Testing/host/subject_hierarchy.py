"""Subject-hierarchy items follow nodes, as the application's Qt plugins make them do."""

from __future__ import annotations

import slicer
import vtk

_SHOWN_CLASSES = (
    "vtkMRMLDisplayableNode",
    "vtkMRMLTableNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLTextNode",
)
"""No plugin of the application claims sequences and their browsers: they have no items."""


class SubjectHierarchyMirror:
    """Adds an item under the scene for each data node that is added; removes it with the node."""

    def __init__(self, scene: slicer.vtkMRMLScene) -> None:
        self._scene = scene
        scene.GetSubjectHierarchyNode()
        scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, self._on_node_added)
        scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_node_about_to_be_removed)
        scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, self._on_scene_imported)
        scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, self._on_scene_closed)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_added(self, _caller: vtk.vtkObject, _event: str, node: slicer.vtkMRMLNode) -> None:
        # While a scene is read, the saved hierarchy brings the items; they are completed afterwards.
        if not self._scene.IsImporting():
            self._add_item(node)

    def _on_scene_imported(self, _caller: vtk.vtkObject, _event: str) -> None:
        for index in range(self._scene.GetNumberOfNodes()):
            self._add_item(self._scene.GetNthNode(index))

    def _on_scene_closed(self, _caller: vtk.vtkObject, _event: str) -> None:
        # The scene goes on to use its hierarchy node as long as a script holds a reference to it.
        hierarchy = self._scene.GetSubjectHierarchyNode()
        hierarchy.RemoveAllItems()
        if not self._scene.IsNodePresent(hierarchy):
            self._scene.AddNode(hierarchy)

    def _add_item(self, node: slicer.vtkMRMLNode) -> None:
        if node.GetHideFromEditors() or not any(node.IsA(name) for name in _SHOWN_CLASSES):
            return
        hierarchy = self._scene.GetSubjectHierarchyNode()
        if hierarchy and not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_about_to_be_removed(self, _caller: vtk.vtkObject, _event: str, node: slicer.vtkMRMLNode) -> None:
        if node.IsA("vtkMRMLSubjectHierarchyNode") or self._scene.IsClosing():
            return
        hierarchy = self._scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
        if item:
            hierarchy.RemoveItem(item, False, False)
