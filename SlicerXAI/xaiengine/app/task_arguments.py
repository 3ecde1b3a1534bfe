"""Flags of the command line from a task's options."""

from __future__ import annotations

import argparse
from typing import Any

from .describe import OptionField


def task_argument(field: OptionField, positional: bool) -> dict[str, Any]:
    """What ``add_argument`` takes for a field, beside its name."""
    unit = f" [{field.unit}]" if field.unit else ""
    # SUPPRESS keeps what was not given out of the job, so that a model's own defaults can fill it
    settings: dict[str, Any] = {"help": f"{field.description}{unit}".replace("%", "%%")}
    if positional:
        return settings
    settings["default"] = argparse.SUPPRESS
    settings["help"] += f" (default: {field.default})" if field.default not in (None, "", []) else ""
    if field.required:
        settings["required"] = True
    if field.type == "boolean":
        return {**settings, "action": argparse.BooleanOptionalAction}
    if field.type == "choice":
        return {**settings, "choices": field.choices}
    if field.type == "list":
        return {**settings, "nargs": "+", "metavar": "VALUE"}
    if field.type in ("integer", "float"):
        return {**settings, "type": int if field.type == "integer" else float, "metavar": "NUMBER"}
    return {**settings, "metavar": {"value": "TEXT"}.get(field.kind, field.kind.upper())}
