"""Shell commands about results: ``report``, ``picture`` and ``export-dicom``."""

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


def picture_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine picture RESULT``: draw the maps again, for print or as vector graphics."""
    parser = argparse.ArgumentParser(prog="xaiengine picture", description=picture_command.__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT", help="folder of a result")
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="FILE", help="the picture: .png, .svg or .pdf"
    )
    parser.add_argument("--theme", default="dark", help="dark or print")
    parser.add_argument("--window", default="auto", help="gray values of a CT: auto, lung, soft_tissue, brain or bone")
    parser.add_argument("--maps", nargs="+", default=[], metavar="ROLE", help="which maps (default: all)")
    parser.add_argument("--point", nargs=3, type=float, metavar=("R", "A", "S"), help="where the planes meet, in mm")
    parser.add_argument("--scan", type=Path, metavar="FILE", help="where the scan lies now, if it has moved")
    chosen = parser.parse_args(arguments)
    from ..report.pictures import draw_result

    written = draw_result(
        chosen.result,
        chosen.output,
        scan=chosen.scan,
        theme=chosen.theme,
        window=chosen.window,
        maps=chosen.maps,
        center_ras=chosen.point,
    )
    for path in written:
        say(f"  {path}")
    return 0


def export_dicom_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine export-dicom RESULT``: segments as DICOM SEG, maps as Parametric Map, measurements as SR."""
    parser = argparse.ArgumentParser(prog="xaiengine export-dicom", description=export_dicom_command.__doc__)
    parser.add_argument("result", type=Path, metavar="RESULT", help="folder of a result")
    parser.add_argument("--output", "-o", type=Path, metavar="FOLDER", help="where to (default: RESULT/dicom)")
    parser.add_argument(
        "--source", type=Path, metavar="DICOM", help="the series that was explained (default: the one the job read)"
    )
    parser.add_argument("--series", default="", metavar="UID", help="which series of the source")
    parser.add_argument("--synthetic", action="store_true", help="export generated images too, marked SYNTHETIC")
    chosen = parser.parse_args(arguments)
    from ..dicom_out.export import export_result

    written = export_result(
        chosen.result,
        chosen.output,
        source=chosen.source,
        series_uid=chosen.series,
        synthetic=chosen.synthetic,
        say=say,
    )
    for path in written:
        say(f"  {path}")
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
