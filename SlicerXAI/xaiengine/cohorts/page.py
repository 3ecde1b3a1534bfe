"""The cohort as one HTML page without network: failures first, then findings, pictures, and the sortable table."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ..core.atomic import written_whole
from ..core.errors import OptionError
from ..core.number_text import significant
from ..core.version import engine_version
from ..report.charts import Chart, Curve, chart_svg
from .plan import CohortSettings, Work
from .statistics import numeric_columns, paired_numbers
from .table import columns_of

PAGE_NAME = "cohort.html"
MOST_PICTURES = 300
MOST_CHARTS = 12
MOST_ROWS = 5000
"""More rows make a browser slow; the table beside the page has all of them."""

PICTURE_PIXELS = 220
BINS = 20
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#1b1d21}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}
table{border-collapse:collapse;font-size:13px}th,td{border-bottom:1px solid #ddd;padding:4px 8px;text-align:left}
th{cursor:pointer;background:#f4f5f7;position:sticky;top:0}td.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}.bad{color:#a4262c}.good{color:#19692c}
.cards{display:flex;flex-wrap:wrap;gap:12px}.cards figure{margin:0;width:220px}.cards img{width:100%;background:#111}
figcaption{font-size:12px;overflow-wrap:anywhere}.charts{display:grid;grid-template-columns:1fr 1fr;gap:12px}
svg text{font:11px system-ui,sans-serif}.note{color:#555;font-size:13px}
@media print{th{position:static}.wide{overflow:visible}}
"""
SORT = """
document.querySelectorAll('table.sort th').forEach((head,column)=>head.addEventListener('click',()=>{
 const body=head.closest('table').tBodies[0],up=head.dataset.up!=='1';head.dataset.up=up?'1':'0';
 const value=row=>{const text=row.cells[column].dataset.v??row.cells[column].textContent;
  const number=Number(text);return text!==''&&!Number.isNaN(number)?number:text};
 [...body.rows].sort((a,b)=>{const x=value(a),y=value(b);
  const order=typeof x===typeof y?(x<y?-1:x>y?1:0):(typeof x==='number'?-1:1);return up?order:-order})
  .forEach(row=>body.append(row))}))
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_page(
    output: Path,
    settings: CohortSettings,
    work: Sequence[Work],
    rows: Sequence[Mapping[str, Any]],
    findings: Mapping[str, Any],
    agreement: tuple[str, str] | None = None,
) -> Path:
    """Write ``cohort.html`` whole or not at all; it needs no network, and links to the cases beside it."""
    finished = [row for row in rows if row["status"] == "finished"]
    title = f"{settings.task.replace('-', ' ').capitalize()}: {len(rows)} cases"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1><p>{_summary(rows, settings)}</p>",
        _failures(rows),
        _findings(findings),
        _charts(finished, agreement),
        _pictures(output, work, finished),
        _table(output, work, rows),
        f"<p class='note'>SlicerXAI {escape(engine_version())}. For research, not for diagnosis.</p>",
        f"<script>{SORT}</script></body></html>",
    ]
    path = output / PAGE_NAME
    with written_whole(path) as temporary:
        temporary.write_text("\n".join(part for part in parts if part), encoding="utf-8", newline="\n")
    return path


def _summary(rows: Sequence[Mapping[str, Any]], settings: CohortSettings) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row["status"])] = counts.get(str(row["status"]), 0) + 1
    model = f" Model: {escape(Path(settings.model).name)}." if settings.model else ""
    return escape(", ".join(f"{number} {status}" for status, number in counts.items())) + f".{model}"


def _failures(rows: Sequence[Mapping[str, Any]]) -> str:
    failed = [row for row in rows if row["status"] in ("failed", "lost", "cancelled")]
    if not failed:
        return ""
    lines = [
        f"<tr><td>{escape(str(row['case']))}</td><td class='bad'>{escape(str(row['status']))}</td>"
        f"<td>{escape(str(row.get('reason', '')))}</td><td>{escape(str(row.get('remedy', '')))}</td></tr>"
        for row in failed
    ]
    return (
        f"<h2>{len(failed)} cases without a result</h2><div class='wide'><table><thead><tr><th>case</th>"
        f"<th>status</th><th>reason</th><th>what to do</th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _findings(findings: Mapping[str, Any]) -> str:
    parts = []
    groups = findings.get("groups")
    if groups:
        head = ("value", "groups", "cases", "medians", "effect (Cliff's delta, 95 %)", "p (Holm)")
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _group_cells(item)) + "</tr>" for item in groups
        )
        heads = "".join(f"<th>{escape(name)}</th>" for name in head)
        parts.append(
            f"<h2>Groups</h2><div class='wide'><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
            "</div>"
            "<p class='note'>Mann-Whitney U test; p corrected for all values compared (Holm). Delta 1: every case of "
            "the first group lies above every case of the second.</p>"
        )
    found = findings.get("agreement")
    if found:
        parts.append(
            f"<h2>{escape(_title(found['value']))} against {escape(_title(found['given']))}</h2>"
            f"<p>{found['count']} cases: Pearson "
            f"{significant(found['pearson'])}, Spearman {significant(found['spearman'])}; mean difference "
            f"{significant(found['bias'])}, 95 % of differences between {significant(found['lower_limit'])} and "
            f"{significant(found['upper_limit'])}.</p>"
        )
    regions = findings.get("consistency")
    if regions:
        order = sorted(regions["mean"].items(), key=lambda item: -item[1])[:8]
        where = "; ".join(f"{escape(name.rpartition(' (')[0])} {significant(value)} %" for name, value in order)
        far = ", ".join(escape(name) for name in regions["outliers"]) or "none"
        parts.append(
            f"<h2>Where the model looks</h2><p>On average: {where}. Entropy {significant(regions['entropy'])} (0: one "
            f"region, 1: all alike). Cases that look elsewhere than most: {far}.</p>"
        )
    return "".join(parts)


def _group_cells(item: Mapping[str, Any]) -> list[str]:
    return [
        _title(str(item["value"])),
        f"{item['first']} / {item['second']}",
        f"{item['first_count']} / {item['second_count']}",
        f"{significant(item['first_median'])} / {significant(item['second_median'])}",
        f"{item['effect']:+.2f} ({item['low']:+.2f} to {item['high']:+.2f})",
        f"{item['p_holm']:.2g}",
    ]


def _charts(finished: Sequence[Mapping[str, Any]], agreement: tuple[str, str] | None) -> str:
    charts = []
    if agreement is not None:
        with contextlib.suppress(OptionError):  # said where the agreement was computed
            charts.append(_bland_altman(finished, *agreement))
    for name in numeric_columns(finished)[: MOST_CHARTS - len(charts)]:
        values = np.array([float(row[name]) for row in finished if row.get(name) not in ("", None)])
        if len(values) < 2 or values.min() == values.max():
            continue
        counts, edges = np.histogram(values, min(BINS, max(4, math.isqrt(len(values)))))
        labels = [significant((low + high) / 2) for low, high in zip(edges[:-1], edges[1:])]
        charts.append(Chart(_title(name), labels, [Curve("cases", counts.tolist())], "bar", _title(name), "cases"))
    if not charts:
        return ""
    drawn = "".join(
        f"<figure>{chart_svg(chart)}<figcaption>{escape(chart.title)}</figcaption></figure>" for chart in charts
    )
    return f"<h2>Distributions</h2><div class='charts'>{drawn}</div>"


def _bland_altman(finished: Sequence[Mapping[str, Any]], value: str, given: str) -> Chart:
    """Differences over means (Bland and Altman 1986); the mean difference and its limits are dotted lines."""
    pairs = paired_numbers(finished, value, given)
    mean, difference = pairs.mean(axis=1), pairs[:, 0] - pairs[:, 1]
    bias, reach = float(difference.mean()), 1.96 * float(difference.std(ddof=1))
    dots = np.linspace(mean.min(), mean.max(), 60)
    none = [math.nan] * len(dots)
    curves = [Curve("cases", [*difference.tolist(), *none])]
    for name, level in (("mean difference", bias), ("+1.96 SD", bias + reach), ("-1.96 SD", bias - reach)):
        curves.append(Curve(name, [*[math.nan] * len(mean), *[level] * len(dots)]))
    words = f"{_title(value)} minus {_title(given)}"
    return Chart(f"Bland-Altman: {words}", [*mean.tolist(), *dots.tolist()], curves, "scatter", "mean of both", words)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _pictures(output: Path, work: Sequence[Work], finished: Sequence[Mapping[str, Any]]) -> str:
    names = {str(row["case"]) for row in finished}
    cards: list[str] = []
    for item in work:
        if item.case.name not in names or len(cards) == MOST_PICTURES:
            continue
        picture = next(
            (item.folder / name for name in ("picture.png", "series.png") if (item.folder / name).is_file()), None
        )
        if picture is not None and (small := thumbnail(picture)):
            link = quote(_link(output, item))
            cards.append(
                f"<figure><a href='{link}'><img loading='lazy' alt='' src='{small}'></a>"
                f"<figcaption>{escape(item.case.name)}</figcaption></figure>"
            )
    if not cards:
        return ""
    more = (
        f"<p class='note'>The first {MOST_PICTURES} are shown.</p>" if len(names) > len(cards) == MOST_PICTURES else ""
    )
    return f"<h2>Pictures</h2><div class='cards'>{''.join(cards)}</div>{more}"


def thumbnail(path: Path) -> str:
    """A small JPEG of a picture as a data URL; "" where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((2 * PICTURE_PIXELS, 2 * PICTURE_PIXELS))
            stream = io.BytesIO()
            small.save(stream, "JPEG", quality=70)
    except OSError:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _link(output: Path, item: Work) -> str:
    """The case's own report where there is one, else its picture, relative to the page."""
    folder = item.folder.relative_to(output) if item.folder.is_relative_to(output) else item.folder
    for name in ("report.html", "picture.png", "result.json"):
        if (item.folder / name).is_file():
            return (folder / name).as_posix()
    return folder.as_posix()


def _table(output: Path, work: Sequence[Work], rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [name for name in columns_of(rows) if name not in ("reason", "remedy", "digest", "warnings")]
    links = {item.case.name: _link(output, item) for item in work}
    heads = "".join(f"<th title='Sort'>{escape(_title(name))}</th>" for name in columns)
    body = []
    for row in rows[:MOST_ROWS]:
        cells: list[str] = []
        for name in columns:
            value = row.get(name, "")
            if name == "case" and row["status"] == "finished":
                cells.append(f"<td><a href='{quote(links[str(value)])}'>{escape(str(value))}</a></td>")
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                cells.append(f"<td class='n' data-v='{value}'>{escape(significant(float(value), 3))}</td>")
            else:
                kind = {"finished": " class='good'", "failed": " class='bad'", "lost": " class='bad'"}
                mark = kind.get(str(value), "") if name == "status" else ""
                cells.append(f"<td{mark}>{escape('' if value is None else str(value))}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    more = f" The first {MOST_ROWS} of {len(rows)} cases; cohort.csv has all." if len(rows) > MOST_ROWS else ""
    return (
        f"<h2>All cases</h2><p class='note'>{more} A click on a column's head sorts.</p><div class='wide'>"
        f"<table class='sort'><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )
