"""How a map was made, from the ``result.json`` that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.job import RESULT_NAME, read_result


@dataclass(frozen=True)
class Origin:
    """How a map was made, as far as it is known: its task, method, layer, target and options."""

    task: str = ""
    method: str = ""
    options: Mapping[str, Any] | None = None
    title: str = ""
    target: str = ""
    layer: str = ""
    patches: Mapping[str, Any] | None = None
    """Size and centers of the patches that were explained; None where the model saw the whole scan."""


def origin_of(path: Path) -> Origin:
    """The origin of a map; empty when no ``result.json`` of a task that explains lists it."""
    if not (path.parent / RESULT_NAME).is_file():
        return Origin()
    result = read_result(path.parent)
    artifact = next((item for item in result.artifacts if item.file == path.name), None)
    if artifact is None or not artifact.role.startswith("attribution"):
        return Origin()
    options = result.provenance.get("options")
    if result.task == "explain-prediction":
        methods = list(result.provenance.get("methods", {}))
        method = artifact.role.removeprefix("attribution").removeprefix("-") or (methods[0] if methods else "")
        return Origin(result.task, method, options, artifact.name, patches=result.provenance.get("patches"))
    if result.task == "explain-segmentation":
        known = _listed(result.provenance, artifact.role)
        method, target, layer = (str(known.get(name, "")) for name in ("method", "target", "layer"))
        return Origin(result.task, method, options, artifact.name, target, layer)
    return Origin()


def _listed(provenance: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    """The entry of a map among those of a segmentation's result, by the parts of its role.

    A role says the method, and the target and layer where there are several: ``attribution-hirescam-vessel``.
    """
    maps: list[Mapping[str, Any]] = list(provenance.get("maps", []))
    if not maps or role == "attribution":
        return maps[0] if maps else {}
    classes = {item.get("name"): item.get("class", "") for item in provenance.get("targets", [])}

    def parts_met(item: Mapping[str, Any]) -> int:
        parts = [str(item.get("method", "")), _slug(classes.get(item.get("target"), "")), _slug(item.get("layer", ""))]
        return sum(len(part) for part in parts if part and part in role)

    fitting = [item for item in maps if str(item.get("method", "")) in role]
    return max(fitting, key=parts_met, default={})


def _slug(text: Any) -> str:
    return "".join(letter if letter.isalnum() or letter == "_" else "-" for letter in str(text).lower()).strip("-")


def options_known_to(options: type, content: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of recorded options those that a task still has, under today's names or former ones."""
    known = {*options.model_fields, *options.former_names}  # type: ignore[attr-defined]
    return {name: value for name, value in (content or {}).items() if name in known}
