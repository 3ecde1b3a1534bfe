"""Options that come from the registry of methods: their names, and the settings of all of them, each once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import create_model, model_validator

from ..attribution.registry import METHODS, Kind, recommended, unreliable
from ..core.options import TaskOptions, option

AnyOptions = TypeVar("AnyOptions", bound=TaskOptions)
ONCE_OPEN = ("steps", "occlusion_stride_mm", "stride", "batch_size", "batch")
"""Options that an earlier version left empty where they are 0 now."""


def methods_option(default: Sequence[str], kind: Kind) -> Any:
    """The option ``methods`` of a task that explains models of a kind."""
    return option(
        list(default),
        "Methods",
        f"One or more of: {', '.join(METHODS)}. {_recommendation(kind)}Not to be relied on alone, because their maps "
        f"barely depend on what the model has learned: {', '.join(unreliable(kind))}.",
        choices=tuple(METHODS),
    )


def _recommendation(kind: Kind) -> str:
    if kind == "segmentation":
        return ""
    names = ", ".join(recommended("regression"))
    return f"Recommended for regression, once fit-reference has seen healthy scans: {names}. "


def settings_fields() -> dict[str, Any]:
    """The settings of all methods, as fields for a model of options."""
    found: dict[str, Any] = {}
    for method in METHODS.values():
        for name, field in method.Settings.model_fields.items():
            found.setdefault(name, (field.annotation, copy.copy(field)))
    return found


class _Settings(TaskOptions):
    @model_validator(mode="before")
    @classmethod
    def _open_is_automatic(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if value is not None or name not in ONCE_OPEN}

    def method_settings(self) -> dict[str, Any]:
        """The settings of the methods, by name."""
        return {name: getattr(self, name) for name in settings_fields() if hasattr(self, name)}


MethodOptions: type[_Settings] = create_model("MethodOptions", __base__=_Settings, **settings_fields())
"""The settings of the methods that were known when this module was first imported."""


def todays(options: type[AnyOptions]) -> type[AnyOptions]:
    """A task's options with those of methods that were registered since."""
    return _todays(options, METHODS.version)


@lru_cache(maxsize=64)
def _todays(options: type[AnyOptions], version: int) -> type[AnyOptions]:
    new = {name: field for name, field in settings_fields().items() if name not in options.model_fields}
    chosen = copy.copy(options.model_fields["methods"])
    extra = chosen.json_schema_extra
    if not isinstance(extra, dict) or (not new and extra["choices"] == list(METHODS)):
        return options
    before = ", ".join(extra["choices"])  # type: ignore[arg-type]
    chosen.json_schema_extra = {**extra, "choices": list(METHODS)}
    chosen.description = (chosen.description or "").replace(before, ", ".join(METHODS))
    str_list = list[str]
    made = create_model(options.__name__, __base__=options, methods=(str_list, chosen), **new)
    made.__doc__ = options.__doc__
    return made
