"""The cohort as one table, and where every number came from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.job import Result, plain, read_result, write_text_atomically
from ..core.output import csv_text
from ..core.version import engine_version
from .plan import CohortSettings, Work
from .record import CaseRecord

TABLE_NAME, PROVENANCE_NAME = "cohort.csv", "cohort.json"
REGION_ROLE = "regions"
PART = "part of |map| (%)"
_LAST = ("seconds", "attempts", "digest", "reason", "remedy", "warnings")
_OWN = ("case", "status", *_LAST)


def cohort_rows(work: Sequence[Work], records: Mapping[str, CaseRecord]) -> list[dict[str, Any]]:
    """One row per case: status, covariates, values, region shares, time, digest, reason. Cases not done say so."""
    rows = []
    for item in work:
        record = records.get(item.case.name)
        row: dict[str, Any] = {"case": item.case.name, "status": record.status if record else "not done"}
        row.update({_free(key, _OWN): value for key, value in item.case.covariates.items()})
        if record is not None:
            taken = {*_OWN, *row}
            row.update({_free(key, taken): value for key, value in record.values.items() if _is_cell(value)})
            if record.status == "finished":
                row.update(region_shares(item.folder))
            row["seconds"] = record.seconds
            row["attempts"] = record.attempts
            row["digest"] = record.digest[:16]
            row["reason"], row["remedy"] = record.reason, record.remedy
            row["warnings"] = " ".join(record.warnings)
        rows.append(row)
    return rows


def region_shares(folder: Path) -> dict[str, float]:
    """Of each method's map, the part (%) that lies in each region, by the case's own table of regions."""
    try:
        result: Result = read_result(folder)
        artifact = result.artifact(REGION_ROLE)
        if artifact is None:
            return {}
        with open(folder / artifact.file, encoding="utf-8", newline="") as stream:
            table = list(csv.DictReader(stream))
    except Exception:  # a result that was changed by hand has no shares
        return {}
    found = {}
    for row in table:
        if PART in row and row.get("segment"):
            method = f"{row['method']}: " if row.get("method") else ""
            found[f"{method}{row['segment']} ({PART})"] = float(row[PART] or "nan")
    return found


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All columns, in the order of their first appearance; what describes the run stands last."""
    found = list(dict.fromkeys(key for row in rows for key in row))
    return [key for key in found if key not in _LAST] + [key for key in _LAST if key in found]


def write_table(output: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``cohort.csv`` whole or not at all."""
    path = output / TABLE_NAME
    columns = columns_of(rows)
    write_text_atomically(path, csv_text(columns, [{key: row.get(key, "") for key in columns} for row in rows]))
    return path


def write_provenance(
    output: Path, settings: CohortSettings, rows: Sequence[Mapping[str, Any]], more: Mapping[str, Any]
) -> Path:
    """Write ``cohort.json``: the task with its model and options, counts of cases, findings over the cohort."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row["status"])] = counts.get(str(row["status"]), 0) + 1
    content = {
        "task": settings.task,
        "model": settings.model,
        "options": settings.options,
        "seed": settings.seed,
        "device": settings.device,
        "version": engine_version(),
        "cases": counts,
        **more,
    }
    path = output / PROVENANCE_NAME
    write_text_atomically(path, json.dumps(plain(content), indent=2, ensure_ascii=False, default=str) + "\n")
    return path


def _free(key: str, taken: Iterable[str]) -> str:
    """A column's name that hides no other: a covariate called "seconds" is kept beside the cohort's own."""
    return f"{key} (given)" if key in taken and taken is _OWN else f"{key} (result)" if key in taken else key


def _is_cell(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))
