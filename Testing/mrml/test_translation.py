"""Every text reaches the user by Slicer's translation, under the context in which Slicer finds it."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import slicer
from host.translation import language
from SlicerXAILib.EngineErrors import EngineError
from SlicerXAILib.EngineJob import progressText
from SlicerXAILib.ResultLoader import loadResult
from SlicerXAILib.StageTexts import stageText
from SlicerXAILib.TaskDescriptions import TASKS_FILE, cliModule, describeOptions, findTask, readTasks

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "SlicerXAI" / "xaiengine"


@pytest.fixture
def marked():
    """A language in which every text says its context before it."""
    readTasks.cache_clear()
    with language(lambda context, text: f"{context}| {text}"):
        yield
    readTasks.cache_clear()


def textsInXml(task: str) -> set[str]:
    """What Slicer takes from the XML file of a task's CLI module."""
    module = cliModule(task)
    root = ElementTree.parse(ROOT / "SlicerXAI" / module / f"{module}.xml").getroot()
    places = (
        "title",
        "description",
        "parameters/label",
        "parameters/description",
        "parameters/*/label",
        "parameters/*/description",
        "parameters/string-enumeration/element",
    )
    return {item.text for place in places for item in root.findall(place)}


@pytest.mark.parametrize("task", sorted(readTasks()))
def test_slicer_finds_the_texts_of_a_task_in_its_cli_module(task):
    described, found = readTasks()[task], textsInXml(task)

    def isFound(item, name):
        return bool({item[name], f"{item[name]} ({item.get('unit')})"} & found)

    for item in (described, *described["options"], *described["outputs"], *described["values"]):
        assert isFound(item, "title") and isFound(item, "description"), item["name" if "name" in item else "role"]
    for field in described["options"]:
        assert field["type"] != "choice" or set(field["choices"]) <= found


def test_a_task_is_described_in_the_language_of_the_application(marked):
    field = next(item for item in findTask("explain-counterfactual")["options"] if item["name"] == "volume")
    assert field["title"].startswith("CLI_XAICounterfactual| ")
    assert field["group"] == "Inputs" and field["group_title"] == "CLI_XAICounterfactual| Inputs"
    task = findTask("quantify-lesions")
    methods = next(item for item in task["options"] if item["name"] == "threshold_method")
    assert "otsu" in methods["choices"] and "CLI_XAIQuantifyLesions| otsu" in methods["choice_titles"]
    for item in (task, *task["outputs"], *task["values"]):
        assert item["title"].startswith("CLI_XAIQuantifyLesions| ")
    assert describeOptions(task).startswith("CLI_XAIQuantifyLesions| ")


def test_a_unit_stands_behind_a_text_where_slicer_finds_it_and_not_where_it_is_shown():
    field = {item["name"]: item for item in readTasks()["quantify-lesions"]["options"]}["minimum_volume"]
    assert field["unit"]
    words = {f"{field['title']} ({field['unit']})": f"Mindestvolumen ({field['unit']})"}
    readTasks.cache_clear()
    with language(lambda context, text: words.get(text, text)):
        shown = {item["name"]: item for item in readTasks()["quantify-lesions"]["options"]}["minimum_volume"]
    readTasks.cache_clear()
    assert shown["title"] == "Mindestvolumen"
    assert shown["description"] == field["description"]


def test_the_description_is_read_only_once_in_a_language():
    assert readTasks() is readTasks()
    assert TASKS_FILE.is_file()


def test_errors_are_told_in_the_language_of_the_application(marked, logic, a_scan, result_folder):
    with pytest.raises(EngineError) as caught:
        logic.quantifyLesions(None)
    assert caught.value.message.startswith("SlicerXAILib.TaskArguments| ")
    (result_folder / "table.csv").unlink()
    with pytest.raises(EngineError) as caught:
        loadResult(result_folder, a_scan)
    assert caught.value.message == "SlicerXAILib.ResultLoader| The result lacks its file table.csv."
    assert caught.value.remedy == "SlicerXAILib.ResultLoader| Run the job again."


def test_nodes_and_folders_are_named_in_the_language_of_the_application(marked, a_scan, result_folder):
    loaded = loadResult(result_folder, a_scan)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    assert hierarchy.GetItemName(loaded.folderItem) == "CT CLI_XAIQuantifyLesions| Quantify lesions"
    assert slicer.util.getNode("*ArtifactNodes| CT series image") is not None


def test_progress_is_told_in_the_language_of_the_application(marked):
    text = progressText({"stage": "Explaining", "seconds_left": 40.0})
    assert text == "SlicerXAILib.EngineJob| SlicerXAILib.StageTexts| Explaining, about 40 s left"


def test_a_translation_that_lost_a_placeholder_does_no_harm():
    with language(lambda context, text: re.sub(r"\{.*?\}", "{x}", text)):
        assert progressText({"stage": "Explaining", "seconds_left": 40.0}) == "Explaining, about 40 s left"


def test_every_stage_of_the_engine_can_be_translated():
    """Stages are given by a literal or by a constant of the module; names of methods and checks are their own."""
    stages = set()
    for path in ENGINE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {}
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    constants.update(_named(target, statement.value))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "stage":
                first = node.args[0]
                key = ast.unparse(first)
                value = first.value if isinstance(first, ast.Constant) else constants.get(key)
                stages |= {value} if isinstance(value, str) else set()
    assert len(stages) > 12
    with language(lambda context, text: "translated"):
        assert {stage for stage in stages if stageText(stage) != "translated"} == set()


def _named(target: ast.AST, value: ast.AST) -> dict[str, str]:
    """What a module's constants are called: ``NAME``, ``NAME[0]``, or several at once."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(map(ast.unparse, target.elts), value.elts)
    elif isinstance(value, ast.Tuple):
        pairs = ((f"{ast.unparse(target)}[{index}]", item) for index, item in enumerate(value.elts))
    else:
        pairs = [(ast.unparse(target), value)]
    return {name: item.value for name, item in pairs if isinstance(item, ast.Constant) and isinstance(item.value, str)}
