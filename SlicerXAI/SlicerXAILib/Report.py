"""A report about results, for the record: one HTML page from nodes of the scene or from a result folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import slicer

from .EngineErrors import EngineError
from .LoadedResult import LoadedResult, Picture
from .Provenance import provenanceRows
from .ReportCharts import Chart, Series
from .ReportPage import Section, TableText, pageText
from .ResultLoader import readResult
from .ResultRecord import namesOfInputs, resultOf
from .TaskDescriptions import readTasks, taskName
from .Translation import tr as _

_PLOT_KINDS = {"PlotTypeBar": "bar", "PlotTypeScatter": "scatter", "PlotTypeScatterBar": "bar"}


def writeReport(results: Any, path: str | Path) -> Path:
    """Write a report and return its path.

    :param results: a node of a result or several (those of one result are told once), or a result folder or several.
    :raises EngineError: a node is no result, a folder holds none, or the page cannot be written.
    """
    given = list(results) if isinstance(results, (list, tuple)) else [results]
    sections, told = [], set()
    for item in given:
        if isinstance(item, (str, Path)):
            sections.append(sectionOfFolder(Path(item)))
            continue
        loaded = resultOf(item)
        if loaded.record.GetID() not in told:
            told.add(loaded.record.GetID())
            sections.append(sectionOfNodes(loaded))
    if not sections:
        raise EngineError(_("There is nothing to report."), _("Choose a result."))
    title = sections[0].title if len(sections) == 1 else _("Explanations")
    _write(Path(path), pageText(sections, title, datetime.now().strftime("%Y-%m-%d %H:%M")))
    return Path(path)


def sectionOfNodes(loaded: LoadedResult) -> Section:
    """Return what is told of a result in the scene, as its nodes are now."""
    inputs = namesOfInputs(loaded.record)
    section = _section(loaded.task, loaded.inputName, loaded.values, loaded.warnings)
    section.pictures = list(loaded.pictures.values())
    section.provenance = provenanceRows(loaded.provenance, loaded.task, inputs)
    for node in loaded.nodes.values():
        if node.IsA("vtkMRMLTableNode"):
            section.tables.append(_tableOfNode(node))
        elif node.IsA("vtkMRMLPlotChartNode"):
            section.charts += _chartsOfNode(node)
        elif node.IsA("vtkMRMLTextNode") and not section.verdict:
            section.texts.append((node.GetName(), node.GetText() or ""))
    section.tables += [_segmentTable(node) for node in loaded.nodes.values() if node.IsA("vtkMRMLSegmentationNode")]
    return section


def sectionOfFolder(folder: Path) -> Section:
    """Return what is told of a result folder; of a failed job its error.

    :raises EngineError: the folder holds no result, or lacks a file that it names.
    """
    result = readResult(folder)
    provenance = result.get("provenance") or {}
    job = provenance.get("job") or {}
    inputs = {name: str(value) for name, value in (job.get("inputs") or {}).items()}
    scan = Path(inputs.get("volume", folder.resolve().name)).name
    section = _section(result["task"], scan, result.get("values") or {}, result.get("warnings") or [])
    error = result.get("error")
    if error:
        section.error = (error["message"], error.get("remedy") or "", error.get("details") or "")
    if provenance:
        section.provenance = provenanceRows(provenance, result["task"], inputs)
    tables: dict[str, TableText] = {}
    for artifact in result["artifacts"]:
        path = folder / artifact["file"]
        if not path.is_file():
            raise EngineError(
                _("The result lacks its file {file}.").format(file=artifact["file"]), _("Run the job again.")
            )
        _addFile(section, tables, artifact, path)
    section.tables = list(tables.values())
    return section


def _section(task: str, scan: str, values: Mapping[str, Any], warnings: Sequence[str]) -> Section:
    description = readTasks().get(task, {})
    title = taskName(task)
    section = Section(f"{title}: {scan}" if scan else title, description.get("description", ""))
    section.warnings = list(warnings)
    section.verdict = str(values.get("verdict") or "")
    known = {item["name"]: item for item in description.get("values", ())}
    for name, value in values.items():
        if name == "verdict" or value is None:
            continue
        item = known.get(name, {})
        unit = f" {item['unit']}" if item.get("unit") else ""
        section.values.append((item.get("title") or name.replace("_", " ").capitalize(), _cell(value) + unit))
    return section


def _addFile(section: Section, tables: dict[str, TableText], artifact: Mapping[str, Any], path: Path) -> None:
    kind, role, name = artifact["kind"], artifact["role"], artifact["name"]
    about = artifact.get("description") or ""
    if kind == "table":
        tables[role] = _tableOfFile(path, name, about)
    elif kind == "plot":
        hints = artifact.get("display") or {}
        table = tables.get(hints.get("table")) or _tableOfFile(path, name, about)
        section.charts.append(_chartOfTable(table, name, hints))
    elif kind == "text" and path.suffix.lower() in (".txt", ".md") and not section.verdict:
        section.texts.append((name, path.read_text(encoding="utf-8")))
    elif kind == "image" and (picture := Picture.fromFile(path, name, about)) is not None:
        section.pictures.append(picture)


def _tableOfFile(path: Path, name: str, about: str) -> TableText:
    with open(path, encoding="utf-8", newline="") as stream:
        columns, *rows = list(csv.reader(stream)) or [[]]
    return TableText(_capital(name), columns, [[_cell(cell) for cell in row] for row in rows], about)


def _chartOfTable(table: TableText, name: str, hints: Mapping[str, Any]) -> Chart:
    columns = {column: [row[index] for row in table.rows] for index, column in enumerate(table.columns)}
    wanted = [hints["y"]] if isinstance(hints.get("y"), str) else list(hints.get("y") or ())
    words = columns.get(hints.get("x", ""), [])
    numbers = [_number(word) for word in words]
    x = numbers if all(number == number for number in numbers) else words
    series = [Series(column, [_number(cell) for cell in columns[column]]) for column in wanted if column in columns]
    title = str(hints.get("title") or name)
    return Chart(
        title,
        x,
        series,
        str(hints.get("type") or "line"),
        str(hints.get("x_title") or hints.get("x") or ""),
        str(hints.get("y_title") or ""),
    )


def _tableOfNode(node: slicer.vtkMRMLTableNode) -> TableText:
    table = node.GetTable()
    columns = [table.GetColumn(index) for index in range(table.GetNumberOfColumns())]
    rows = [
        [_cell(table.GetValue(row, index)) for index in range(len(columns))] for row in range(table.GetNumberOfRows())
    ]
    return TableText(node.GetName(), [column.GetName() or "" for column in columns], rows, node.GetDescription() or "")


def _chartsOfNode(chart: slicer.vtkMRMLPlotChartNode) -> list[Chart]:
    """Return a chart of all series over one x; series over others get charts of their own."""
    groups: dict[tuple, list[Any]] = {}
    for index in range(chart.GetNumberOfPlotSeriesNodes()):
        node = chart.GetNthPlotSeriesNode(index)
        if node is not None and node.GetTableNode() is not None:
            column = node.GetLabelColumnName() or node.GetXColumnName() or ""
            groups.setdefault((node.GetTableNode().GetID(), column, node.GetPlotType()), []).append(node)
    return [_chartOfSeries(chart, nodes, column) for (_table, column, _kind), nodes in groups.items()]


def _chartOfSeries(chart: slicer.vtkMRMLPlotChartNode, nodes: Sequence[Any], column: str) -> Chart:
    table = _tableOfNode(nodes[0].GetTableNode())
    kind = _PLOT_KINDS.get("PlotType" + nodes[0].GetPlotTypeAsString(nodes[0].GetPlotType()).title().replace("-", ""))
    hints = {
        "x": column,
        "y": [node.GetYColumnName() for node in nodes],
        "type": kind or "line",
        "title": chart.GetTitle(),
        "x_title": chart.GetXAxisTitle(),
        "y_title": chart.GetYAxisTitle(),
    }
    return _chartOfTable(table, chart.GetName(), hints)


def _segmentTable(node: slicer.vtkMRMLSegmentationNode) -> TableText:
    segmentation = node.GetSegmentation()
    names = [segmentation.GetNthSegment(index).GetName() for index in range(segmentation.GetNumberOfSegments())]
    return TableText(node.GetName(), ["segment"], [[name] for name in names], node.GetDescription() or "")


def _cell(value: Any) -> str:
    value = value.ToString() if hasattr(value, "ToString") else value
    number = _number(value)
    if number != number or isinstance(value, bool) or str(value).strip().lstrip("+-").isdigit():
        return "" if str(value).lower() == "nan" else str(value)
    return f"{number:.4g}"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _write(path: Path, text: str) -> None:
    """Write the page whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise EngineError(
            _("The report {path} cannot be written: {error}.").format(path=path, error=error),
            _("Choose another folder."),
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
