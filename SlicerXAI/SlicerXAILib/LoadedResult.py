"""What came of a job, as nodes and numbers."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .Translation import tr as _

_PICTURE_TYPES = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}


@dataclass(frozen=True)
class Picture:
    """A picture that the engine has drawn; ``data`` is base64, so that it can be kept in a scene."""

    name: str
    mediaType: str
    data: str
    description: str = ""

    @staticmethod
    def fromFile(path: Path, name: str, description: str = "") -> Picture | None:
        """Return the picture of a file; None if it is no picture or empty."""
        mediaType = _PICTURE_TYPES.get(path.suffix.lower())
        content = path.read_bytes() if mediaType else b""
        return Picture(name, mediaType, base64.b64encode(content).decode("ascii"), description) if content else None

    @property
    def content(self) -> bytes:
        """The content of the picture's file."""
        return base64.b64decode(self.data)


@dataclass
class LoadedResult:
    """What came of a job: nodes by their role, numbers, warnings, and how it was made.

    A node is also an attribute by its role: ``result.attribution``. ``hints`` holds what the engine says of the
    nodes' display, ``files`` the artifacts that are no nodes and
    whose folder stays, ``pictures`` those of them that can be shown; all
    three by role. ``record`` is the node that keeps all this in the scene.
    """

    task: str
    nodes: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    hints: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: dict[str, Picture] = field(default_factory=dict)
    inputName: str = ""
    folderItem: int = 0
    record: Any = None

    def __getattr__(self, role: str) -> Any:
        nodes = self.__dict__.get("nodes", {})
        if role in nodes:
            return nodes[role]
        raise AttributeError(
            _("The result has no {role}; it has {names}.").format(role=role, names=", ".join(nodes) or _("no nodes"))
        )
