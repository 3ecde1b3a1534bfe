"""The qMRML widgets that the module uses, written for the host after their documented properties and signals."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtWidgets

_OPTIONS = {
    "noneEnabled": False,
    "addEnabled": True,
    "removeEnabled": True,
    "renameEnabled": False,
    "editEnabled": False,
    "showHidden": False,
    "showChildNodeTypes": True,
    "selectNodeUponCreation": True,
}


class _WithScene:
    """A widget that knows a scene; no one hands it on but a connection of ``mrmlSceneChanged``."""

    slicer_signals = ("mrmlSceneChanged(vtkMRMLScene*)",)

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self._on_scene(scene)
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self) -> Any:
        return getattr(self, "_scene", None)

    def _on_scene(self, scene: Any) -> None:
        pass


class qMRMLWidget(_WithScene, QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)


class qMRMLNodeComboBox(_WithScene, QtWidgets.QWidget):
    """Lists the scene's nodes of given classes."""

    mrmlSceneChanged = QtCore.Signal(object)
    currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    slicer_signals = (
        *_WithScene.slicer_signals,
        "currentNodeChanged(vtkMRMLNode*)",
        "currentNodeChanged(bool)",
        "currentNodeIDChanged(QString)",
        "nodeAdded(vtkMRMLNode*)",
        "nodeAddedByUser(vtkMRMLNode*)",
    )

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.combo = QtWidgets.QComboBox()
        self.combo.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout.addWidget(self.combo, 1)
        self._node_types: tuple[str, ...] = ()
        self._options = dict(_OPTIONS)
        self._none_display = "None"
        self._items: list[str] = []
        self._current = ""
        self._attributes: list[tuple[str, str | None]] = []
        self._observations: list[tuple[Any, int]] = []
        self.combo.activated.connect(self._on_activated)
        observations = self._observations
        self.destroyed.connect(lambda *_object: _stop_observing(observations))

    def currentNode(self) -> Any:
        scene = self.mrmlScene()
        return scene.GetNodeByID(self._current) if scene is not None and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, identifier: str | None) -> None:
        # As Slicer's: a node that the list does not know yet is not chosen, and not remembered.
        identifier = identifier or ""
        self._choose(identifier if identifier in self._items else "")

    def addNode(self, class_name: str | None = None) -> Any:
        node = self.mrmlScene().AddNewNodeByClass(class_name or self._node_types[0])
        self._refresh()
        if self._options["selectNodeUponCreation"]:
            self._choose(node.GetID())
        self.nodeAddedByUser.emit(node)
        return node

    def addAttribute(self, _node_type: str, name: str, value: str | None = None) -> None:
        self._attributes.append((name, value))
        self._refresh()

    def nodeCount(self) -> int:
        return len([item for item in self._items if item and not item.startswith("+")])

    def setNodeTypes(self, types: list[str]) -> None:
        self._node_types = tuple(types)
        self._refresh()

    def _set_option(self, name: str, value: bool) -> None:
        self._options[name] = value
        self._refresh()
        self._repeat_nothing()

    def _set_none_display(self, text: str) -> None:
        self._none_display = text
        self._refresh()

    def _on_scene(self, scene: Any) -> None:
        _stop_observing(self._observations)
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndImportEvent, scene.EndCloseEvent):
                self._observations.append((scene, scene.AddObserver(event, lambda *_event: self._refresh())))
        self._refresh()
        self._repeat_nothing()

    def _repeat_nothing(self) -> None:
        """Slicer's selectors say that no node is chosen whenever their scene or an option is set."""
        if not self._current:
            self.currentNodeChanged.emit(None)

    def _takes(self, node: Any) -> bool:
        if node.GetHideFromEditors() and not self._options["showHidden"]:
            return False
        if not any(node.IsA(name) and self._is_exact(node, name) for name in self._node_types):
            return False
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for name, value in self._attributes
        )

    def _is_exact(self, node: Any, name: str) -> bool:
        return self._options["showChildNodeTypes"] or node.GetClassName() == name

    def _refresh(self) -> None:
        scene, previous = self.mrmlScene(), self._current
        self._items, titles = [], []
        if scene is not None and not scene.IsBatchProcessing():
            if self._options["noneEnabled"]:
                self._items, titles = [""], [self._none_display]
            nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
            for node in nodes:
                if self._takes(node):
                    self._items.append(node.GetID())
                    titles.append(node.GetName())
            if self._options["addEnabled"]:
                for name in self._node_types:
                    self._items.append("+" + name)
                    titles.append(f"Create new {name.removeprefix('vtkMRML').removesuffix('Node')}")
        self.combo.blockSignals(True)
        self.combo.clear()
        self.combo.addItems(titles)
        self.combo.blockSignals(False)
        first = next((item for item in self._items if item and not item.startswith("+")), "")
        fallback = "" if self._options["noneEnabled"] else first
        self._choose(previous if previous in self._items else fallback)

    def _choose(self, identifier: str) -> None:
        self.combo.setCurrentIndex(self._items.index(identifier) if identifier in self._items else -1)
        if identifier != self._current:
            self._current = identifier
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(identifier)

    def _on_activated(self, index: int) -> None:
        identifier = self._items[index]
        if identifier.startswith("+"):
            self.addNode(identifier[1:])
        else:
            self._choose(identifier)

    nodeTypes = QtCore.Property("QStringList", lambda self: self._node_types, setNodeTypes)
    currentNodeID = QtCore.Property(str, lambda self: self._current, setCurrentNodeID)
    noneDisplay = QtCore.Property(str, lambda self: self._none_display, _set_none_display)
    noneEnabled, addEnabled, removeEnabled, renameEnabled, editEnabled, showHidden, showChildNodeTypes = (
        QtCore.Property(
            bool,
            lambda self, name=name: self._options[name],
            lambda self, value, name=name: self._set_option(name, value),
        )
        for name in list(_OPTIONS)[:7]
    )
    selectNodeUponCreation = QtCore.Property(
        bool,
        lambda self: self._options["selectNodeUponCreation"],
        lambda self, value: self._set_option("selectNodeUponCreation", value),
    )


def _stop_observing(observations: list[tuple[Any, int]]) -> None:
    for observed, tag in observations:
        observed.RemoveObserver(tag)
    observations.clear()


WIDGETS = (qMRMLWidget, qMRMLNodeComboBox)
