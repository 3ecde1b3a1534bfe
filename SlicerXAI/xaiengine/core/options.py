"""Options declared once: a pydantic model per task feeds the shell, the CLI module's XML and the panel.

Nothing here imports torch, so that ``--help``, ``--xml`` and ``describe`` answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["volume", "segmentation", "model", "file", "folder", "table", "value"]


class TaskOptions(BaseModel):
    """Base of every task's inputs and options; an unknown name is an error, not a silent no-op."""

    model_config = ConfigDict(extra="forbid", validate_default=True, protected_namespaces=())

    former_names: ClassVar[Mapping[str, str]] = {}
    """Names that options had in earlier versions, with today's: jobs, scenes and results of then still run."""

    @model_validator(mode="before")
    @classmethod
    def _todays_names(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {cls.former_names.get(name, name): value for name, value in content.items()}


def given(kind: Kind, title: str, description: str, *, required: bool = True, default: Any = None) -> Any:
    """A file that the user gives: a volume, a segmentation, a model, a folder."""
    extra: dict[str, Any] = {"role": "input", "kind": kind}
    return Field(... if required else default, title=title, description=description, json_schema_extra=extra)


def option(
    default: Any,
    title: str,
    description: str,
    *,
    unit: str = "",
    advanced: bool = False,
    group: str = "Options",
    choices: Sequence[str] = (),
    **limits: Any,
) -> Any:
    """An option with its unit and range (``ge``, ``gt``, ``le``, ``lt``).

    ``choices`` are what a list may hold, where they are known without a model.
    """
    extra: dict[str, Any] = {
        "role": "option",
        "kind": "value",
        "unit": unit,
        "advanced": advanced,
        "group": "Advanced" if advanced else group,
        "choices": list(choices),
    }
    return Field(default, title=title, description=description, json_schema_extra=extra, **limits)
