"""Writes what a study reads at the end of a run: table, provenance with findings, mean maps, page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import XAIError
from .mean_maps import write_mean_maps
from .page import write_page
from .plan import CohortSettings, Work
from .record import CaseRecord
from .statistics import agreement_with, compare_groups, consistency
from .table import cohort_rows, write_provenance, write_table


def write_study(
    output: Path,
    settings: CohortSettings,
    work: Sequence[Work],
    records: Mapping[str, CaseRecord],
    *,
    group: str = "",
    agreement: tuple[str, str] | None = None,
    atlas: str = "",
    warn: Callable[[str], None] = lambda text: None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write ``cohort.csv``, ``cohort.json``, ``cohort.html`` and mean maps; returns the rows and the findings.

    What cannot be computed (groups that are too small, grids that differ) is a warning, and the rest is written.
    """
    rows = cohort_rows(work, records)
    findings: dict[str, Any] = {}

    def attempt(name: str, make: Callable[[], Any]) -> None:
        try:
            found = make()
        except XAIError as error:
            warn(f"{error.message} {error.remedy}".strip())
            return
        if found:
            findings[name] = found

    if group:
        attempt("groups", lambda: [item.row() for item in compare_groups(rows, group, settings.seed)])
    if agreement is not None:
        attempt("agreement", lambda: asdict(agreement_with(rows, *agreement)))
    attempt("consistency", lambda: (found := consistency(rows)) and asdict(found))
    finished = [item for item in work if (record := records.get(item.case.name)) and record.status == "finished"]
    attempt("mean_maps", lambda: write_mean_maps(output, finished, atlas, warn))
    write_table(output, rows)
    write_provenance(output, settings, rows, findings)
    write_page(output, settings, work, rows, findings, agreement)
    return rows, findings
