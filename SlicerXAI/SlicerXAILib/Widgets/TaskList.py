"""The tasks as the panel offers them: their order, their names, what each of them makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer.i18n import tr as _

from ..TaskDescriptions import readTasks

# In the order in which they are offered; what the engine knows besides comes below a line.
_MAIN_TASKS = (
    "quantify-lesions",
    "explain-prediction",
    "explain-segmentation",
    "explain-counterfactual",
    "explain-semantics",
    "dissect",
    "evaluate-explanation",
)


def taskNames() -> list[str]:
    """Return the engine's names of the tasks."""
    known = readTasks()
    return [name for name in _MAIN_TASKS if name in known] + [name for name in known if name not in _MAIN_TASKS]


def taskTitle(task: Mapping[str, Any]) -> str:
    """Return how the panel calls a task."""
    titles = {
        "explain-counterfactual": _("Counterfactual: what would change the prediction"),
        "explain-semantics": _("Semantics: the concepts behind a prediction"),
        "dissect": _("Semantics: what the units of a layer respond to"),
        "evaluate-explanation": _("Check the explanation"),
    }
    return titles.get(task["name"]) or task["title"]


def outputsText(task: Mapping[str, Any]) -> str:
    """Return what a task makes, in rich text."""
    rows = [f"<li><b>{item['title']}</b>: {item['description']}</li>" for item in task["outputs"]]
    return (
        _("New nodes in a folder of their own beside the scan; nothing is overwritten:") + f"<ul>{''.join(rows)}</ul>"
    )
