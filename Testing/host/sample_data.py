"""The part of Slicer's Sample Data module that registers scans of other modules, with its signature and its checks.

The signature is that of Slicer 5.10; 5.12 has the same parameters and two more.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class SampleDataSource:
    """What a button of the module stands for."""

    sampleName: str | None
    uris: Sequence[str]
    fileNames: Sequence[str]
    nodeNames: Sequence[str]
    customDownloader: Callable[[SampleDataSource], Any] | None
    thumbnailFileName: str | None
    loadFileType: str | None
    loadFiles: Sequence[bool] | None
    loadFileProperties: dict[str, Any] = field(default_factory=dict)
    checksums: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """As Slicer: fields may be left out or be single values where ``uris`` is a list or a text."""
        count = 1 if isinstance(self.uris, str) else len(self.uris)
        for name in ("fileNames", "nodeNames"):
            value = getattr(self, name)
            if isinstance(self.uris, str) and not isinstance(value, (list, tuple)):
                value = [value]
            if name == "nodeNames" and value is None:
                value = [None] * count
            if len(value) != count:
                raise ValueError("All fields of sample data source must have the same length")
            setattr(self, name, value)

    @property
    def button_text(self) -> str | None:
        """What the module's button shows: the sample's name, which also finds it."""
        return self.sampleName


class SampleDataLogic:
    """Keeps the sources by their category."""

    sources: dict[str, list[SampleDataSource]] = {}

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Callable[[SampleDataSource], Any] | None = None,
        thumbnailFileName: str | None = None,
        loadFileType: str | None = "VolumeFile",
        loadFiles: Any = None,
        loadFileProperties: dict[str, Any] | None = None,
        checksums: Any = None,
    ) -> None:
        source = SampleDataSource(
            sampleName,
            uris,
            fileNames,
            nodeNames,
            customDownloader,
            thumbnailFileName,
            loadFileType,
            loadFiles,
            loadFileProperties or {},
            checksums,
        )
        SampleDataLogic.sources.setdefault(category, []).append(source)


def module() -> types.ModuleType:
    """A fresh ``SampleData`` module, without sources."""
    made = types.ModuleType("SampleData")
    made.SampleDataLogic = type("SampleDataLogic", (SampleDataLogic,), {})
    SampleDataLogic.sources = made.SampleDataLogic.sources = {}
    return made


def install(monkeypatch: Any) -> type[SampleDataLogic]:
    """Make ``import SampleData`` work in a test; returns its logic."""
    made = module()
    monkeypatch.setitem(sys.modules, "SampleData", made)
    return made.SampleDataLogic
