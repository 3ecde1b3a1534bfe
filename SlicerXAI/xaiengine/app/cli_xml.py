"""The XML that Slicer builds a CLI module's panel from, generated from the task's options.

Flags come in the order of the XML, so that the order here is the order of the options. Files travel by flags,
never by position: an empty optional positional argument would fail.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from ..tasks import Task
from ..tasks.task import OutputSpec, ValueSpec
from .describe import OptionField, option_fields

HEAD = '<?xml version="1.0" encoding="utf-8"?>'


def cli_xml(task: Task, version: str, category: str = "Analysis") -> str:
    """The module description of a task, with LF line ends and the first line Slicer insists on."""
    fields = option_fields(task.Options)
    lines = [
        HEAD,
        "<executable>",
        f"  <category>{escape(category)}</category>",
        f"  <title>{escape(task.title)}</title>",
        f"  <description>{escape(task.description)}</description>",
        f"  <version>{escape(version)}</version>",
        "  <documentation-url>https://github.com/SlicerXAI/SlicerXAI</documentation-url>",
        "  <license>Apache-2.0</license>",
        "  <contributor>SlicerXAI contributors</contributor>",
    ]
    lines += _group("Inputs", "What the model is asked about.", [_input(f) for f in fields if f.role == "input"])
    lines += _group("Outputs", "What comes back.", [_output(item) for item in task.outputs])
    for group in dict.fromkeys(f.group for f in fields if f.role == "option" and not f.advanced):
        members = [_option(f) for f in fields if f.role == "option" and f.group == group and not f.advanced]
        lines += _group(group, "How the explanation is made.", members)
    advanced = [_option(f) for f in fields if f.role == "option" and f.advanced] + _machine()
    lines += _group("Advanced", "Rarely changed.", advanced, advanced=True)
    lines += _group("Results", "Numbers that the module returns.", [_value(item) for item in task.values])
    lines.append("</executable>")
    return "\n".join(lines) + "\n"


def _group(label: str, description: str, parameters: list[list[str]], advanced: bool = False) -> list[str]:
    if not parameters:
        return []
    attribute = ' advanced="true"' if advanced else ""
    inner = [f"    {line}" for parameter in parameters for line in parameter]
    head = [f"  <parameters{attribute}>", f"    <label>{escape(label)}</label>"]
    return [*head, f"    <description>{escape(description)}</description>", *inner, "  </parameters>"]


def _element(tag: str, attributes: str, parts: list[tuple[str, str]]) -> list[str]:
    opening = f"<{tag} {attributes}>" if attributes else f"<{tag}>"
    return [opening, *(f"  <{name}>{escape(text)}</{name}>" for name, text in parts), f"</{tag}>"]


def _parts(field: OptionField, channel: str = "") -> list[tuple[str, str]]:
    description = field.description + (f" ({field.unit})" if field.unit else "")
    title = field.title + (f" ({field.unit})" if field.unit else "")
    named = [("name", field.name), ("longflag", slicer_flag(field.name))]
    parts = [*named, ("label", title), ("description", description)]
    return parts + ([("channel", channel)] if channel else [])


def _input(field: OptionField) -> list[str]:
    if field.kind == "volume":
        return _element("image", 'type="scalar"', _parts(field, "input"))
    if field.kind == "segmentation":
        return _element("image", 'type="label"', _parts(field, "input"))
    if field.kind == "folder":
        return _element("directory", "", _parts(field, "input"))
    if field.kind == "model":
        # a model is a folder, a file or the name of a shipped one: only a string can be all three
        default = [("default", str(field.default))] if field.default else []
        return _element("string", "", _parts(field) + default)
    if field.kind == "table":
        return _element("table", "", _parts(field, "input"))
    return _element("file", "", _parts(field, "input"))


def _option(field: OptionField) -> list[str]:
    parts = _parts(field)
    if field.type == "boolean":
        return _element("boolean", "", [*parts, ("default", "true" if field.default else "false")])
    if field.type == "choice":
        body = _element("string-enumeration", "", [*parts, ("default", str(field.default))])
        return body[:-1] + [f"  <element>{escape(choice)}</element>" for choice in field.choices] + body[-1:]
    if field.type in ("integer", "float"):
        tag = "integer" if field.type == "integer" else "double"
        if field.default is None:  # a number that may be left open travels as text, empty for "not given"
            return _element("string", "", parts)
        body = _element(tag, "", [*parts, ("default", f"{field.default:g}")])
        return body[:-1] + _constraints(field) + body[-1:]
    if field.type == "list":
        default = ",".join(str(item) for item in field.default or ())
        return _element("string-vector", "", [*parts, ("default", default)])
    return _element("string", "", [*parts, ("default", str(field.default or ""))])


def _constraints(field: OptionField) -> list[str]:
    """The range and the step of the panel's spin box; only together are they valid."""
    bounds = [("minimum", field.minimum), ("maximum", field.maximum), ("step", _step(field))]
    inner = [f"    <{name}>{value:g}</{name}>" for name, value in bounds if value is not None]
    return ["  <constraints>", *inner, "  </constraints>"] if len(inner) > 1 else []


def _step(field: OptionField) -> float:
    if field.type == "integer":
        return 1
    if field.minimum is not None and field.maximum is not None:
        return (field.maximum - field.minimum) / 100
    return 0.1


def slicer_flag(name: str) -> str:
    """The flag of a parameter; Slicer's parser allows underscores in it, but no hyphens."""
    return f"--{name}"


def output_name(item: OutputSpec) -> str:
    """Its parameter's name; the prefix keeps an output apart from an input of the same name."""
    return f"output_{item.role}"


def _output(item: OutputSpec) -> list[str]:
    parts = [
        ("name", output_name(item)),
        ("longflag", slicer_flag(output_name(item))),
        ("label", item.title),
        ("description", item.description),
        ("channel", "output"),
    ]
    if item.kind == "volume":
        return _element("image", 'type="scalar"', parts)
    if item.kind == "segmentation":
        return _element("image", 'type="label"', parts)
    if item.kind == "table":
        return _element("table", "", parts)
    extension = {"image": ".png", "text": ".txt", "sequence": ".seq.nrrd"}.get(item.kind, ".*")
    return _element("file", f'fileExtensions="{extension}"', parts)


def _value(item: ValueSpec) -> list[str]:
    tag = {"float": "double", "integer": "integer"}.get(item.type, "string")
    title = item.title + (f" ({item.unit})" if item.unit else "")
    default = [("default", "0")] if tag != "string" else []
    parts = [("name", item.name), ("label", title), ("description", item.description), ("channel", "output")]
    return _element(tag, "", parts + default)


def _machine() -> list[list[str]]:
    """Where the work is done, for every task alike."""
    return [
        _element(
            "string",
            "",
            [
                ("name", "device"),
                ("longflag", "--device"),
                ("label", "Device"),
                ("description", "auto, cpu, cuda or cuda:N"),
                ("default", "auto"),
            ],
        ),
        _element(
            "integer",
            "",
            [
                ("name", "seed"),
                ("longflag", "--seed"),
                ("label", "Seed"),
                ("description", "The same seed gives the same map."),
                ("default", "0"),
            ],
        ),
        _element(
            "boolean",
            "",
            [
                ("name", "trust_model"),
                ("longflag", slicer_flag("trust_model")),
                ("label", "Trust the model"),
                ("description", "Let this model's own code run. Only for models whose origin is known."),
                ("default", "false"),
            ],
        ),
        _element(
            "directory",
            "",
            [
                ("name", "output"),
                ("longflag", "--output"),
                ("label", "Result folder"),
                ("description", "Where result.json and every file are kept; nothing is kept if empty."),
                ("channel", "output"),
            ],
        ),
    ]
