"""The scan that a user most likely means."""

from __future__ import annotations

from typing import Any

import slicer

from .ResultAttributes import ROLE


def likelyScan() -> Any:
    """Return the volume in the background of the slice views, or else the last one loaded; never a result."""
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    shown = [slicer.mrmlScene.GetNodeByID(node.GetBackgroundVolumeID() or "") for node in composites]
    loaded = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    scans = [
        node
        for node in [*shown, *reversed(loaded)]
        if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode" and not _isResult(node)
    ]
    return next((node for node in scans if not node.GetHideFromEditors()), None)


def _isResult(node: Any) -> bool:
    """Whether a volume came of an earlier run; the image of a series is known by its browser alone."""
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(node)
    return bool(node.GetAttribute(ROLE) or (browser is not None and browser.GetAttribute(ROLE)))
