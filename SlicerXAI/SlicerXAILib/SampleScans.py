"""Scans that come with the extension, offered in Slicer's Sample Data module; nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from .EngineErrors import EngineError
from .Translation import tr as _

FOLDER = Path(__file__).resolve().parent.parent / "Resources" / "SampleData"
CATEGORY = "SlicerXAI"


@dataclass(frozen=True)
class SampleScan:
    """A scan with its segmentation, if it has one; ``name`` is the file's, too, and that of its thumbnail."""

    name: str
    title: str
    file: str
    segmentation: str = ""

    @property
    def thumbnail(self) -> Path:
        return FOLDER / f"{self.name}.png"

    def load(self) -> list[Any]:
        """Load the nodes.

        :raises EngineError: the extension lacks a file.
        """
        files = [FOLDER / name for name in (self.file, self.segmentation) if name]
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise EngineError(
                _("The extension lacks its file {file}.").format(file=missing[0]),
                _("Install the extension again."),
            )
        nodes = [slicer.util.loadVolume(str(files[0]), {"name": self.title})]
        if self.segmentation:
            nodes.append(
                slicer.util.loadSegmentation(str(files[1]), {"name": _("{scan} reference").format(scan=self.title)})
            )
        for node in nodes:  # so that saving the scene does not write into the extension
            slicer.mrmlScene.RemoveNode(node.GetStorageNode())
        return nodes


def sampleScans() -> tuple[SampleScan, ...]:
    """Return the scans that come with the extension."""
    return (
        SampleScan("XAIChestCTA", _("Chest CTA"), "chest_cta.nrrd"),
        SampleScan("XAIAorta", _("CTA of the aorta"), "cta_aorta.nrrd", "cta_aorta.seg.nrrd"),
        SampleScan("XAIChestXray", _("Chest X-ray"), "chest_xray.nrrd", "chest_xray.seg.nrrd"),
    )


def registerSampleScans() -> None:
    """Offer the scans in the Sample Data module."""
    import SampleData

    for scan in sampleScans():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=scan.title,  # what the button shows
            # Slicer takes the length of these, also where a function brings the scan.
            uris=[],
            fileNames=[],
            nodeNames=[],
            thumbnailFileName=str(scan.thumbnail),
            customDownloader=lambda _source, scan=scan: scan.load(),
        )
