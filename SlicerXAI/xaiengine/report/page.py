"""The page of a report as HTML: what it holds, in which order, escaped."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from typing import Any

from .charts import Chart, chart_svg
from .model_card import ModelCard
from .viewer import Scene, places_of
from .wording import CheckLine, NamedValue, cell_text, column_text, value_text

LONG_TABLE = 12
MOST_ROWS = 300
_MARKED_COLUMNS = ("passed", "result")
_MARKS = {"passed": "good", "yes": "good", "true": "good", "failed": "bad", "no": "bad", "false": "bad"}
CAUTION = "For research, not for diagnosis. A map shows what a model used, not what is true of the patient."
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src data: blob:; worker-src blob:; font-src data:"
)
"""What a browser may do for the page: nothing that leaves it."""


@dataclass(frozen=True)
class Picture:
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True)
class PageTable:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    description: str = ""
    charts: Sequence[Chart] = ()


@dataclass
class ReportSection:
    """What is said of one result."""

    title: str
    about: str
    answer: str
    failed: bool = False
    details: str = ""
    lights: Sequence[CheckLine] = ()
    values: Sequence[tuple[NamedValue, Any]] = ()
    pictures: list[Picture] = field(default_factory=list)
    tables: Sequence[PageTable] = ()
    texts: Sequence[tuple[str, str]] = ()
    reading: Sequence[str] = ()
    card: ModelCard | None = None
    provenance: Sequence[tuple[str, str]] = ()
    scene: Scene | None = None
    notes: Sequence[str] = ()


def page_html(sections: Sequence[ReportSection], title: str, origin: str) -> str:
    """The whole page. The first section with a scene gets the interactive planes."""
    first = next((section for section in sections if section.scene is not None), None)
    body = "\n".join(_section(section, section is first, len(sections) > 1) for section in sections)
    scripts = [f"<script>{_resource('page.js')}</script>"]
    if first is not None and first.scene is not None:
        data = json.dumps(first.scene.content, allow_nan=False).replace("<", "\\u003c")
        scripts.append(f'<script type="application/json" id="scene">{data}</script>')
        scripts.append(f"<script>/* {_license_line()} */\n{_resource('niivue.umd.js')}</script>")
        scripts.append(f"<script>{_resource('viewer.js')}</script>")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{_resource("page.css")}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="sub">{escape(origin)}</p>
{body}
<footer>{escape(CAUTION)}</footer>
{chr(10).join(scripts)}
</body>
</html>
"""


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _license_line() -> str:
    return "NiiVue, Copyright (c) 2021 Niivue, BSD-2-Clause, https://github.com/niivue/niivue"


def _section(section: ReportSection, interactive: bool, titled: bool) -> str:
    parts = ["<section>"]
    parts += [f"<h2>{escape(section.title)}</h2>"] if titled else []
    parts += [f'<p class="sub">{escape(section.about)}</p>'] if section.about else []
    parts.append(f'<p class="answer{" bad" if section.failed else ""}">{escape(section.answer)}</p>')
    parts += [f"<pre>{escape(section.details)}</pre>"] if section.details else []
    if section.lights:
        parts += [_heading("Can this be trusted?"), _lights(section.lights)]
    if interactive and section.scene is not None:
        parts += [_heading("Interactive planes"), _planes(section.scene)]
    if section.pictures:
        parts += [_heading("Pictures"), *(_picture(picture) for picture in section.pictures)]
    if section.values:
        rows = [(item.title, value_text(value, item.unit), item.description) for item, value in section.values]
        parts += [_heading("In numbers"), _list(rows)]
    parts += [_table(table, interactive) for table in section.tables]
    parts += [f"<h3>{escape(name)}</h3>\n<pre>{escape(text)}</pre>" for name, text in section.texts]
    if section.reading:
        items = "".join(f"<li>{escape(text)}</li>" for text in section.reading)
        parts += [_heading("How to read this"), f"<ul>{items}</ul>"]
    parts += [_card(section.card)] if section.card is not None else []
    if section.provenance:
        parts += [_heading("How this was made"), _list([(name, value, "") for name, value in section.provenance])]
    return "\n".join([*parts, "</section>"])


def _heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def _lights(lines: Sequence[CheckLine]) -> str:
    words = {"good": "Passed", "caution": "Caution", "bad": "Failed"}
    items = []
    for line in lines:
        more = f"<small>{escape(line.meaning)}</small>" if line.meaning else ""
        said = f"<strong>{escape(line.title)}</strong>: {escape(line.outcome)}"
        items.append(f'<li class="{line.light}" title="{words[line.light]}">{said}{more}</li>')
    return f'<ul class="lights">{"".join(items)}</ul>'


def _planes(scene: Scene) -> str:
    content = scene.content
    maps = content["maps"]
    controls = []
    if len(maps) > 1:
        options = "".join(f'<option value="{n}">{escape(item["name"])}</option>' for n, item in enumerate(maps))
        controls.append(f'<label>Map <select id="map-choice">{options}</select></label>')
    if maps:
        controls.append(
            '<label>Opacity <input type="range" id="opacity" min="0" max="1" step="0.02" value="0.6"></label>'
        )
        controls.append(
            '<label>Threshold <input type="range" id="threshold"> <output id="threshold-value"></output></label>'
        )
        controls.append(
            '<span><output id="key-low"></output> <span id="key"></span> <output id="key-high"></output></span>'
        )
    if content["segments"]:
        controls.append('<label><input type="checkbox" id="outlines" checked> Outlines</label>')
    controls.append('<label>Gray width <input type="range" id="gray" min="0.1" max="2" step="0.02" value="1"></label>')
    notes = "".join(f"<p>{escape(note)}</p>" for note in scene.notes)
    return (
        '<div id="planes" hidden><div class="stage"><canvas id="planes-canvas" '
        'aria-label="Axial, coronal and sagittal plane of the scan with the map"></canvas></div>'
        f'<div id="planes-where" role="status"></div><div class="controls">{"".join(controls)}</div>'
        f'<div id="planes-note"></div></div>\n<noscript><p>The interactive planes need JavaScript; the pictures below '
        f"show the same.</p></noscript>{notes}"
    )


def _picture(picture: Picture) -> str:
    source = f"data:{escape(picture.media_type)};base64,{base64.b64encode(picture.content).decode('ascii')}"
    name = escape(picture.name[:1].upper() + picture.name[1:])
    return f'<figure><img alt="{name}" src="{source}"><figcaption>{name}</figcaption></figure>'


def _list(rows: Sequence[tuple[str, str, str]]) -> str:
    lines = []
    for name, value, about in rows:
        hint = f' title="{escape(about)}"' if about else ""
        lines.append(f"<dt{hint}>{escape(name)}</dt><dd>{escape(value)}</dd>")
    return "<dl>\n" + "\n".join(lines) + "\n</dl>"


def _table(table: PageTable, interactive: bool) -> str:
    columns, rows = _without_empty_columns(table)
    places = [places_of(table.columns, row) for row in table.rows] if interactive else [None] * len(table.rows)
    has_places = any(place is not None for place in places)
    head = ("<th></th>" if has_places else "") + "".join(f"<th>{escape(column_text(item))}</th>" for item in columns)
    lines = []
    for row, place in list(zip(rows, places))[:MOST_ROWS]:
        jump = ""
        if has_places:
            point = ",".join(f"{value:.4f}" for value in place) if place is not None else ""
            button = f'<button class="jump" data-ras="{point}" hidden>show</button>' if point else ""
            jump = f"<td>{button}</td>"
        lines.append(f"<tr>{jump}{''.join(_cell(column, cell) for column, cell in zip(columns, row))}</tr>")
    if not lines:
        lines = [f'<tr><td colspan="{max(1, len(columns))}">none</td></tr>']
    about = f"<p>{escape(table.description)}</p>" if table.description else ""
    if len(table.rows) > MOST_ROWS:
        about += f"<p>The first {MOST_ROWS} of {len(table.rows)} rows; the file holds all.</p>"
    charts = "".join(
        f"<figure>{chart_svg(chart)}<figcaption>{escape(chart.title)}</figcaption></figure>" for chart in table.charts
    )
    rows_html = "\n".join(lines)
    html = f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows_html}\n</tbody>\n</table></div>'
    if len(table.rows) > LONG_TABLE:
        html = f"<details><summary>All {len(table.rows)} rows</summary>{html}</details>"
    return f"{_heading(table.title)}\n{about}\n{charts}\n{html}"


def _without_empty_columns(table: PageTable) -> tuple[list[str], list[list[str]]]:
    filled = [
        index
        for index in range(len(table.columns))
        if not table.rows or any(row[index : index + 1] not in ([], [""]) for row in map(list, table.rows))
    ]
    rows = [[row[index] if index < len(row) else "" for index in filled] for row in table.rows]
    return [table.columns[index] for index in filled], rows


def _cell(column: str, cell: str) -> str:
    kind = _MARKS.get(cell.strip().lower(), "") if column.lower() in _MARKED_COLUMNS else ""
    text = cell_text(cell, column)
    try:
        float(cell)
        kind = kind or "number"
    except ValueError:
        pass
    return f'<td class="{kind}">{escape(text)}</td>' if kind else f"<td>{escape(text)}</td>"


def _card(card: ModelCard) -> str:
    parts = [_heading(f"The model: {card.name}")]
    if card.is_empty:
        return "\n".join([*parts, "<p>The model brings no description of what it was trained on and for.</p>"])
    parts += [f"<p>{escape(note)}</p>" for note in card.notes]
    parts += [_list([(name, value, "") for name, value in card.rows])] if card.rows else []
    if card.card:
        parts.append(f"<details><summary>The model's own card</summary>{card.card}</details>")
    return "\n".join(parts)


def provenance_rows(content: Mapping[str, Any], inputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """What a reader must know to judge or to repeat a result: label and value."""
    job = content.get("job") or {}
    rows = [("Task", str(content.get("task") or job.get("task") or ""))]
    rows += [(name.replace("_", " ").capitalize(), value) for name, value in inputs.items()]
    model = content.get("model")
    if isinstance(model, Mapping):
        for name, label in (("name", "Model"), ("source", "Read from"), ("digest", "Digest (SHA-256)")):
            rows += [(label, str(model[name]))] if model.get(name) else []
    options = {name: value for name, value in (job.get("options") or {}).items() if name not in inputs}
    rows.append(("Options", ", ".join(f"{name} = {_plain(value)}" for name, value in options.items()) or "default"))
    for name, label in (("seed", "Seed"), ("device", "Device"), ("started", "Started")):
        rows += [(label, str(content[name]))] if content.get(name) is not None else []
    if isinstance(content.get("seconds"), (int, float)):
        rows.append(("Took", value_text(float(content["seconds"]), "s")))
    known = ("task", "job", "options", "seed", "device", "started", "seconds", "versions", "model")
    rows += [(_title(name), _plain(value)) for name, value in content.items() if name not in known]
    versions = content.get("versions")
    if isinstance(versions, Mapping):
        rows.append(("Versions", ", ".join(f"{name} {value}" for name, value in versions.items())))
    return [(label, value) for label, value in rows if value]


def _title(name: str) -> str:
    words = name.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{_title(str(name))}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return value_text(value, digits=4)
