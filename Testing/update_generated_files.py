"""Writes what follows from other files: CMake's file lists, the CLI modules' XML, the panel's tasks, requirements.

    python Testing/update_generated_files.py [--check]

Run it after adding, renaming or removing a file of the extension, or after changing a task's options.
With --check it writes nothing and ends with exit code 1 if something is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "SlicerXAI"
# Packages whose .py files ship as scripts; everything else in them ships as a resource.
PACKAGES = ("SlicerXAILib", "xaiengine")
LEFT_OUT = {"__pycache__", ".DS_Store"}


def generated_files() -> dict[Path, str]:
    """Every generated file with the content that it should have."""
    files = {
        MODULE / "CMakeLists.txt": module_lists((MODULE / "CMakeLists.txt").read_text(encoding="utf-8")),
        MODULE / "Resources" / "requirements.txt": requirements(),
        MODULE / "Resources" / "tasks.json": task_descriptions(),
        ROOT / "docs" / "reference" / "options.md": options_reference(),
        ROOT / "docs" / "reference" / "methods.md": methods_reference(),
        ROOT / "CMakeLists.txt": cli_directories((ROOT / "CMakeLists.txt").read_text(encoding="utf-8")),
    }
    for script in cli_scripts():
        files[script.with_suffix(".xml")] = xml_of(script)
        files[script.parent / "CMakeLists.txt"] = f"SlicerMacroBuildScriptedCLI(NAME {script.stem})\n"
    return files


def cli_scripts() -> list[Path]:
    """The scripts of the CLI modules, each in a folder of its name."""
    return [path for path in sorted(MODULE.glob("XAI*/XAI*.py")) if path.stem == path.parent.name]


def module_lists(text: str) -> str:
    """The module's CMakeLists.txt with its two lists brought up to date."""
    scripts = [MODULE / "SlicerXAI.py", *_files(PACKAGES, lambda path: path.suffix == ".py")]
    resources = _files((*PACKAGES, "Resources"), lambda path: path.suffix != ".py")
    text = _replace_list(text, "MODULE_PYTHON_SCRIPTS", [_relative(path) for path in scripts])
    return _replace_list(text, "MODULE_PYTHON_RESOURCES", [_relative(path) for path in resources])


def cli_directories(text: str) -> str:
    """The extension's CMakeLists.txt with the list of its CLI modules brought up to date."""
    return _replace_list(text, "CLI_MODULES", [script.stem for script in cli_scripts()])


def requirements() -> str:
    """The package's dependencies, one a line, for Slicer's package manager."""
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", declared, re.DOTALL | re.MULTILINE).group(1)
    return "".join(f"{name}\n" for name in re.findall(r'"([^"]+)"', block))


def task_descriptions() -> str:
    """The engine's description of its tasks, from which the panel is made before the engine can run."""
    sys.path.insert(0, str(MODULE))
    from xaiengine.app.describe import describe

    return json.dumps(describe(), indent=1, ensure_ascii=False) + "\n"


def options_reference() -> str:
    """The documentation's page with every option of every task."""
    sys.path.insert(0, str(MODULE))
    from xaiengine.app.describe import describe

    lines = [
        "# Options of every task",
        "",
        "Written by `Testing/update_generated_files.py` from the options themselves.",
        "",
    ]
    for task in describe()["tasks"]:
        lines += [f"## {task['title']}", "", f"`xaiengine {task['name']}`. {_cell(task['description'])}", ""]
        lines += ["| option | meaning | default |", "|---|---|---|"]
        lines += [_option_row(field) for field in task["options"]]
        lines += ["", "It writes:", "", *[_output_row(item) for item in task["outputs"]], ""]
    return "\n".join(lines).rstrip() + "\n"


FAMILY_TITLES = {
    "information": "Information bottlenecks",
    "gradient": "Gradients and relevance at the input",
    "cam": "Class activation maps",
    "layer": "Layers and attention",
    "perturbation": "Perturbation of the input",
}


def methods_reference() -> str:
    """The documentation's page with every attribution method, by family."""
    sys.path.insert(0, str(MODULE))
    from xaiengine.attribution.registry import BRIGHTNESS_EFFECT, FAMILIES, METHODS

    lines = [
        "# Attribution methods",
        "",
        "Made by `Testing/update_generated_files.py` from the methods themselves.",
        "",
        "Effect: on real chest X-rays, how a map's sums in six lung zones agree with what a regression model makes of "
        "each zone (see [Maps against a model's own effect](../severity.md)); brightness alone reaches "
        f"{BRIGHTNESS_EFFECT:.2f}.",
        "",
    ]
    for family in FAMILIES:
        lines += [f"## {FAMILY_TITLES[family]}", "", "| method | what it is | unit | needs | signed | effect | mind |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [_method_row(method) for method in METHODS.values() if method.family == family]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def _method_row(method: object) -> str:
    module = sys.modules[type(method).__module__]
    about = _cell((module.__doc__ or method.title).split("\n\n")[0])
    needs = ", ".join(name.replace("_", " ") for name in method.needs) or "the output alone"
    kinds = " and ".join(method.unreliable_on)
    mind = f"On {kinds}: {_cell(method.caution)}" if kinds else ""
    if method.recommended_on:
        mind = f"**Recommended on {' and '.join(method.recommended_on)}.** {mind}".strip()
    effect = f"{method.effect['regression']:.2f}" if "regression" in method.effect else ""
    signed = "yes" if method.signed else "no"
    return f"| `{method.name}` | {about} | {method.unit} | {needs} | {signed} | {effect} | {mind} |"


def _option_row(field: dict) -> str:
    unit = f" [{field['unit']}]" if field.get("unit") else ""
    choices = f" One of: {', '.join(map(str, field['choices']))}." if field["type"] == "choice" else ""
    default = "required" if field.get("required") else _default(field.get("default"))
    return f"| `--{field['name'].replace('_', '-')}` | {_cell(field['description'])}{unit}{choices} | {default} |"


def _default(value: object) -> str:
    if value in (None, "", []):
        return ""
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"`{shown}`"


def _output_row(item: dict) -> str:
    optional = " (where it applies)" if item.get("optional") else ""
    return f"- **{_cell(item['title'])}** ({item['kind']}){optional}: {_cell(item['description'])}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").replace("<", "&lt;").split())


def xml_of(script: Path) -> str:
    """The XML of the task that a CLI module names."""
    sys.path.insert(0, str(MODULE))
    from xaiengine import __version__
    from xaiengine.app.cli_xml import cli_xml
    from xaiengine.tasks import find_task

    task = re.search(r'main\("([^"]+)"', script.read_text(encoding="utf-8")).group(1)
    return cli_xml(find_task(task), __version__)


def _files(folders: tuple[str, ...], wanted: Callable[[Path], bool]) -> list[Path]:
    found = [path for folder in folders for path in sorted((MODULE / folder).rglob("*"))]
    return [path for path in found if path.is_file() and wanted(path) and not LEFT_OUT & set(path.parts)]


def _relative(path: Path) -> str:
    return path.relative_to(MODULE).as_posix()


def _replace_list(text: str, name: str, items: list[str]) -> str:
    body = "".join(f"  {item}\n" for item in items)
    replaced, count = re.subn(rf"^set\({name}\n.*?^  \)$", f"set({name}\n{body}  )", text, flags=re.DOTALL | re.M)
    if count != 1:
        raise SystemExit(f"CMakeLists.txt holds {count} lists set({name} ...); one was expected.")
    return replaced


def main() -> int:
    stale = [
        path
        for path, content in generated_files().items()
        if not path.exists() or path.read_bytes() != content.encode("utf-8")
    ]
    for path in stale:
        print(path.relative_to(ROOT).as_posix())
    if "--check" in sys.argv[1:]:
        return 1 if stale else 0
    # Twice, as a generated file that is new belongs into CMake's lists.
    for _ in range(2):
        for path, content in generated_files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
