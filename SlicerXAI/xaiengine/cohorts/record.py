"""What is kept of each case beside its result: whether it succeeded, for which digest, and what to do if not."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from ..core.job import write_json

RECORD_NAME = "case.json"
Status = Literal["finished", "failed", "cancelled", "lost"]


class CaseRecord(BaseModel):
    """``lost``: the process that did the case ended (killed, out of memory) at the last try as well."""

    case: str
    status: Status
    digest: str
    seconds: float = 0.0
    attempts: int = 1
    reason: str = ""
    remedy: str = ""
    warnings: list[str] = Field(default_factory=list)
    values: dict[str, Any] = Field(default_factory=dict)
    files: dict[str, list[Any]] = Field(default_factory=dict)
    """Size, time of change and digest of each input, so that it need not be read again."""


def read_record(folder: Path) -> CaseRecord | None:
    """The record in a case's folder; None where there is none, or it cannot be read."""
    try:
        return CaseRecord.model_validate_json((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_record(folder: Path, record: CaseRecord) -> None:
    """Write the record whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RECORD_NAME, record)
