"""Where results lie in the Subject Hierarchy: in a folder of their own beside what was explained."""

from __future__ import annotations

from typing import Any

import slicer
import vtk


def addResultFolder(inputNode: Any, name: str) -> int:
    """Add a folder under the patient or study of a node (or at the top); a number keeps its name unique."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parent = hierarchy.GetSceneItemID()
    if inputNode is not None:
        inputItem = hierarchy.GetItemByDataNode(inputNode)
        parent = hierarchy.GetItemParent(inputItem) or parent
    taken = set(childNames(parent))
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name} {number}"
    return hierarchy.CreateFolderItem(parent, unique)


def placeInFolder(node: Any, folderItem: int) -> None:
    """Move a node's item into a folder; nodes that the hierarchy does not show are left out."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, folderItem)


def hasItem(item: int) -> bool:
    """Whether there is an item of this identifier (still)."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    items = vtk.vtkIdList()
    hierarchy.GetItemChildren(hierarchy.GetSceneItemID(), items, True)
    return items.IsId(item) >= 0


def placeBeside(node: Any, other: Any) -> None:
    """Move a node's item into the folder in which another node's is."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(other))
    if folder:
        placeInFolder(node, folder)


def removeFolder(folderItem: int) -> None:
    """Remove an empty folder; does nothing where it is gone."""
    if hasItem(folderItem):
        slicer.mrmlScene.GetSubjectHierarchyNode().RemoveItem(folderItem)


def childNames(item: int) -> list[str]:
    """Return the names of an item's direct children."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    children = vtk.vtkIdList()
    hierarchy.GetItemChildren(item, children)
    return [hierarchy.GetItemName(children.GetId(index)) for index in range(children.GetNumberOfIds())]
