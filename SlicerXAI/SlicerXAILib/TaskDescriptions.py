"""The engine's tasks with their options, as the engine described them when the extension was made."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .EngineErrors import EngineError

TASKS_FILE = Path(__file__).resolve().parent.parent / "Resources" / "tasks.json"


@cache
def readTasks() -> Mapping[str, Mapping[str, Any]]:
    """Return the description of every task by its name; the engine need not run for that."""
    content = json.loads(TASKS_FILE.read_text(encoding="utf-8"))
    return {task["name"]: task for task in content["tasks"]}


def findTask(name: str) -> Mapping[str, Any]:
    """Return the description of a task.

    :param name: its name (``explain-prediction``) or that of its function (``explainPrediction``).
    :raises EngineError: there is no such task; the nearest names are offered.
    """
    tasks = readTasks()
    wanted = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name.strip())
    if wanted not in tasks:
        near = difflib.get_close_matches(wanted, tasks, n=3, cutoff=0.3) or sorted(tasks)
        raise EngineError(f"There is no task called {name}.", f"Did you mean {' or '.join(near)}?")
    return tasks[wanted]


def describeOptions(task: Mapping[str, Any]) -> str:
    """Return a task's inputs and options for a reader: meaning, unit, range, choices and default of each."""
    lines = [f"{task['title']}: {task['description']}"]
    for field in task["options"]:
        needed = " (required)" if field["required"] else ""
        unit = f", in {field['unit']}" if field["unit"] else ""
        lines.append(f"  {field['name']}{needed}: {field['description']}{unit}{_limits(field)}")
    return "\n".join(lines)


def _limits(field: Mapping[str, Any]) -> str:
    low, high = field["minimum"], field["maximum"]
    parts = []
    if field["type"] == "choice":
        parts.append("one of " + ", ".join(field["choices"]))
    if low is not None:
        parts.append(f"{'above' if field['exclusive_minimum'] else 'at least'} {low:g}")
    if high is not None:
        parts.append(f"{'below' if field['exclusive_maximum'] else 'at most'} {high:g}")
    if field["default"] not in (None, "", []):
        parts.append(f"default {field['default']}")
    return f" [{'; '.join(parts)}]" if parts else ""
