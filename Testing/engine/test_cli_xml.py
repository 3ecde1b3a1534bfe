"""The XML of the CLI modules follows the options and Slicer's rules."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from xaiengine import __version__
from xaiengine.app.cli_xml import cli_xml
from xaiengine.app.describe import option_fields
from xaiengine.tasks import TASKS, find_task

MODULES = Path(__file__).resolve().parents[2] / "SlicerXAI"


def task_of(script: Path) -> str:
    """The task that a CLI module's script names."""
    return next(name for name in TASKS if f'main("{name}"' in script.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_xml_holds_every_option_with_default_and_range(name):
    text = cli_xml(find_task(name), __version__)
    assert text.splitlines()[0] == '<?xml version="1.0" encoding="utf-8"?>' and "\r" not in text
    elements = {element.findtext("name"): element for element in ElementTree.fromstring(text.encode()).iter()}
    for field in option_fields(find_task(name).Options):
        element = elements[field.name]
        assert element.findtext("longflag") == "--" + field.name  # Slicer allows no hyphens
        assert field.description in element.findtext("description")
        if field.type in ("integer", "float") and field.default is not None:
            assert float(element.findtext("default")) == pytest.approx(field.default)
            minimum = element.findtext("constraints/minimum")
            assert (float(minimum) if minimum else None) == (None if field.minimum is None else float(field.minimum))
        if field.type == "choice":
            choices = [item.text for item in element.findall("element")]
            assert tuple(choices) == field.choices and element.findtext("default") in choices


@pytest.mark.parametrize("name", sorted(TASKS))
def test_no_two_parameters_share_a_name_or_a_flag(name):
    root = ElementTree.fromstring(cli_xml(find_task(name), __version__).encode())
    for tag in ("name", "longflag"):
        found = [element.text for element in root.iter(tag)]
        assert len(found) == len(set(found))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_returned_values_have_neither_flag_nor_index(name):
    text = cli_xml(find_task(name), __version__)
    elements = {element.findtext("name"): element for element in ElementTree.fromstring(text.encode()).iter()}
    for value in find_task(name).values:
        element = elements[value.name]
        assert element.findtext("channel") == "output"
        assert element.find("longflag") is None and element.find("index") is None


@pytest.mark.parametrize("path", sorted(MODULES.glob("XAI*/XAI*.xml")), ids=lambda path: path.stem)
def test_the_checked_in_xml_is_current(path):
    task = task_of(path.with_suffix(".py"))
    current = cli_xml(find_task(task), __version__)
    assert path.read_text(encoding="utf-8") == current, f"run: xaiengine xml {task} > {path.name}"
