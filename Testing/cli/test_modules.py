"""Every CLI module that ships keeps Slicer's rules."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import ctk_cli
import pytest
from host.native_calls import SUPPORTED, ModuleDescription
from xaiengine.app.describe import option_fields
from xaiengine.tasks import TASKS, find_task

PACKAGE = Path(__file__).resolve().parents[2] / "SlicerXAI"
SCRIPTS = sorted(PACKAGE.glob("XAI*/XAI*.py"))

CHECKED_KINDS = ("volume", "segmentation", "table")

every_module = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def task_of(script: Path):
    return find_task(next(name for name in TASKS if f'main("{name}"' in script.read_text(encoding="utf-8")))


def test_no_two_modules_do_the_same_task():
    tasks = [task_of(script).name for script in SCRIPTS]
    assert len(tasks) == len(set(tasks))


@every_module
def test_a_script_holds_nothing_but_its_task(script):
    """What the modules share is in the engine: their scripts differ in the first sentence and the task alone."""
    lines = script.read_text(encoding="utf-8").splitlines()
    others = [path.read_text(encoding="utf-8").splitlines() for path in SCRIPTS]
    for other in others:
        assert len(other) == len(lines)
        assert sum(one != two for one, two in zip(lines, other)) <= 2


def command_of(script: Path, folder: Path) -> list[str]:
    """A call of the module whose required inputs are files that do not exist."""
    required = [field.name for field in option_fields(task_of(script).Options) if field.required]
    flags = [part for name in required for part in (f"--{name}", str(folder / f"absent-{name}.nrrd"))]
    return [sys.executable, str(script), *flags]


def test_there_are_modules():
    assert "XAIQuantifyLesions" in [script.stem for script in SCRIPTS]


@every_module
def test_the_script_starts_with_slicers_interpreter_and_names_a_task(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env python-real\n")
    assert any(f'main("{task}"' in text for task in TASKS)


@every_module
def test_the_xml_is_given_without_any_package(script):
    """An isolated interpreter without site-packages: nothing slow can be imported before the answer."""
    answer = subprocess.run([sys.executable, "-I", "-S", str(script), "--xml"], capture_output=True, check=True)
    assert answer.stdout == script.with_suffix(".xml").read_bytes()
    assert answer.stdout.startswith(b'<?xml version="1.0" encoding="utf-8"?>\n')
    assert answer.stderr == b""


@every_module
@pytest.mark.skipif(not SUPPORTED, reason="Slicer's parser is reached on Linux only")
def test_slicers_parser_takes_the_xml(script):
    ModuleDescription(script.with_suffix(".xml").read_text(encoding="utf-8"))


@pytest.mark.skipif(not SUPPORTED, reason="Slicer's parser is reached on Linux only")
def test_slicers_parser_refuses_what_is_wrong():
    with pytest.raises(ValueError, match="refused"):
        ModuleDescription("<executable><parameters><integer><longflag>a-b</longflag></integer></executable>")


@every_module
def test_ctk_cli_finds_every_parameter_and_nothing_to_complain_of(script, caplog):
    with caplog.at_level(logging.WARNING):
        module = ctk_cli.CLIModule(str(script.with_suffix(".xml")))
    complaints = [record.getMessage() for record in caplog.records]
    # A returned value has neither flag nor index: it travels in the file of returned parameters.
    assert [text for text in complaints if "cannot be passed (missing one of flag" not in text] == []
    names = {parameter.name for group in module for parameter in group}
    task = task_of(script)
    assert set(task.Options.model_fields) <= names
    assert {f"output_{item.role}" for item in task.outputs} <= names
    returned = {p.name for group in module for p in group if p.channel == "output" and not p.isExternalType()}
    assert {value.name for value in task.values} <= returned


@every_module
def test_a_missing_file_ends_with_exit_code_and_reason(script, tmp_path):
    command = command_of(script, tmp_path) + ["--device", "nonsense"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode == 1
    assert "nonsense" in ended.stderr or "absent-" in ended.stderr
    assert "Traceback" not in ended.stderr


@every_module
def test_an_output_that_cannot_be_written_is_refused_before_the_work(script, tmp_path):
    task = task_of(script)
    role = next(item.role for item in task.outputs if item.kind in CHECKED_KINDS)
    command = command_of(script, tmp_path) + [f"--output_{role}", str(tmp_path / "map.jpg")]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode == 1
    assert "cannot be written as map.jpg" in ended.stderr
    assert "filter-start" not in ended.stdout
