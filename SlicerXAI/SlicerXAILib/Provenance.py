"""How a result was made, for readers and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .EngineErrors import EngineError
from .ResultAttributes import PROVENANCE, TASK
from .ResultRecord import namesOfInputs
from .Translation import tr as _

# Told in their own lines, or of no use to a reader.
_TOLD = ("task", "job", "options", "seed", "device", "started", "seconds", "versions", "model")


@dataclass(frozen=True)
class Provenance:
    """How a result was made. ``str()`` gives the text for readers, ``content`` everything that is known."""

    content: Mapping[str, Any]
    text: str

    def __str__(self) -> str:
        return self.text


def provenanceOf(node: Any) -> Provenance:
    """Return how a node was made.

    :raises EngineError: it is no result of the engine.
    """
    saved = node.GetAttribute(PROVENANCE) if node is not None else None
    if not saved:
        name = node.GetName() if node is not None else _("Nothing")
        raise EngineError(
            _("{name} is no result of SlicerXAI.").format(name=name),
            _("Choose a map, table or segmentation that it made."),
        )
    content = json.loads(saved)
    return Provenance(content, provenanceText(content, node.GetAttribute(TASK) or "", namesOfInputs(node)))


def provenanceText(content: Mapping[str, Any], task: str, inputs: Mapping[str, str]) -> str:
    """Return the lines ``label: value`` for a reader; labels of :func:`provenanceRows`."""
    return "\n".join(f"{label}: {value}" for label, value in provenanceRows(content, task, inputs))


def provenanceRows(content: Mapping[str, Any], task: str, inputs: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return what a reader must know to judge, or to repeat, a result: label and value."""
    rows = [(_("Task"), task or str(content.get("task") or ""))]
    rows += [(_title(name), value) for name, value in inputs.items()]
    rows += _modelRows(content)
    job = content.get("job") or {}
    chosen = {name: value for name, value in (job.get("options") or {}).items() if name not in inputs}
    rows.append((_("Options"), _pairs(chosen) or _("as they come")))
    for name, label in (("seed", _("Seed")), ("device", _("Device")), ("started", _("Started"))):
        if content.get(name) is not None:
            rows.append((label, str(content[name])))
    if content.get("seconds") is not None:
        rows.append((_("Took"), f"{content['seconds']:.1f} s"))
    rows += [(_title(name), _words(value)) for name, value in content.items() if name not in _TOLD]
    if content.get("versions"):
        rows.append((_("Versions"), _pairs(content["versions"], " ")))
    return [(label, value) for label, value in rows if value != ""]


def _modelRows(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    model = content.get("model")
    if not isinstance(model, Mapping):
        return [(_("Model"), str(model or (content.get("job") or {}).get("model") or ""))]
    rows = [(_("Model"), str(model.get("name") or ""))]
    rows += [(_("Model's source"), str(model["source"]))] if model.get("source") else []
    rows += [(_("Model's digest"), str(model["digest"]))] if model.get("digest") else []
    known = ("name", "source", "digest")
    return rows + [
        (_("Model's {name}").format(name=name), _words(value)) for name, value in model.items() if name not in known
    ]


def _title(name: str) -> str:
    words = name.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def _pairs(values: Mapping[str, Any], between: str = " = ") -> str:
    return ", ".join(f"{name}{between}{_words(value)}" for name, value in values.items())


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_words(item)}".removesuffix(": ") for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
