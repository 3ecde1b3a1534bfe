"""The page of a report: one HTML file that needs nothing else, for the screen and for paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from .LoadedResult import Picture
from .ReportCharts import Chart, chartSvg
from .Translation import tr as _

_MOST_ROWS = 200
_NUMBER_CHARACTERS = set("0123456789+-.,eE%")
# How words in a column of checks are marked.
_MARKS = {"passed": "good", "yes": "good", "true": "good", "failed": "bad", "no": "bad", "false": "bad"}
_MARKED_COLUMNS = ("passed", "result")

_STYLE = """
body { font: 15px/1.45 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #1b1b1b;
  max-width: 60em; margin: 2em auto; padding: 0 1.5em; background: #fff; }
h1 { font-size: 1.6em; margin-bottom: .1em; } h2 { font-size: 1.3em; border-bottom: 2px solid #0072b2;
  padding-bottom: .15em; margin-top: 1.8em; } h3 { font-size: 1.05em; margin: 1.3em 0 .4em; }
.sub { color: #555; margin-top: 0; } section { break-inside: auto; }
table { border-collapse: collapse; font-size: .9em; margin: .3em 0 1em; }
th, td { border: 1px solid #ccc; padding: .25em .6em; text-align: left; vertical-align: top; }
th { background: #f2f5f8; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.good { color: #006d4e; font-weight: 600; } td.bad { color: #a33600; font-weight: 600; }
.wide { overflow-x: auto; }
figure { margin: .5em 0 1.2em; break-inside: avoid; } figure img { max-width: 100%; border: 1px solid #ccc; }
figcaption { font-size: .88em; color: #444; }
svg.chart { width: 100%; max-width: 640px; } svg.chart text { font: 12px system-ui, sans-serif; fill: #333; }
.verdict { border-left: 5px solid #0072b2; background: #eef5fa; padding: .6em 1em; font-size: 1.05em; }
.warning { border-left: 5px solid #e69f00; background: #fff7e6; padding: .4em 1em; margin: .4em 0; }
.error { border-left: 5px solid #d55e00; background: #fdeee6; padding: .6em 1em; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .6em; font-size: .85em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1em; font-size: .88em; }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 2.5em; border-top: 1px solid #ccc; padding-top: .5em; color: #555; font-size: .85em; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; } thead { display: table-header-group; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
"""


@dataclass(frozen=True)
class TableText:
    """A table as it is printed."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    description: str = ""


@dataclass
class Section:
    """What is told of one result, in the order in which it is told."""

    title: str
    about: str = ""
    error: tuple[str, str, str] | None = None  # message, remedy, details
    verdict: str = ""
    warnings: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    values: list[tuple[str, str]] = field(default_factory=list)
    tables: list[TableText] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    provenance: list[tuple[str, str]] = field(default_factory=list)


def pageText(sections: Sequence[Section], title: str, written: str) -> str:
    """Return the page; everything that comes from files or nodes is escaped.

    :param written: when, as a reader writes it.
    """
    body = "\n".join(_sectionText(section) for section in sections)
    origin = _("Written {time} by SlicerXAI. For research, not for diagnosis.").format(time=written)
    caution = _("Heat maps show what a model's answer rests on; they are no evidence that the answer is right.")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="sub">{escape(origin)}</p>
{body}
<footer>{escape(caution)}</footer>
</body>
</html>
"""


def _sectionText(section: Section) -> str:
    parts = [f"<section>\n<h2>{escape(section.title)}</h2>"]
    parts += [f'<p class="sub">{escape(section.about)}</p>'] if section.about else []
    parts += [_errorText(*section.error)] if section.error else []
    parts += [f'<p class="verdict">{escape(section.verdict)}</p>'] if section.verdict else []
    parts += [f'<p class="warning">{escape(text)}</p>' for text in section.warnings]
    if section.values:
        parts += [_heading(_("In numbers")), _listText(section.values)]
    parts += [_pictureText(picture) for picture in section.pictures]
    parts += [_tableText(table) for table in section.tables]
    parts += [
        f"<figure>{chartSvg(chart)}<figcaption>{escape(chart.title)}</figcaption></figure>" for chart in section.charts
    ]
    parts += [f"<h3>{escape(name)}</h3>\n<pre>{escape(text)}</pre>" for name, text in section.texts]
    if section.provenance:
        parts += [_heading(_("How this was made")), _listText(section.provenance)]
    return "\n".join([*parts, "</section>"])


def _heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def _errorText(message: str, remedy: str, details: str) -> str:
    told = f"<strong>{escape(message)}</strong> {escape(remedy)}"
    return f'<div class="error">{told}</div>' + (f"\n<pre>{escape(details)}</pre>" if details else "")


def _pictureText(picture: Picture) -> str:
    caption = picture.description or picture.name[:1].upper() + picture.name[1:]
    source = f"data:{escape(picture.mediaType)};base64,{escape(picture.data)}"
    return f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'


def _listText(rows: Sequence[tuple[str, str]]) -> str:
    return "<dl>\n" + "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows) + "\n</dl>"


def _tableText(table: TableText) -> str:
    table = _withoutEmptyColumns(table)
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in table.columns)
    lines = [_rowText(table.columns, row) for row in table.rows[:_MOST_ROWS]]
    about = f"<p>{escape(table.description)}</p>" if table.description else ""
    if len(table.rows) > _MOST_ROWS:
        cut = _("The first {shown} of {count} rows.").format(shown=_MOST_ROWS, count=len(table.rows))
        about += f"<p>{escape(cut)}</p>"
    rows = "\n".join(lines) or f'<tr><td colspan="{max(1, len(table.columns))}">{escape(_("none"))}</td></tr>'
    return (
        f'<h3>{escape(table.title)}</h3>\n{about}\n<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _withoutEmptyColumns(table: TableText) -> TableText:
    indices = range(len(table.columns))
    filled = [index for index in indices if any(row[index : index + 1] != [""] for row in table.rows)]
    if not table.rows or len(filled) == len(indices):
        return table
    rows = [[row[index] for index in filled if index < len(row)] for row in table.rows]
    return TableText(table.title, [table.columns[index] for index in filled], rows, table.description)


def _rowText(columns: Sequence[str], row: Sequence[str]) -> str:
    cells = []
    for column, cell in zip(columns, row):
        kind = _MARKS.get(cell.strip().lower(), "") if column.lower() in _MARKED_COLUMNS else ""
        kind = kind or ("number" if cell and set(cell) <= _NUMBER_CHARACTERS else "")
        cells.append(f'<td class="{kind}">{escape(cell)}</td>' if kind else f"<td>{escape(cell)}</td>")
    return f"<tr>{''.join(cells)}</tr>"
