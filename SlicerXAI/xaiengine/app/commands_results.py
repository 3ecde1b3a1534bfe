"""Shell commands about results: ``report``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.console import say
from ..report.wording import NamedValue
from ..tasks import TASKS, find_task


def report_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine report RESULT``: one HTML page about a result, to read, print and share."""
    parser = argparse.ArgumentParser(prog="xaiengine report", description=report_command.__doc__)
    parser.add_argument("results", nargs="+", metavar="RESULT", help="folder of a result, or several")
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="the page (default: RESULT/report.html)")
    parser.add_argument("--scan", type=Path, metavar="FILE", help="where the scan lies now, if it has moved")
    parser.add_argument(
        "--without-scan", action="store_true", help="leave the scan out of the page: pictures, no interactive planes"
    )
    chosen = parser.parse_args(arguments)
    from ..report.making import write_report

    path = write_report(
        chosen.results, chosen.output, titles=task_titles, scan=chosen.scan, with_scan=not chosen.without_scan
    )
    say(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return 0


def task_titles(name: str) -> tuple[str, str, Mapping[str, NamedValue]]:
    """Title, description and names of the values of a task."""
    if name not in TASKS:
        return name.replace("-", " ").capitalize(), "", {}
    task = find_task(name)
    return (
        task.title,
        task.description,
        {item.name: NamedValue(item.title, item.unit, item.description) for item in task.values},
    )
