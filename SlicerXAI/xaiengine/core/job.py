"""The two files that every caller and the engine exchange: ``job.json`` and ``result.json``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import InputError, OptionError

RESULT_NAME = "result.json"

ArtifactKind = Literal["volume", "segmentation", "table", "plot", "sequence", "text", "image", "scene", "data"]


class Job(BaseModel):
    """One piece of work.

    ``inputs`` are files by the names that the task gives them, ``options`` its options. Relative paths in a
    ``job.json`` are taken from the folder that holds it. With ``only_estimate`` the job ends as soon as it is known
    what it takes; the result's values say so. ``methods_from`` are Python files that register methods; they run only
    with ``trust_model``.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    task: str
    model: str = ""
    inputs: dict[str, Any] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"
    seed: int = Field(0, ge=0, lt=2**31)
    trust_model: bool = False
    only_estimate: bool = False
    methods_from: list[str] = Field(default_factory=list)
    output: str


class Artifact(BaseModel):
    """One file of a result. Loaders understand kinds, not tasks.

    ``display`` holds hints: ``colors`` (``heat`` or ``diverging``), ``threshold`` and ``window`` in ``units``,
    ``opacity``, ``background`` (the role of the volume below). A plot names its table and columns there.
    """

    model_config = ConfigDict(extra="forbid")

    kind: ArtifactKind
    file: str
    name: str
    role: str
    units: str = ""
    description: str = ""
    display: dict[str, Any] = Field(default_factory=dict)


class ErrorReport(BaseModel):
    kind: str
    message: str
    remedy: str = ""
    details: str = ""


class Result(BaseModel):
    """What came of a job: ``status``, the error with its remedy, single values, artifacts, provenance."""

    status: Literal["finished", "failed", "cancelled"]
    task: str
    error: ErrorReport | None = None
    warnings: list[str] = Field(default_factory=list)
    values: dict[str, Any] = Field(default_factory=dict)
    artifacts: list[Artifact] = Field(default_factory=list)
    provenance: dict[str, Any] = Field(default_factory=dict)

    def artifact(self, role: str) -> Artifact | None:
        """The artifact with this role, or None."""
        return next((item for item in self.artifacts if item.role == role), None)


def read_job(path: Path) -> Job:
    """Read ``job.json``. Raises InputError when it is no JSON and OptionError when it is no job."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no job file {path}.", "Check the path.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"The job file {path} cannot be read as JSON: {error}.", "Correct the file.") from error
    job = parse_job(content)
    return job.model_copy(update=_resolved(job, path.resolve().parent))


def parse_job(content: Any) -> Job:
    """A job from decoded JSON. Raises OptionError naming the field that is wrong."""
    try:
        return Job.model_validate(content)
    except ValidationError as error:
        raise OptionError(
            f"This is not a job: {explain(error)}.", "See the README for the fields of job.json."
        ) from error


def _resolved(job: Job, folder: Path) -> dict[str, Any]:
    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(item) for item in value]
        return str(folder / value) if isinstance(value, str) and value else value

    model = job.model
    if model and (folder / model).exists():
        model = str(folder / model)
    inputs = {name: absolute(value) for name, value in job.inputs.items()}
    return {
        "inputs": inputs,
        "model": model,
        "methods_from": absolute(job.methods_from),
        "output": str(folder / job.output),
    }


def plain(value: Any) -> Any:
    """The same as JSON can hold it: numbers of arrays as numbers, those that are not finite as None."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, model: BaseModel) -> None:
    """Write a job or a result whole or not at all."""
    text = json.dumps(model.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # half a character of a broken name goes out as JSON's own escape for it
    write_text_atomically(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))


def write_text_atomically(path: Path, text: str) -> None:
    """Write UTF-8 with LF line ends under a temporary name, then rename."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_result(folder: Path) -> Result:
    """The result that lies in an output folder. Raises InputError if there is none."""
    path = Path(folder) / RESULT_NAME
    try:
        return Result.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no result: {error}.", "Run the job again.") from error


def explain(error: ValidationError) -> str:
    """Pydantic's complaints in one sentence, each with the field, what was found and what was expected."""
    parts = []
    for item in error.errors():
        field = ".".join(str(step) for step in item["loc"]) or "the job"
        message = item["msg"][0].lower() + item["msg"][1:]
        if item["type"] in ("missing", "extra_forbidden"):
            parts.append(f"{field}: {message}")
        else:
            parts.append(f"{field}: {message}, found {item['input']!r}")
    return "; ".join(parts)
