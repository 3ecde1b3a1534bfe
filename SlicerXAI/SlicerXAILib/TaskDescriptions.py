"""The engine's tasks with their options, as the engine described them when the extension was made.

Their texts are those of the tasks' CLI modules: Slicer finds them in the modules' XML files, and translates them under
the names of these modules.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from .EngineErrors import EngineError
from .Translation import tr as _
from .Translation import translate

TASKS_FILE = Path(__file__).resolve().parent.parent / "Resources" / "tasks.json"
# CLI modules that are not called after their task.
_MODULES = {"explain-counterfactual": "XAICounterfactual"}


@cache
def readTasks() -> Mapping[str, Mapping[str, Any]]:
    """Return the description of every task by its name, in the language of the application; no engine is needed.

    Beside the ``group`` of an option, by which code knows it, stands its ``group_title``; beside its ``choices`` stand
    their ``choice_titles``.
    """
    content = json.loads(TASKS_FILE.read_text(encoding="utf-8"))
    return {task["name"]: _translated(task) for task in content["tasks"]}


def cliModule(task: str) -> str:
    """Return the name of a task's CLI module."""
    return _MODULES.get(task) or "XAI" + "".join(word.capitalize() for word in task.split("-"))


def taskName(task: str) -> str:
    """Return how a reader calls a task, also one that this version does not know."""
    known = readTasks().get(task)
    return known["title"] if known else task.replace("-", " ").capitalize()


def findTask(name: str) -> Mapping[str, Any]:
    """Return the description of a task.

    :param name: its name (``explain-prediction``) or that of its function (``explainPrediction``).
    :raises EngineError: there is no such task; the nearest names are offered.
    """
    tasks = readTasks()
    wanted = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name.strip())
    if wanted not in tasks:
        near = difflib.get_close_matches(wanted, tasks, n=3, cutoff=0.3) or sorted(tasks)
        raise EngineError(_("There is no task called {name}.").format(name=name), didYouMean(near))
    return tasks[wanted]


def didYouMean(names: Sequence[str]) -> str:
    return _("Did you mean {names}?").format(names=_(" or ").join(names))


def describeOptions(task: Mapping[str, Any]) -> str:
    """Return a task's inputs and options for a reader: meaning, unit, range, choices and default of each."""
    lines = [f"{task['title']}: {task['description']}"]
    for field in task["options"]:
        limits = limitsText(field)
        needed = " (" + _("required") + ")" if field["required"] else ""
        unit = _(", in {unit}").format(unit=field["unit"]) if field["unit"] else ""
        lines.append(f"  {field['name']}{needed}: {field['description']}{unit}{f' [{limits}]' if limits else ''}")
    return "\n".join(lines)


def limitsText(field: Mapping[str, Any]) -> str:
    """Return the choices, range and default of a field: ``at least 0; default 1``."""
    low, high = field["minimum"], field["maximum"]
    parts = []
    if field["type"] == "choice":
        parts.append(_("one of {names}").format(names=", ".join(field["choices"])))
    if low is not None:
        least = _("above {low:g}") if field["exclusive_minimum"] else _("at least {low:g}")
        parts.append(least.format(low=low))
    if high is not None:
        most = _("below {high:g}") if field["exclusive_maximum"] else _("at most {high:g}")
        parts.append(most.format(high=high))
    if field["default"] not in (None, "", []):
        parts.append(_("default {value}").format(value=field["default"]))
    return "; ".join(parts)


def _translated(task: Mapping[str, Any]) -> Mapping[str, Any]:
    context = f"CLI_{cliModule(task['name'])}"

    def text(source: str, unit: str = "") -> str:
        """Return a text's translation; in the XML file the unit stands behind it."""
        found = translate(context, source)
        if found != source or not unit:
            return found
        return translate(context, f"{source} ({unit})").removesuffix(f" ({unit})")

    def shown(item: Mapping[str, Any]) -> dict[str, Any]:
        unit = item.get("unit") or ""
        return {**item, "title": text(item["title"], unit), "description": text(item["description"], unit)}

    options = [
        {
            **shown(field),
            "group_title": text(field["group"]),
            "choice_titles": [text(choice) for choice in field["choices"]],
        }
        for field in task["options"]
    ]
    parts = {name: [shown(item) for item in task[name]] for name in ("outputs", "values")}
    return {**shown(task), **parts, "options": options}
