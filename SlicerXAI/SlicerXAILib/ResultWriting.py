"""A result of the scene as a result folder: its nodes as they are now, its numbers, and the scan that it explains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import slicer

from .EngineErrors import EngineError
from .FileNames import fileName
from .JobWriter import JobFolder
from .LoadedResult import LoadedResult
from .ResultAttributes import RESULT_NAME, UNITS
from .ResultRecord import explainedNode, namesOfInputs
from .Translation import tr as _

_PICTURE_SUFFIXES = {"image/png": ".png", "image/gif": ".gif", "image/jpeg": ".jpg"}


class ResultFolder:
    """A temporary folder with a result; ``scan`` is the file of what was explained, empty where that is gone.

    Nodes that hold nothing any more, and series of images, which no page shows, are left out.
    """

    def __init__(self, loaded: LoadedResult, parent: str) -> None:
        """:raises EngineError: the folder or a file in it cannot be written."""
        self._loaded = loaded
        self._job = JobFolder(parent)
        self.path = self._job.path
        self.scan = ""
        try:
            self._write()
        except EngineError:
            self.remove()
            raise
        except OSError as error:
            self.remove()
            raise EngineError(
                _("The result cannot be written for the report: {reason}.").format(reason=error),
                _("Check that the disk is not full."),
            ) from error

    def remove(self) -> None:
        self._job.remove()

    def _write(self) -> None:
        loaded = self._loaded
        scan = explainedNode(loaded)
        if scan is not None and scan.IsA("vtkMRMLScalarVolumeNode") and scan.GetImageData() is not None:
            self.scan = self._job.writeInput("scan", scan)
        artifacts = [item for role, node in loaded.nodes.items() for item in self._artifacts(role, node)]
        artifacts += [self._picture(role, picture) for role, picture in loaded.pictures.items()]
        provenance = dict(loaded.provenance)
        # Files of a job are passing: a reader wants the names of the nodes.
        provenance["job"] = {**(provenance.get("job") or {}), "inputs": namesOfInputs(loaded.record)}
        provenance.setdefault("scan", {"name": loaded.inputName})
        content = {
            "status": "finished",
            "task": loaded.task,
            "artifacts": artifacts,
            "values": loaded.values,
            "warnings": list(loaded.warnings),
            "provenance": provenance,
        }
        (self.path / RESULT_NAME).write_text(json.dumps(content), encoding="utf-8")

    def _artifacts(self, role: str, node: Any) -> list[dict[str, Any]]:
        if node.IsA("vtkMRMLSequenceNode"):
            return []
        if node.IsA("vtkMRMLPlotChartNode"):
            return self._chart(role, node)
        if node.IsA("vtkMRMLTextNode"):
            path = self.path / fileName(role, extension=".txt")
            path.write_text(node.GetText() or "", encoding="utf-8")
            return [self._artifact("text", role, node, path)]
        kinds = {
            "vtkMRMLSegmentationNode": "segmentation",
            "vtkMRMLTableNode": "table",
            "vtkMRMLScalarVolumeNode": "volume",
        }
        kind = next((kind for name, kind in kinds.items() if node.IsA(name)), None)
        if kind is None or _isEmpty(node):
            return []
        return [self._artifact(kind, role, node, Path(self._job.writeInput(role, node)))]

    def _chart(self, role: str, chart: slicer.vtkMRMLPlotChartNode) -> list[dict[str, Any]]:
        """A chart of a table of the result, with the titles that it has now."""
        hints = dict(self._loaded.hints.get(role, {}))
        table = self._loaded.nodes.get(str(hints.get("table") or ""))
        if table is None or _isEmpty(table):
            return []
        hints |= {"title": chart.GetTitle(), "x_title": chart.GetXAxisTitle(), "y_title": chart.GetYAxisTitle()}
        path = Path(self._job.writeInput(str(hints["table"]), table))
        return [{**self._artifact("plot", role, chart, path), "display": hints}]

    def _artifact(self, kind: str, role: str, node: Any, path: Path) -> dict[str, Any]:
        return {
            "kind": kind,
            "file": path.relative_to(self.path).as_posix(),
            "name": node.GetName() or role,
            "role": role,
            "units": node.GetAttribute(UNITS) or "",
            "description": node.GetDescription() or "",
            "display": dict(self._loaded.hints.get(role, {})),
        }

    def _picture(self, role: str, picture: Any) -> dict[str, Any]:
        path = self.path / fileName(role, extension=_PICTURE_SUFFIXES.get(picture.mediaType, ".png"))
        path.write_bytes(picture.content)
        about = {"description": picture.description}
        return {"kind": "image", "file": path.name, "name": picture.name or role, "role": role, **about}


def _isEmpty(node: Any) -> bool:
    if node.IsA("vtkMRMLSegmentationNode"):
        return node.GetSegmentation().GetNumberOfSegments() == 0
    if node.IsA("vtkMRMLTableNode"):
        return node.GetNumberOfColumns() == 0
    return node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0
