"""Makes a report: reads result folders, chooses what is said, writes one HTML file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..core.atomic import written_whole
from ..core.errors import InputError, XAIError
from ..core.version import engine_version
from .charts import Chart, Curve
from .model_card import model_card
from .page import PageTable, Picture, ReportSection, page_html, provenance_rows
from .result_files import ResultFolder, Table, read_result_folder
from .viewer import MOST_VOXELS, make_scene, read_shown
from .wording import CheckLine, NamedValue, answer, checks, how_to_read, is_bare_grade, words_of

REPORT_NAME = "report.html"
LARGEST_PAGE = 8_000_000
MEDIA_TYPES = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}
_INTERNAL_VALUES = ("verdict",)


def write_report(
    folders: Sequence[Path | str] | Path | str,
    path: Path | str | None = None,
    *,
    titles: Callable[[str], tuple[str, str, Mapping[str, NamedValue]]] | None = None,
    scan: Path | str | None = None,
    with_scan: bool = True,
) -> Path:
    """Write one page about one or several results and return its path (default: report.html in the first folder).

    ``titles`` gives title, description and names of values of a task. ``scan`` is where the scan lies now, if it has
    moved. Without the scan the page has the pictures alone. Pages stay below 8 MB: the planes get coarser for it.

    Raises InputError for folders without a result, and ResourceError when the page cannot be written.
    """
    given = [folders] if isinstance(folders, (str, Path)) else list(folders)
    if not given:
        raise InputError("There is nothing to report.", "Name a result folder.")
    results = [read_result_folder(folder) for folder in given]
    path = Path(path) if path is not None else results[0].folder / REPORT_NAME
    sections = [_section(found, titles or _no_titles) for found in results]
    title = sections[0].title if len(sections) == 1 else "Explanations"
    origin = f"xaiengine {engine_version()}, {datetime.now():%Y-%m-%d %H:%M}"
    shown = None
    if with_scan:
        shown = _shown(results[0], sections[0], scan)
    voxels = MOST_VOXELS
    while True:
        if shown is not None:
            sections[0].scene = make_scene(shown, voxels)
        text = page_html(sections, title, origin)
        size = len(text.encode("utf-8"))
        if size < LARGEST_PAGE or shown is None or voxels < 30_000:
            break
        voxels = int(voxels * max(0.3, min(0.8, LARGEST_PAGE / size)))
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def _no_titles(task: str) -> tuple[str, str, Mapping[str, NamedValue]]:
    return task.replace("-", " ").capitalize(), "", {}


def _shown(found: ResultFolder, section: ReportSection, scan: Path | str | None) -> Any:
    """The scan with maps and segments; None with a line on the page that says why there are no planes."""
    if found.result.status != "finished":
        return None
    where = Path(scan) if scan is not None else found.scan_path()
    if scan is not None and not Path(scan).exists():
        raise InputError(f"The scan {scan} does not exist.", "Check the path, or leave the scan out.")
    if where is None:
        text = "The scan is not where the job read it: this page has pictures, and no interactive planes."
        section.lights = [*section.lights, CheckLine("caution", "Scan", text)]
        return None
    try:
        return read_shown(found, where)
    except XAIError as error:
        if scan is not None:
            raise
        text = f"The scan cannot be read again ({error.message}): there are no interactive planes."
        section.lights = [*section.lights, CheckLine("caution", "Scan", text)]
        return None


def _section(found: ResultFolder, titles: Callable[[str], tuple[str, str, Mapping[str, NamedValue]]]) -> ReportSection:
    result = found.result
    title, about, declared = titles(result.task)
    name = found.scan_name
    values = [
        (words_of(key, declared), value)
        for key, value in result.values.items()
        if key not in _INTERNAL_VALUES and value is not None and not is_bare_grade(key, value)
    ]
    verdict = next((item for item in found.artifacts("text") if item.role == "verdict"), None)
    texts = [
        (item.name[:1].upper() + item.name[1:], found.path(item).read_text(encoding="utf-8", errors="replace"))
        for item in found.artifacts("text")
        if item.file.endswith((".txt", ".md")) and (item is not verdict or not result.values.get("verdict"))
    ]
    return ReportSection(
        title=f"{title}: {name}" if name else title,
        about=about,
        answer=answer(found, declared),
        failed=result.status != "finished",
        details=result.error.details if result.error else "",
        lights=checks(found),
        values=values,
        pictures=_pictures(found),
        tables=_tables(found),
        texts=texts,
        reading=how_to_read(result),
        card=model_card(result.provenance),
        provenance=provenance_rows(result.provenance, found.inputs) if result.provenance else (),
    )


def _pictures(found: ResultFolder) -> list[Picture]:
    pictures = []
    for item in found.artifacts("image"):
        kind = MEDIA_TYPES.get(Path(item.file).suffix.lower())
        if kind is not None:
            pictures.append(Picture(item.description or item.name, *_lighter(kind, found.path(item).read_bytes())))
    return pictures


def _lighter(kind: str, content: bytes) -> tuple[str, bytes]:
    """A large PNG as JPEG of high quality, which a page with many of them needs."""
    if kind != "image/png" or len(content) < 400_000:
        return kind, content
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(stream, "JPEG", quality=92, subsampling=0)
    return ("image/jpeg", stream.getvalue()) if stream.tell() < len(content) else (kind, content)


def _tables(found: ResultFolder) -> list[PageTable]:
    charts: dict[str, list[Chart]] = {}
    for item in found.artifacts("plot"):
        role = str(item.display.get("table") or "")
        table = found.tables.get(role)
        if table is not None:
            charts.setdefault(role, []).append(chart_of(table, item.name, item.display))
    return [
        PageTable(
            table.artifact.name[:1].upper() + table.artifact.name[1:],
            table.columns,
            table.rows,
            table.artifact.description,
            charts.get(role, ()),
        )
        for role, table in found.tables.items()
        if role != "checks"
    ]


def chart_of(table: Table, name: str, hints: Mapping[str, Any]) -> Chart:
    """The chart that an artifact's hints ask for."""
    y = hints.get("y")
    wanted = [y] if isinstance(y, str) else list(y or ())
    words = table.column(hints["x"]) if hints.get("x") in table.columns else []
    numbers = [_number(word) for word in words]
    x: Sequence[Any] = numbers if all(number == number for number in numbers) else words
    curves = [
        Curve(column, [_number(cell) for cell in table.column(column)]) for column in wanted if column in table.columns
    ]
    return Chart(
        str(hints.get("title") or name),
        x,
        curves,
        str(hints.get("type") or "line"),
        str(hints.get("x_title") or hints.get("x") or ""),
        str(hints.get("y_title") or ""),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
