"""What repeated runs say of a map: where the explanation is stable, and where it is not."""

from __future__ import annotations

from ..core.number_text import significant
from .check_line import CheckLine
from .result_files import ResultFolder, Table

STABLE, UNSTABLE = 70.0, 30.0
"""Percent of the map from which it is called stable, and below which not."""
SMALLEST_PART = 1.0
"""Regions with a smaller part of the map (%) are not named."""
MOST_NAMES = 6


def stability(found: ResultFolder) -> list[CheckLine]:
    """A light for the stable part of the first map; nothing where the uncertainty was not measured."""
    values = found.result.values
    share = values.get("stable_percent")
    if share is None:
        return []
    runs, source = values.get("uncertainty_runs", ""), values.get("uncertainty_source", "runs")
    said = f"{significant(float(share))} % of the map is stable over {runs} runs ({source})."
    regions = found.tables.get("regions")
    if regions is not None:
        said = " ".join(filter(None, [said, _named(regions)]))
    meaning = "Stable: the standard deviation over the runs is at most half of the mean. It does not mean right."
    return [CheckLine("good" if float(share) >= STABLE else "caution", "Stability of the map", said, meaning)]


def _named(table: Table) -> str:
    """In which regions the first method's map is stable, and in which it is not."""
    if not {"segment", "stable part (%)", "part of |map| (%)"} <= set(table.columns) or not table.rows:
        return ""
    rows = [dict(zip(table.columns, row)) for row in table.rows]
    first = [row for row in rows if row.get("method") == rows[0].get("method")]
    first = [row for row in first if row["stable part (%)"] and float(row["part of |map| (%)"]) >= SMALLEST_PART]
    stable = [row for row in first if float(row["stable part (%)"]) >= STABLE]
    unstable = [row for row in first if float(row["stable part (%)"]) < UNSTABLE]
    parts = [f"stable in {_list(stable)}"] if stable else []
    parts += [f"not stable in {_list(unstable)}"] if unstable else []
    text = "; ".join(parts)
    return f"The explanation is {text}." if text else ""


def _list(rows: list[dict[str, str]]) -> str:
    rows = sorted(rows, key=lambda row: -float(row["part of |map| (%)"]))
    names = [f"{row['segment']} ({significant(float(row['stable part (%)']))} %)" for row in rows[:MOST_NAMES]]
    return ", ".join(names) + (f" and {len(rows) - MOST_NAMES} more" if len(rows) > MOST_NAMES else "")
