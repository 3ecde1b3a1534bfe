"""The .ui file and the code that uses it agree, and both are fit for Slicer."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

MODULE = Path(__file__).resolve().parents[2] / "SlicerXAI"
UI = ElementTree.parse(MODULE / "Resources" / "UI" / "SlicerXAI.ui").getroot()
SCRIPTS = [MODULE / "SlicerXAI.py", *sorted((MODULE / "SlicerXAILib").rglob("*.py"))]
WIDGETS = sorted((MODULE / "SlicerXAILib" / "Widgets").glob("*.py"))
# Properties with texts that a user reads.
READ = {"text", "toolTip", "placeholderText", "suffix", "specialValueText"}


def test_every_object_that_the_code_uses_is_in_the_file():
    names = {widget.get("name") for widget in UI.iter("widget")}
    used = {name for path in WIDGETS for name in re.findall(r"\b_?ui\.([A-Za-z0-9]+)", path.read_text("utf-8"))}
    assert len(used) > 30
    assert used <= names


def test_every_node_selector_follows_the_scene():
    selectors = {widget.get("name") for widget in UI.iter("widget") if widget.get("class", "").startswith("qMRML")}
    root = UI.find("widget").get("name")
    connected = {
        item.findtext("receiver")
        for item in UI.iter("connection")
        if item.findtext("sender") == root
        and item.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)"
        and item.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"
    }
    assert connected == selectors - {root} and connected


def test_names_in_the_file_are_used_once():
    names = [item.get("name") for item in UI.iter() if item.tag in ("widget", "layout")]
    assert len(names) == len(set(names))


def test_texts_of_the_panel_can_be_translated():
    """What is assigned to a property that a user reads comes from ``_()``, or holds no words of the code."""
    for path in WIDGETS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Attribute):
                continue
            if node.targets[0].attr in READ:
                untranslated = [text for text in words(node.value) if re.search(r"[A-Za-z]{2}", text)]
                assert not untranslated, f"{path.name}:{node.lineno}: {untranslated}"


def words(node: ast.AST) -> list[str]:
    """The texts in an expression that do not go through ``_()`` and are no keys."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
        return []
    if isinstance(node, (ast.Subscript, ast.Compare)):
        return []
    if isinstance(node, ast.Call):
        return [text for item in (node.func, *node.args[1:]) for text in words(item)]
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    return [text for child in ast.iter_child_nodes(node) for text in words(child)]
