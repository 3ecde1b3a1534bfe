"""Slicer's rules that can be read off the files: nothing runs on import, user interface and code fit each other."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "SlicerXAI"
LIBRARY = MODULE / "SlicerXAILib"
LOADED = [MODULE / "SlicerXAI.py", *sorted(LIBRARY.rglob("*.py"))]
INTERFACES = sorted(MODULE.rglob("*.ui"))

# Calls that may stand beside a name at file scope: they make a value and touch nothing.
PURE_CALLS = {"Path", "resolve", "frozenset", "set", "dict", "tuple", "compile", "zip", "join", "format"}
OWN_RECORD = re.compile(r"_?[A-PR-Z][a-z]\w*")
SHOWN_ATTRIBUTES = {"text", "toolTip", "title", "placeholderText", "windowTitle", "statusTip", "whatsThis", "format"}
SHOWING_CALLS = {
    "setText",
    "setToolTip",
    "setTitle",
    "setPlaceholderText",
    "setWindowTitle",
    "setFormat",
    "addRow",
    "addItem",
    "addAction",
    "addButton",
    "setHorizontalHeaderLabels",
    "QLabel",
    "QPushButton",
    "QCheckBox",
    "QRadioButton",
    "QGroupBox",
    "QToolButton",
    "QAction",
    "insertItem",
    "errorDisplay",
    "warningDisplay",
    "infoDisplay",
    "confirmOkCancelDisplay",
    "confirmYesNoDisplay",
    "messageBox",
    "delayDisplay",
    "getExistingDirectory",
    "getOpenFileName",
    "getSaveFileName",
}

each_file = pytest.mark.parametrize("path", LOADED, ids=lambda path: path.relative_to(MODULE).as_posix())
each_interface = pytest.mark.parametrize("path", INTERFACES, ids=lambda path: path.name)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_import_with_fallback(statement: ast.stmt) -> bool:
    """An import of what only the application has, with functions in its place."""
    if not isinstance(statement, ast.Try) or statement.orelse or statement.finalbody:
        return False
    imports = all(isinstance(part, ast.ImportFrom) for part in statement.body)
    handlers = [ast.unparse(handler.type) for handler in statement.handlers if handler.type is not None]
    parts = [part for handler in statement.handlers for part in handler.body]
    return imports and handlers == ["ImportError"] and all(isinstance(part, ast.FunctionDef) for part in parts)


@each_file
def test_nothing_is_done_when_a_file_is_imported(path):
    for statement in tree_of(path).body:
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        typing_only = isinstance(statement, ast.If) and getattr(statement.test, "id", "") == "TYPE_CHECKING"
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)) or docstring:
            continue
        if is_import_with_fallback(statement):
            continue
        assert typing_only or isinstance(statement, (ast.Assign, ast.AnnAssign)), f"line {statement.lineno}"
        calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)] if not typing_only else []
        names = {called_name(call) for call in calls if not OWN_RECORD.fullmatch(called_name(call))}
        assert names <= PURE_CALLS, f"line {statement.lineno}"


def shown_strings(tree: ast.Module):
    """Every expression that a widget shows as it is."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called_name(node) in SHOWING_CALLS:
            yield from node.args
        if isinstance(node, ast.Assign):
            targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
            if any(target.attr in SHOWN_ATTRIBUTES for target in targets):
                yield node.value


def untranslated(expression: ast.expr) -> list[str]:
    """Words in an expression that do not go through ``_()``; markup and file names are no words."""
    if isinstance(expression, ast.Call):
        inner = expression.func.value if isinstance(expression.func, ast.Attribute) else None
        if called_name(expression) in ("_", "translate"):
            return []
        parts = [*expression.args, *([inner] if inner is not None else [])]
        return [word for part in parts for word in untranslated(part)] if called_name(expression) == "format" else []
    if isinstance(expression, ast.IfExp):
        return untranslated(expression.body) + untranslated(expression.orelse)
    if isinstance(expression, ast.BinOp):
        return untranslated(expression.left) + untranslated(expression.right)
    if isinstance(expression, ast.JoinedStr):
        return [word for part in expression.values for word in untranslated(part)]
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        plain = re.sub(r"<[^>]*>|\{[^}]*\}|&\w+;", " ", expression.value)
        return [expression.value] if re.search(r"[A-Za-z]{3,}", plain) and not plain.startswith("*.") else []
    return []


@each_file
def test_what_a_widget_shows_can_be_translated(path):
    found = [text for shown in shown_strings(tree_of(path)) for text in untranslated(shown)]
    assert found == []


def test_the_check_for_translation_sees_what_is_wrong():
    code = 'a.text = "Apply"\nb.setToolTip(f"{n} slices left")\nc.addRow("Scan:" if x else "Lungs:", w)\n'
    code += 'd.text = _("Apply")\ne.setText(_("{n} left").format(n=n))\nf.text = "<b></b>"\n'
    found = [text for shown in shown_strings(ast.parse(code)) for text in untranslated(shown)]
    assert found == ["Apply", " slices left", "Scan:", "Lungs:"]


# Errors that no user reads: what is caught within a file, and mistakes of callers in code.
INTERNAL_ERRORS = {"ValueError", "TypeError", "KeyError", "NotImplementedError"}
SAID_BY = re.compile(r"[A-Z]\w*(Error|Crashed|Report)|append")
# Words that are no text: other programs, styles, names in files and nodes.
NOT_TEXT = {"_STYLE", "_HEADER", "_PROGRAM", "_TYPES", "_RAMPS", "_HEAT", "_DIVERGING"}
NAMES = {
    "space directions",
    "space origin",
    "data file",
    "Binary labelmap",
    "Closed surface",
    "CT attribution",
    "SlicerXAI contributors",
    "no module named 'torch'",
    "dll load failed",
    "paging file",
    "cannot allocate memory",
}


def texts_outside_translation(tree: ast.Module):
    """Every literal with its line and the call that it is given to, if any; docstrings and types are left out."""

    def parts(node: ast.AST, said_by: str):
        if isinstance(node, ast.Call):
            name = called_name(node)
            if name in ("_", "translate", "Thread"):  # a thread's name is for programmers
                return
            given = node.args[1:] if name == "get" else node.args  # the first is a key
            for child in [*given, *[keyword.value for keyword in node.keywords], node.func]:
                yield from parts(child, name if SAID_BY.fullmatch(name) else said_by)
        elif isinstance(node, ast.JoinedStr):
            words = [item.value if isinstance(item, ast.Constant) else "{}" for item in node.values]
            yield node.lineno, "".join(words), said_by
            for item in node.values:
                if isinstance(item, ast.FormattedValue):
                    yield from parts(item.value, said_by)
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                yield node.lineno, node.value, said_by
        elif isinstance(node, (ast.Subscript, ast.Compare, ast.Dict)):  # without keys
            children = node.values if isinstance(node, ast.Dict) else ast.iter_child_nodes(node)
            for child in children:
                if isinstance(node, ast.Dict) or not isinstance(child, ast.Constant):
                    yield from parts(child, said_by)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            named = {target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)}
            for field, value in ast.iter_fields(node) if not named & NOT_TEXT else ():
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST) and field not in ("annotation", "returns"):
                        yield from parts(child, said_by)

    yield from parts(tree, "")


def is_text(text: str, said_by: str) -> bool:
    """Whether a user reads this: two words of a sentence, or one in what an error says."""
    plain = re.sub(r"<[^>]*>?|\{\}", " ", text).strip()
    if text in NAMES or said_by in INTERNAL_ERRORS:
        return False
    if said_by and said_by != "append":
        return bool(re.search(r"[A-Za-z]{2,}", plain))
    return bool(re.search(r"[A-Za-z]{2,}[,;:]? +[a-z]{2,}", plain))


@each_file
def test_what_code_tells_a_user_can_be_translated(path):
    """Errors, remedies, notes, headings, labels: everything that reads like a text, wherever it goes."""
    texts = texts_outside_translation(tree_of(path))
    assert [(line, text) for line, text, said_by in texts if is_text(text, said_by)] == []


def test_the_check_of_texts_sees_what_is_wrong():
    code = 'raise EngineError(f"No {x}.", remedy=f"Load {y} again.")\nnotes.append("was moved there")\n'
    code += 'rows = [("How it was made", 1)]\nTorchReport(problem="torch is broken")\nreturn f"<h3>In numbers</h3>"\n'
    code += 'raise EngineError(_("No {x}.").format(x=x), more["the key of it"])\nraise ValueError("no such file")\n'
    tree = ast.parse(code.replace("return ", "z = "))
    found = [text for _line, text, said_by in texts_outside_translation(tree) if is_text(text, said_by)]
    assert found == [
        "No {}.",
        "Load {} again.",
        "was moved there",
        "How it was made",
        "torch is broken",
        "<h3>In numbers</h3>",
    ]


@each_file
def test_slicers_script_finds_every_text(path):
    """It looks for calls with one literal by a pattern; formatting comes after, and nothing else is called ``_``."""
    source = path.read_text(encoding="utf-8")
    matches = re.findall(r'[^_]_\((\s*?".+?"\s*?)\)', source, re.DOTALL)
    extracted = {ast.literal_eval(f"({match})") for match in matches}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and called_name(node) == "_":
            (argument,) = node.args
            assert isinstance(argument, ast.Constant) and isinstance(argument.value, str), f"line {node.lineno}"
            assert argument.value in extracted, f"line {node.lineno}"
        assert not (isinstance(node, ast.Name) and node.id == "_" and isinstance(node.ctx, ast.Store)), node.lineno
        assert not (isinstance(node, ast.arg) and node.arg == "_"), f"line {node.lineno}"


def widget_names(path: Path) -> dict[str, str]:
    """The class of every widget and action of a .ui file by its name."""
    root = ElementTree.parse(path).getroot()
    named = [item for tag in ("widget", "action", "layout") for item in root.iter(tag)]
    return {item.get("name"): item.get("class", "") for item in named if item.get("name")}


def used_names() -> dict[str, set[str]]:
    """What the code takes from ``ui`` (or ``self.ui``, ``self._ui``), by file."""
    used: dict[str, set[str]] = {}
    for path in LOADED:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Attribute):
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                if owner in ("ui", "_ui"):
                    used.setdefault(path.name, set()).add(node.attr)
    return used


def test_every_object_of_the_interface_that_the_code_uses_exists():
    existing = set().union(*(widget_names(path) for path in INTERFACES))
    assert used_names(), "the check finds no use of the interface"
    for file, names in used_names().items():
        assert names - existing == set(), file


@each_interface
def test_names_of_widgets_are_unique(path):
    root = ElementTree.parse(path).getroot()
    names = [item.get("name") for item in root.iter("widget")]
    assert len(names) == len(set(names))


@each_interface
def test_every_node_selector_follows_the_scene(path):
    root = ElementTree.parse(path).getroot()
    top = root.find("widget")
    assert top.get("class") == "qMRMLWidget"
    selectors = {name for name, kind in widget_names(path).items() if kind.startswith("qMRML")} - {top.get("name")}
    connected = {
        connection.findtext("receiver")
        for connection in root.iter("connection")
        if connection.findtext("sender") == top.get("name")
        and connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and connection.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert selectors - connected == set()


@each_interface
def test_every_button_says_what_it_does(path):
    for widget in ElementTree.parse(path).getroot().iter("widget"):
        properties = {item.get("name"): "".join(item.itertext()).strip() for item in widget.findall("property")}
        if widget.get("class") in ("QPushButton", "QToolButton"):
            assert properties.get("text") or properties.get("icon"), widget.get("name")


def test_the_module_says_what_it_is_and_has_an_icon():
    text = (MODULE / "SlicerXAI.py").read_text(encoding="utf-8")
    for name in ("helpText", "acknowledgementText"):
        said = re.search(rf"parent\.{name} = _\(([^)]*)\)", text, re.DOTALL)
        assert said and "https://github.com/" in said.group(1)
    assert text.count("arXiv") >= 5, "who found the methods is named"
    icon = MODULE / "Resources" / "Icons" / "SlicerXAI.png"
    assert icon.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["EXTENSION_ICONURL", "EXTENSION_SCREENSHOTURLS"])
def test_pictures_that_the_extension_names_are_in_the_repository(name):
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    address = re.search(rf'set\({name} "([^"]+)"\)', text).group(1)
    for one in address.split():
        assert (ROOT / one.split("/main/", 1)[1]).is_file()


def test_the_engine_and_slicers_side_do_not_import_each_other():
    for folder, other in ((LIBRARY, "xaiengine"), (MODULE / "xaiengine", "SlicerXAILib")):
        for path in folder.rglob("*.py"):
            for node in ast.walk(tree_of(path)):
                names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert not any(name.split(".")[0] == other for name in names), path.name
