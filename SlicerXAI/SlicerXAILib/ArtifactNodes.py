"""A node from each kind of artifact. What reads a large file lets the application's event loop turn meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from . import Display
from .BackgroundCall import inBackground
from .MapValues import MapSummary, summarize
from .NrrdFile import NrrdHeader, readHeader, readVoxels
from .ResultAttributes import STRONGEST
from .Series import beginSeries, labelImages
from .TableNodes import addTable, chartFromTable, readColumns
from .Translation import tr as _
from .VoxelNodes import (
    addSegmentation,
    addVolume,
    emptyImage,
    emptyLayers,
    fillLayers,
    makeRightHanded,
    readSegmentFields,
)

# A step that yields has done what takes a moment; what it returns at last is a node of the scene.
Steps = Generator[None, None, Any]
Artifact = Mapping[str, Any]


class ArtifactNodes:
    """Makes nodes of files. ``describe(node, artifact)`` is called for those beside the one that is returned.

    A node is described in the turn in which it comes into the scene, so that no one takes it for a scan.
    Files that stay are read by Slicer's own readers, in one step, so that nodes know them as theirs.
    """

    def __init__(
        self,
        explained: Callable[[], Any],
        nodeOf: Callable[[str], Any],
        describe: Callable[[Any, Artifact], None],
        keepFiles: bool,
    ) -> None:
        """:param explained: returns the node that was explained, or None once it is gone.
        :param nodeOf: returns the node of another artifact by its role, or None.
        """
        self._explained, self._nodeOf, self._describe, self._keepFiles = explained, nodeOf, describe, keepFiles
        self._loaders: dict[str, Callable[[Path, str, Artifact], Steps]] = {
            "volume": self._volume,
            "segmentation": self._segmentation,
            "table": self._table,
            "plot": self._plot,
            "sequence": self._sequence,
            "text": self._text,
        }

    def loader(self, kind: str) -> Callable[[Path, str, Artifact], Steps] | None:
        """Return what loads files of a kind under a name; None for kinds that are no nodes."""
        return self._loaders.get(kind)

    def _volume(self, path: Path, name: str, artifact: Artifact) -> Steps:
        hints = artifact.get("display") or {}
        header = None if self._keepFiles else readHeader(path)
        if header is None or header.layers:
            node = slicer.util.loadVolume(str(path), {"name": name, "show": False})
            self._describe(node, artifact)
            summary = yield from inBackground(_summarized, slicer.util.arrayFromVolume(node), hints)
        else:
            image, values = emptyImage(header)
            ijkToRas, summary = yield from inBackground(_readMap, header, values, hints)
            node = addVolume(image, ijkToRas, name)
        node.SetAttribute(STRONGEST, " ".join(str(index) for index in summary.strongest or ()))
        Display.setMapDisplay(node, hints, summary)
        return self._detached(node)

    def _segmentation(self, path: Path, name: str, artifact: Artifact) -> Steps:
        header = None if self._keepFiles else readHeader(path)
        segments = readSegmentFields(header) if header is not None else None
        if segments is None:
            node = slicer.util.loadSegmentation(str(path), {"name": name})
            node.SetName(name)
        else:
            layers = emptyLayers(header, segments)
            yield from inBackground(fillLayers, header, layers)
            node = addSegmentation(segments, layers, name)
        explained = self._explained()
        if explained is not None and explained.IsA("vtkMRMLScalarVolumeNode"):
            node.SetReferenceImageGeometryParameterFromVolumeNode(explained)
        Display.setSegmentationDisplay(node, artifact.get("display") or {})
        return self._detached(node)

    def _table(self, path: Path, name: str, _artifact: Artifact) -> Steps:
        columns = yield from inBackground(_readColumns, path)
        return addTable(columns, name)

    def _plot(self, path: Path, name: str, artifact: Artifact) -> Steps:
        hints = artifact.get("display") or {}
        table = self._nodeOf(hints.get("table"))
        if table is None:
            table = yield from self._table(path, uniqueNodeName(_("{name} table").format(name=name)), artifact)
            self._describe(table, artifact)
        chart, *series = chartFromTable(table, name, hints)
        for node in series:
            self._describe(node, artifact)
        return chart

    def _sequence(self, path: Path, name: str, artifact: Artifact) -> Steps:
        """Load a series of slices, which are small, with Slicer's own reader."""
        yield
        node = slicer.util.loadSequence(str(path), {"name": name, "show": False})
        node.SetName(name)
        self._describe(node, artifact)
        browser, image = beginSeries(node, _("{name} browser").format(name=name), _("{name} image").format(name=name))
        labelImages(node)
        if image is not None:
            self._describe(image, artifact)
            if image.IsA("vtkMRMLScalarVolumeNode"):
                Display.setMapDisplay(image, artifact.get("display") or {})
        self._describe(browser, artifact)
        return self._detached(node)

    def _text(self, path: Path, name: str, _artifact: Artifact) -> Steps:
        text = yield from inBackground(_readText, path)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", name)
        node.SetText(text)
        return node

    def _detached(self, node: Any) -> Any:
        """Forget the file of a node whose folder goes, so that saving asks for a name of its own."""
        storage = node.GetStorageNode()
        if storage is not None and not self._keepFiles:
            slicer.mrmlScene.RemoveNode(storage)
        return node


def uniqueNodeName(name: str) -> str:
    """Return the name, with a number if a node has it already."""
    unique, number = name, 1
    while slicer.mrmlScene.GetFirstNodeByName(unique) is not None:
        number += 1
        unique = f"{name} {number}"
    return unique


def _readMap(
    isStopped: Callable[[], bool], header: NrrdHeader, values: np.ndarray, hints: Mapping[str, Any]
) -> tuple[np.ndarray, MapSummary] | None:
    readVoxels(header, values, isStopped)
    if isStopped():
        return None
    ijkToRas = makeRightHanded(values, header.ijkToRas)
    return ijkToRas, summarize(values, hints)


def _summarized(_isStopped: Callable[[], bool], values: np.ndarray, hints: Mapping[str, Any]) -> MapSummary:
    return summarize(values, hints)


def _readColumns(_isStopped: Callable[[], bool], path: Path) -> Any:
    return readColumns(path)


def _readText(_isStopped: Callable[[], bool], path: Path) -> str:
    return path.read_text(encoding="utf-8")
