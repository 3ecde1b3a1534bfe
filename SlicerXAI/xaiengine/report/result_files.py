"""A result folder as it is read for a report: its values, tables, pictures, and the scan that it belongs to."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.errors import InputError
from ..core.job import RESULT_NAME, Artifact, Result, explain


@dataclass(frozen=True)
class Table:
    """A table as text, with the artifact that it is."""

    artifact: Artifact
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def column(self, name: str) -> list[str]:
        index = list(self.columns).index(name)
        return [row[index] if index < len(row) else "" for row in self.rows]


@dataclass(frozen=True, eq=False)
class ResultFolder:
    """A result with its folder; ``missing`` are files that it names and that are not there."""

    folder: Path
    result: Result
    missing: tuple[str, ...] = ()
    tables: dict[str, Table] = field(default_factory=dict)

    def artifacts(self, kind: str) -> list[Artifact]:
        return [item for item in self.result.artifacts if item.kind == kind and item.file not in self.missing]

    def path(self, artifact: Artifact) -> Path:
        return self.folder / artifact.file

    @property
    def inputs(self) -> dict[str, str]:
        """The files that the job read, by the names that its task gives them."""
        job = self.result.provenance.get("job") or {}
        options = self.result.provenance.get("options") or {}
        named = {name: str(value) for name, value in (job.get("inputs") or {}).items() if value}
        volume = options.get("volume")
        return {**({"volume": str(volume)} if volume else {}), **named}

    @property
    def scan_name(self) -> str:
        scan = self.result.provenance.get("scan") or {}
        if isinstance(scan, dict) and scan.get("name"):
            return str(scan["name"])
        return Path(self.inputs["volume"]).name if "volume" in self.inputs else ""

    def scan_path(self) -> Path | None:
        """Where the scan lies, as the job named it, or beside the result under the same name; None if it is gone."""
        named = self.inputs.get("volume")
        if not named:
            return None
        for path in (Path(named), self.folder / Path(named.replace("\\", "/")).name):
            if path.exists():
                return path
        return None


def read_result_folder(folder: Path | str) -> ResultFolder:
    """Read a folder with ``result.json`` (or that file itself).

    Raises InputError when there is none, it is no result of this program, or its files lie outside the folder.
    """
    folder = Path(folder)
    folder = folder.parent if folder.name == RESULT_NAME else folder
    path = folder / RESULT_NAME
    if not path.is_file():
        raise InputError(f"{folder} holds no result: there is no {RESULT_NAME} in it.", "Choose a result folder.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}.", "Run the job again.") from error
    try:
        result = Result.model_validate(_known(content))
    except ValidationError as error:
        raise InputError(
            f"{path} is not a result of this program: {explain(error)}.", "Choose a folder that xaiengine wrote."
        ) from error
    for artifact in result.artifacts:
        if Path(artifact.file).is_absolute() or ".." in Path(artifact.file).parts:
            raise InputError(f"{path} names a file outside its folder: {artifact.file}.", "Choose another result.")
    missing = tuple(dict.fromkeys(item.file for item in result.artifacts if not (folder / item.file).is_file()))
    tables = {
        item.role: _read_table(folder / item.file, item)
        for item in result.artifacts
        if item.kind == "table" and item.file not in missing
    }
    return ResultFolder(folder, result, missing, tables)


def _known(content: Any) -> Any:
    """Fields that other versions write beside those known here are left out."""
    if not isinstance(content, dict):
        return content
    content = {name: value for name, value in content.items() if name in Result.model_fields}
    if isinstance(content.get("artifacts"), list):
        content["artifacts"] = [
            {name: value for name, value in item.items() if name in Artifact.model_fields}
            if isinstance(item, dict)
            else item
            for item in content["artifacts"]
        ]
    return content


def _read_table(path: Path, artifact: Artifact) -> Table:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        columns, *rows = list(csv.reader(stream)) or [[]]
    return Table(artifact, columns, rows)
