"""Options declared once: a pydantic model per task feeds the shell, the CLI module's XML and the panel.

Nothing here imports torch, so that ``--help``, ``--xml`` and ``describe`` answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args, get_origin

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
        content = {cls.former_names.get(name, name): value for name, value in content.items()}
        return {name: cls._as_choice(name, value) for name, value in content.items()}

    @classmethod
    def _as_choice(cls, name: str, value: Any) -> Any:
        """A number given for a choice that is spelled as one: 64 or 64.0 for "64"."""
        if isinstance(value, list):
            return [cls._as_choice(name, item) for item in value]
        if name not in cls.model_fields or isinstance(value, bool) or not isinstance(value, (int, float)):
            return value
        whole = isinstance(value, float) and value.is_integer()
        spellings = [str(value), *([str(int(value))] if whole else [])]
        choices = _choices(cls.model_fields[name].annotation)
        return next((spelling for spelling in spellings if spelling in choices), value)


def _choices(annotation: Any) -> set[str]:
    """The words that an option may be, wherever in its type (``Literal``, a list of one, optional) they stand."""
    if get_origin(annotation) is Literal:
        return {item for item in get_args(annotation) if isinstance(item, str)}
    return {word for part in get_args(annotation) for word in _choices(part)}


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
