"""The examples of the documentation that are marked as runnable: a comment ``<!-- run -->`` above the code block."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(r"<!-- run -->\s*\n```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A code block: its language (python or sh), its text and the line of the page on which it begins."""

    language: str
    code: str
    line: int


def examples_of(page: Path) -> list[Example]:
    """The marked blocks of a page, in their order; those of one page share files and names."""
    text = page.read_text(encoding="utf-8")
    return [
        Example(match.group(1), match.group(2), text.count("\n", 0, match.start(2)) + 1)
        for match in _BLOCK.finditer(text)
    ]


def pages_with_examples() -> list[Path]:
    return [page for page in PAGES if examples_of(page)]
