"""The engine's description of its tasks: what the panel, the shell and the CLI modules are built from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.options import TaskOptions
from ..tasks import TASKS, Task, find_task

SOURCES = {
    "target": "labels",
    "against": "labels",
    "classes": "labels",
    "layer": "layers",
    "layers": "layers",
    "segment": "segmentation",
    "reference_segment": "reference",
    "point": "point",
}
"""What the values of a text option come from, by its name: the model's labels or layers, the segments of the input
of this name, or a point in the scan."""


@dataclass(frozen=True)
class OptionField:
    """One input or option. ``type`` is boolean, integer, float, string, choice or list.

    ``choices`` are what a choice or a list may hold; ``source`` says where else to look for the values of a text
    or a list, see :data:`SOURCES`.
    """

    name: str
    title: str
    description: str
    role: str
    kind: str
    type: str
    default: Any
    required: bool
    unit: str = ""
    group: str = "Options"
    advanced: bool = False
    choices: tuple[str, ...] = ()
    source: str = ""
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def option_fields(options: type[TaskOptions]) -> list[OptionField]:
    """The fields of a task's options, in the order of their declaration."""
    schema = options.model_json_schema()
    required = set(schema.get("required", ()))
    return [_field(name, spec, name in required) for name, spec in schema["properties"].items()]


def _field(name: str, spec: dict[str, Any], required: bool) -> OptionField:
    core = _without_null(spec)
    kind = _type(core)
    return OptionField(
        name=name,
        title=spec.get("title", name),
        description=spec.get("description", ""),
        role=spec.get("role", "option"),
        kind=spec.get("kind", "value"),
        type=kind,
        default=spec.get("default"),
        required=required,
        unit=spec.get("unit", ""),
        group=spec.get("group", "Inputs" if spec.get("role") == "input" else "Options"),
        advanced=spec.get("advanced", False),
        choices=tuple(str(choice) for choice in core.get("enum") or spec.get("choices") or ()),
        source=SOURCES.get(name, "") if kind in ("string", "list") else "",
        minimum=core.get("minimum", core.get("exclusiveMinimum")),
        maximum=core.get("maximum", core.get("exclusiveMaximum")),
        exclusive_minimum="exclusiveMinimum" in core,
        exclusive_maximum="exclusiveMaximum" in core,
    )


def _without_null(spec: dict[str, Any]) -> dict[str, Any]:
    """``X | None`` is described by X."""
    variants = [item for item in spec.get("anyOf", ()) if item.get("type") != "null"]
    return {**spec, **variants[0]} if variants else spec


def _type(core: dict[str, Any]) -> str:
    if "enum" in core:
        return "choice"
    if "const" in core:
        return "choice"
    return {"number": "float", "array": "list"}.get(core.get("type", "string"), core.get("type", "string"))


def describe_task(task: Task) -> dict[str, Any]:
    """A task as plain JSON values: options with title, unit, range and default; outputs; returned values."""
    return {
        "name": task.name,
        "title": task.title,
        "description": task.description,
        "needs_model": task.needs_model,
        "former_names": dict(task.Options.former_names),
        "options": [asdict(field) for field in option_fields(task.Options)],
        "outputs": [asdict(item) for item in task.outputs],
        "values": [asdict(item) for item in task.values],
    }


def describe() -> dict[str, Any]:
    """Every task, see :func:`describe_task`."""
    return {"tasks": [describe_task(find_task(name)) for name in TASKS]}
