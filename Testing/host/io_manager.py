"""``slicer.app.coreIOManager()``: file types, readers and writers, through the real module logics."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import slicer
import vtk

from .scene import SceneWithLogics

Properties = dict[str, Any]

# First match wins, as the most specific of Slicer's readers has the highest confidence.
_FILE_TYPES = (
    ("SceneFile", (".mrml", ".mrb")),
    ("SegmentationFile", (".seg.nrrd", ".seg.nhdr")),
    ("SequenceFile", (".seq.nrrd", ".seq.nhdr", ".seq.mha", ".seq.mhd")),
    ("TransformFile", (".h5", ".tfm", ".mat")),
    ("MarkupsFile", (".mrk.json", ".fcsv")),
    ("ColorTableFile", (".ctbl", ".colors.csv")),
    ("TableFile", (".tsv", ".csv")),
    ("ModelFile", (".vtk", ".vtp", ".stl", ".ply", ".obj")),
    ("TextFile", (".txt", ".json", ".xml")),
)
_WRITER_TYPES = {"vtkMRMLSegmentationNode": "SegmentationFile", "vtkMRMLTableNode": "TableFile"}


class CoreIOManager:
    """The part of qSlicerCoreIOManager that ``slicer.util.load*`` and ``save*`` call."""

    def __init__(self, scene: SceneWithLogics) -> None:
        self._scene = scene.scene
        self._logics = scene.module_logics
        self._scripted: dict[str, Any] = {}
        self._readers: dict[str, Callable[[str, str, Properties, Any], Any]] = {
            "SegmentationFile": self._load_segmentation,
            "SequenceFile": self._load_sequence,
            "TransformFile": self._load_transform,
            "MarkupsFile": self._load_markups,
            "ColorTableFile": self._load_color_table,
            "TableFile": self._load_table,
            "ModelFile": self._load_model,
            "TextFile": self._load_text,
            "VolumeFile": self._load_volume,
        }

    def register_reader(self, reader: Any) -> None:
        """Add a scripted module's reader; it is asked before the others, as its confidence is higher."""
        self._scripted[reader.fileType()] = reader

    def fileType(self, fileName: str) -> str:
        for file_type, reader in self._scripted.items():
            if reader.canLoadFileConfidence(str(fileName)) > 0.5:
                return file_type
        lowered = str(fileName).lower()
        for file_type, extensions in _FILE_TYPES:
            if lowered.endswith(extensions):
                return file_type
        return "VolumeFile"

    def loadNodes(
        self,
        fileType: str,
        properties: Properties,
        loadedNodes: vtk.vtkCollection = None,
        userMessages: Any = None,
    ) -> bool:
        path = str(properties["fileName"])
        if not os.path.exists(path):
            if userMessages:
                userMessages.AddMessage(vtk.vtkCommand.ErrorEvent, f"File not found: {path}")
            return False
        if fileType == "SceneFile":
            return self._load_scene(path, bool(properties.get("clear")), userMessages)
        if fileType in self._scripted:
            return self._load_scripted(self._scripted[fileType], properties, loadedNodes, userMessages)
        name = properties.get("name") or os.path.basename(path).split(".")[0]
        node = self._readers[fileType](path, name, properties, userMessages)
        if node is not None and loadedNodes is not None:
            loadedNodes.AddItem(node)
        return node is not None

    def fileWriterFileType(self, node: slicer.vtkMRMLNode) -> str:
        return _WRITER_TYPES.get(node.GetClassName(), "NodeFile")

    def saveNodes(self, fileType: str, properties: Properties, userMessages: Any = None) -> bool:
        path = str(properties["fileName"])
        if fileType == "SceneFile":
            return self._save_scene(path, userMessages)
        node = self._scene.GetNodeByID(properties["nodeID"])
        if node.IsA("vtkMRMLTextNode"):
            node.SetForceCreateStorageNode(slicer.vtkMRMLTextNode.CreateStorageNodeAlways)
        storage = node.GetStorageNode()
        if storage is None or not storage.SupportedFileType(path):
            node.AddDefaultStorageNode(path)
            storage = node.GetStorageNode()
        if storage is None:
            return False
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(int(bool(properties["useCompression"])))
        return bool(storage.WriteData(node))

    def _load_scripted(self, reader: Any, properties: Properties, nodes: Any, messages: Any) -> bool:
        reader.parent.loadedNodes = []
        loaded = reader.load(properties)
        for node_id in reader.parent.loadedNodes if nodes is not None else ():
            nodes.AddItem(self._scene.GetNodeByID(node_id))
        if messages is not None:
            messages.AddMessages(reader.parent.userMessages())
        reader.parent.userMessages().ClearMessages()
        return bool(loaded)

    def _load_scene(self, path: str, clear: bool, messages: Any) -> bool:
        if clear:
            self._scene.Clear(False)
        if path.lower().endswith(".mrb"):
            return bool(self._scene.ReadFromMRB(path, clear, messages))
        self._scene.SetURL(path)
        self._scene.SetRootDirectory(os.path.dirname(path))
        return bool(self._scene.Import(messages))

    def _save_scene(self, path: str, messages: Any) -> bool:
        self._scene.SetURL(path)
        if path.endswith(".mrb"):
            return bool(self._scene.WriteToMRB(path, None, messages))
        if path.endswith(".mrml"):
            self._scene.SetRootDirectory(os.path.dirname(path))
            return bool(self._scene.Commit(path, messages))
        return bool(self._scene.SaveSceneToSlicerDataBundleDirectory(path, None, messages))

    def _load_volume(self, path: str, name: str, properties: Properties, _messages: Any) -> Any:
        # The bits are vtkSlicerVolumesLogic::LoadingOptions.
        flags = (("labelmap", 1), ("center", 2), ("singleFile", 4), ("discardOrientation", 16))
        options = sum(bit for key, bit in flags if properties.get(key))
        file_list = None
        if properties.get("fileNames"):
            file_list = vtk.vtkStringArray()
            for file_name in properties["fileNames"]:
                file_list.InsertNextValue(str(file_name))
        node = self._logics["volumes"].AddArchetypeVolume(path, name, options, file_list)
        if node is not None and properties.get("colorNodeID") and node.GetDisplayNode():
            node.GetDisplayNode().SetAndObserveColorNodeID(properties["colorNodeID"])
        return node

    def _load_segmentation(self, path: str, name: str, _properties: Properties, _messages: Any) -> Any:
        return self._logics["segmentations"].LoadSegmentationFromFile(path, True, name)

    def _load_sequence(self, path: str, _name: str, _properties: Properties, messages: Any) -> Any:
        return self._logics["sequences"].AddSequence(path, messages)

    def _load_transform(self, path: str, _name: str, _properties: Properties, _messages: Any) -> Any:
        return self._logics["transforms"].AddTransform(path, self._scene)

    def _load_color_table(self, path: str, name: str, _properties: Properties, _messages: Any) -> Any:
        return self._logics["colors"].LoadColorFile(path, name)

    def _load_table(self, path: str, name: str, _properties: Properties, _messages: Any) -> Any:
        return self._logics["tables"].AddTable(path, name, True, "")

    def _load_model(self, path: str, _name: str, _properties: Properties, _messages: Any) -> Any:
        return self._logics["models"].AddModel(path)

    def _load_markups(self, path: str, name: str, _properties: Properties, _messages: Any) -> Any:
        node_id = self._logics["markups"].LoadMarkups(path, name)
        return self._scene.GetNodeByID(node_id) if node_id else None

    def _load_text(self, path: str, name: str, _properties: Properties, _messages: Any) -> Any:
        node = self._scene.AddNewNodeByClass("vtkMRMLTextNode", name)
        node.SetForceCreateStorageNode(slicer.vtkMRMLTextNode.CreateStorageNodeAlways)
        storage = self._scene.AddNode(node.CreateDefaultStorageNode())
        storage.SetFileName(path)
        node.SetAndObserveStorageNodeID(storage.GetID())
        if storage.ReadData(node):
            return node
        self._scene.RemoveNode(node)
        return None
