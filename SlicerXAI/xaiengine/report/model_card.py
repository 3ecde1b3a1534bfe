"""What a model was made of and for, from the files that come with it, for the readers of a result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

MOST_CHARACTERS = 12_000
_METADATA = (
    ("description", "What it does"),
    ("intended_use", "Intended use"),
    ("data_source", "Trained on"),
    ("data_type", "Kind of data"),
    ("eval_metrics", "Measured"),
    ("limitations", "Limits"),
    ("authors", "Made by"),
    ("copyright", "Copyright"),
    ("version", "Version"),
)


@dataclass(frozen=True)
class ModelCard:
    """Lines of a model's metadata, its notes, and its own card as HTML (escaped)."""

    name: str
    rows: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    card: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.rows or self.notes or self.card)


def model_card(provenance: dict[str, Any]) -> ModelCard | None:
    """The card of the model that made a result; None where the result names none.

    Only JSON and text are read, never code; what is gone since is left out.
    """
    model = provenance.get("model")
    if not isinstance(model, dict) or not model.get("name"):
        return None
    source = Path(str(model.get("source") or ""))
    folder = source if source.is_dir() else source.parent if source.is_file() else None
    if folder is None or not str(model.get("source") or ""):
        return ModelCard(str(model["name"]))
    metadata = _json(folder / "configs" / "metadata.json") or _json(folder / "metadata.json")
    explanation = _json(folder / "configs" / "explanation.json")
    rows = [(title, _words(metadata[key])) for key, title in _METADATA if metadata.get(key)]
    notes = [str(note) for note in explanation.get("notes", ()) if isinstance(note, str)]
    card = ""
    for name in ("docs/README.md", "README.md"):
        if (folder / name).is_file() and not card:
            card = markdown_html((folder / name).read_text(encoding="utf-8", errors="replace")[:MOST_CHARACTERS])
    return ModelCard(str(model["name"]), tuple(rows), tuple(notes), card)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_words(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_words(item) for item in value)
    return str(value)


def markdown_html(text: str) -> str:
    """Headings, lists, tables and paragraphs of a Markdown text as HTML; everything else is shown as it is written."""
    blocks: list[str] = []
    lines = text.replace("\r\n", "\n").split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        if not line.strip():
            at += 1
        elif line.startswith("#"):
            blocks.append(f"<h3>{_inline(line.lstrip('#').strip())}</h3>")
            at += 1
        elif line.lstrip().startswith("|"):
            at, block = _table(lines, at)
            blocks.append(block)
        elif line.lstrip()[:2] in ("- ", "* "):
            at, block = _list(lines, at)
            blocks.append(block)
        else:
            start = at
            while at < len(lines) and lines[at].strip() and lines[at].lstrip()[:1] not in "#|":
                at += 1
            blocks.append(f"<p>{_inline(' '.join(part.strip() for part in lines[start : max(at, start + 1)]))}</p>")
            at = max(at, start + 1)
    return "\n".join(blocks)


def _inline(text: str) -> str:
    """Escaped, with **bold** and `code`."""
    parts = escape(text).split("**")
    if len(parts) % 2:
        text = "".join(f"<strong>{part}</strong>" if number % 2 else part for number, part in enumerate(parts))
    else:
        text = escape(text)
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return text
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _list(lines: list[str], at: int) -> tuple[int, str]:
    items: list[str] = []
    while at < len(lines) and lines[at].strip():
        line = lines[at].strip()
        if line[:2] in ("- ", "* "):
            items.append(line[2:])
        elif items:
            items[-1] += " " + line
        at += 1
    return at, "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"


def _table(lines: list[str], at: int) -> tuple[int, str]:
    rows = []
    while at < len(lines) and lines[at].lstrip().startswith("|"):
        cells = [cell.strip() for cell in lines[at].strip().strip("|").split("|")]
        if not all(set(cell) <= set("-: ") for cell in cells):
            rows.append(cells)
        at += 1
    html = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return at, f'<div class="wide"><table>{html}</table></div>'
