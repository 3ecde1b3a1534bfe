"""The packages of the engine lie in layers: an import goes down or stays within, lazy and type-only ones too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[2] / "SlicerXAI" / "xaiengine"

# From the bottom up. Packages on one level do not import each other.
LEVELS = (
    ("core",),
    ("io",),
    ("network",),
    ("models",),
    ("targets",),
    ("inference",),
    ("attribution",),
    ("evaluation",),
    ("lesions",),
    ("counterfactual", "semantics"),
    ("figures",),
    ("report",),
    ("dicom_out",),
    ("api",),
    ("tasks",),
    ("cohorts",),
    ("app",),
)
RANK = {name: number for number, level in enumerate(LEVELS) for name in level}
AT_THE_TOP = {"__init__.py", "__main__.py", "api.py"}


def modules(root: Path) -> dict[str, Path]:
    """Every module below a package's folder by its dotted name."""
    found = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """Line and target of each import of a module of the engine, wherever in the file it stands."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    root = name.split(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, item.name) for item in node.names if item.name.split(".")[0] == root)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base.split(".")[0] == root:
                for item in node.names:
                    full = f"{base}.{item.name}"
                    yield node.lineno, full if full in known else base


def upward(root: Path) -> list[str]:
    """The imports that go to a higher level, or sideways to another package of the same level."""
    known = modules(root)
    found = []
    for name, path in known.items():
        source = (name.split(".") + [""])[1]
        for line, target in imports(name, path, known):
            wanted = (target.split(".") + [""])[1]
            if source in RANK and wanted in RANK and source != wanted and RANK[wanted] >= RANK[source]:
                found.append(f"{name}:{line} imports {target}")
    return sorted(found)


def circles(root: Path) -> list[set[str]]:
    """Groups of modules that import each other in a circle, by Tarjan's algorithm."""
    known = modules(root)
    graph = {name: {to for _, to in imports(name, path, known) if to in known} for name, path in known.items()}
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = set()
            while not group or name not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(group)

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_no_import_goes_upward():
    assert upward(ENGINE) == []


def test_every_package_has_a_level():
    packages = {path.name for path in ENGINE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert packages <= set(RANK)


def test_no_module_lies_loose_at_the_top():
    assert {path.name for path in ENGINE.glob("*.py")} <= AT_THE_TOP


def test_no_modules_import_each_other_in_a_circle():
    assert circles(ENGINE) == []


@pytest.fixture()
def a_small_package(tmp_path):
    root = tmp_path / "small"
    for name in ("core", "io", "tasks"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").write_text("", encoding="utf-8")
    (root / "__init__.py").write_text("", encoding="utf-8")
    return root


def test_the_check_sees_upward_imports_that_are_lazy_or_for_types(a_small_package):
    code = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..tasks import one\n"
    (a_small_package / "io" / "reader.py").write_text(code, encoding="utf-8")
    code = "def late():\n    from .. import io\n    import small.tasks\n"
    (a_small_package / "core" / "late.py").write_text(code, encoding="utf-8")
    assert upward(a_small_package) == [
        "small.core.late:2 imports small.io",
        "small.core.late:3 imports small.tasks",
        "small.io.reader:3 imports small.tasks",
    ]


def test_the_check_sees_circles(a_small_package):
    (a_small_package / "io" / "one.py").write_text("from . import two\n", encoding="utf-8")
    (a_small_package / "io" / "two.py").write_text("from .one import name\n", encoding="utf-8")
    assert circles(a_small_package) == [{"small.io.one", "small.io.two"}]
