"""Widgets that choose a node of the scene; points and boxes can be placed in the slice views."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..Signal import Signal

POINT = "vtkMRMLMarkupsFiducialNode"
BOX = "vtkMRMLMarkupsROINode"


class NodeEditor:
    """Chooses a node of the scene."""

    def __init__(self, classes: list[str], scenes: Any, canAdd: bool = False) -> None:
        """:param scenes: the widget whose ``mrmlSceneChanged`` hands the scene on."""
        self.changed = Signal()
        self.widget = slicer.qMRMLNodeComboBox()
        self.widget.nodeTypes = classes
        self.widget.showChildNodeTypes = False
        # Nothing is chosen by itself: a map of an earlier run is no scan. The panel suggests the scan.
        self.widget.noneEnabled = True
        self.widget.addEnabled = canAdd
        self.widget.removeEnabled = False
        self.widget.renameEnabled = canAdd
        scenes.connect("mrmlSceneChanged(vtkMRMLScene*)", self.widget, "setMRMLScene(vtkMRMLScene*)")
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.widget.connect("currentNodeChanged(vtkMRMLNode*)", self._onNode)

    def value(self) -> Any:
        return self.widget.currentNode()

    def setValue(self, value: Any) -> None:
        self.widget.setCurrentNode(value)

    def _onNode(self, _node: Any) -> None:
        self.changed.emit()


class PlacedNodeEditor(NodeEditor):
    """Chooses a point or a box, or has one placed: the next clicks in the views set it."""

    def __init__(self, classes: list[str], scenes: Any, placed: str, canAdd: bool = False) -> None:
        """:param placed: the class of the nodes that can be placed, ``POINT`` or ``BOX``."""
        super().__init__(classes, scenes, canAdd)
        self._placed = placed
        self.selector = self.widget
        self.widget = qt.QWidget()
        row = qt.QHBoxLayout(self.widget)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.selector, 1)
        self.placeButton = qt.QPushButton(_("Place"))
        self.placeButton.toolTip = (
            _("Click on the structure in a slice view.") if placed == POINT else _("Draw the box in a slice view.")
        )
        self.placeButton.connect("clicked(bool)", self._onPlace)
        row.addWidget(self.placeButton)

    def value(self) -> Any:
        return self.selector.currentNode()

    def setValue(self, value: Any) -> None:
        self.selector.setCurrentNode(value)

    def _onPlace(self) -> None:
        """Let the next click in a view place the chosen node, or a new one."""
        node = self.value()
        if node is None or not node.IsA(self._placed):
            name = _("Explained point") if self._placed == POINT else _("Explained box")
            node = slicer.mrmlScene.AddNewNodeByClass(self._placed, slicer.mrmlScene.GenerateUniqueName(name))
            node.CreateDefaultDisplayNodes()
            self.setValue(node)
        else:
            node.RemoveAllControlPoints()  # the first point counts
        selection = slicer.app.applicationLogic().GetSelectionNode()
        selection.SetReferenceActivePlaceNodeClassName(self._placed)
        selection.SetReferenceActivePlaceNodeID(node.GetID())
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        interaction.SetPlaceModePersistence(0)
        interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.Place)
