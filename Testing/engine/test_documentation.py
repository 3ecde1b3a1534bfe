"""The documentation builds without a broken link, and its examples do what they say."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.documentation_examples import PAGES, ROOT, Example, examples_of, pages_with_examples

SAMPLES = ROOT / "SlicerXAI" / "Resources" / "SampleData"
SOURCES = [str(ROOT / "SlicerXAI"), str(ROOT / "Testing")]


@pytest.mark.slow
def test_the_pages_build_and_every_link_leads_somewhere(tmp_path):
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file() and (tmp_path / "site" / "images" / "lesions.png").is_file()


def test_links_of_the_front_page_lead_somewhere():
    import re

    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (ROOT / target).exists(), f"{page.name}: {target}"


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def folder_of_a_reader(folder: Path) -> Path:
    """Where the examples run: the sample scans lie there under the names that the pages use."""
    for sample in SAMPLES.iterdir():
        if sample.suffix in (".nrrd", ".png"):
            shutil.copy(sample, folder / sample.name)
    shutil.copytree(ROOT / "Testing" / "data", folder / "Testing" / "data")
    return folder


def run(example: Example, folder: Path, names: dict) -> None:
    if example.language == "python":
        exec(compile(example.code, f"line {example.line}", "exec"), names)
        return
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES), "PYTHONUTF8": "1"}
    for line in example.code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        assert words[0] == "xaiengine", line
        done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=settings, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with_examples(), ids=lambda page: page.name)
def test_the_marked_examples_of_a_page_run_from_its_top_to_its_end(page, tmp_path, monkeypatch):
    monkeypatch.chdir(folder_of_a_reader(tmp_path))
    names: dict = {"__name__": "example"}
    for example in examples_of(page):
        run(example, tmp_path, names)


def test_no_page_names_an_option_or_a_task_that_does_not_exist():
    """In shell examples, marked or not."""
    import re

    from xaiengine.app.shell import MODEL_COMMANDS, task_parser
    from xaiengine.tasks import TASKS, find_task

    others = {*MODEL_COMMANDS, "run", "serve", "describe", "xml", "TASK"}
    known = {name: task_parser(find_task(name)).format_help() for name in TASKS}
    for page in PAGES:
        if page.parent.name == "reference":
            continue
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(r"^ {0,8}xaiengine ([a-z-]+)(.*)$", text, re.MULTILINE):
            assert command in known or command in others, f"{page.name}: {command}"
            for flag in re.findall(r"(?<!\S)(--[a-z][a-z-]*)", rest) if command in known else []:
                assert flag in known[command], f"{page.name}: {command} {flag}"
