"""Runs a task as one of 3D Slicer's CLI modules: Slicer's flags, progress on stdout, files for nodes.

Slicer takes anything on stderr for an error, even after success, so whatever libraries write there goes to
stdout; stderr carries the reason of a failure alone. Cancel ends the process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.sax.saxutils import escape

from ..core.console import duration
from ..core.errors import OptionError, XAIError
from ..core.job import ErrorReport, Job, Result
from ..core.progress import Progress, ProgressEvent
from ..tasks import Task, find_task
from .cli_xml import output_name, slicer_flag
from .describe import OptionField, option_fields
from .slicer_cli_files import check_output_file, deliver, write_returned_values

_FOLDER_PREFIX = "xai-cli-"
_STALE_SECONDS = 24 * 3600.0


def main(task_name: str, arguments: Sequence[str] | None = None) -> int:
    """Do the task with Slicer's arguments; 0 when its outputs are written, 1 when it failed."""
    stdout, stderr = _take_streams()
    task = find_task(task_name)
    try:
        chosen = vars(_parser(task).parse_args(arguments))
        _run(task, chosen, FilterProgress(task, stdout))
    except XAIError as error:
        print(f"{error.message} {error.remedy}".strip(), file=stderr, flush=True)
        return 1
    return 0


class FilterProgress:
    """Tells Slicer of the progress in the tags that its CLI modules use."""

    def __init__(self, task: Task, stream: IO[str]) -> None:
        self._name = task.title
        self._stream = stream
        self._start = time.monotonic()

    def start(self) -> None:
        name, comment = self._tag("name", self._name), self._tag("comment", "Starting")
        self._write(f"<filter-start>{name}{comment}</filter-start>")

    def __call__(self, event: ProgressEvent) -> None:
        comment = event.stage
        if event.seconds_left is not None:
            comment += f", about {duration(event.seconds_left)} left"
        self._write(self._tag("comment", comment))
        self._write(self._tag("progress", f"{event.fraction:.4f}"))
        self._write(self._tag("stage-progress", f"{event.stage_fraction:.4f}"))

    def log(self, text: str) -> None:
        self._write(text)

    def end(self) -> None:
        seconds = self._tag("time", f"{time.monotonic() - self._start:.1f}")
        self._write(f"<filter-end>{self._tag('name', self._name)}{seconds}</filter-end>")

    def _tag(self, name: str, text: str) -> str:
        return f"<filter-{name}>{escape(text)}</filter-{name}>"

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


def _run(task: Task, chosen: dict[str, Any], progress: FilterProgress) -> None:
    from .run import run_job

    wanted = {item.role: chosen[output_name(item)] for item in task.outputs if chosen[output_name(item)]}
    for item in task.outputs:
        if item.role in wanted:
            check_output_file(item, Path(wanted[item.role]))
    progress.start()
    with _OutputFolder(chosen["output"]) as folder:
        result = run_job(_job(task, chosen, folder), Progress(progress), log=progress.log)
        if result.error is not None:
            raise _reported(result)
        for warning in result.warnings:
            progress.log(f"Warning: {warning}")
        for role, path in wanted.items():
            deliver(result, role, folder, Path(path))
    if chosen["returnparameterfile"]:
        write_returned_values(Path(chosen["returnparameterfile"]), task.values, result.values)
    progress.end()


def _reported(result: Result) -> XAIError:
    report = result.error or ErrorReport(kind="error", message="The job failed and did not say why.")
    details = f"\n{report.details}" if report.details else ""
    return XAIError(report.message, report.remedy + details)


class _OutputFolder:
    """The folder that the user chose, or a temporary one that is removed afterwards."""

    def __init__(self, chosen: str) -> None:
        self._chosen = chosen

    def __enter__(self) -> Path:
        if self._chosen:
            return Path(self._chosen)
        _remove_stale_folders()
        self._temporary = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
        return self._temporary

    def __exit__(self, *_error: object) -> None:
        if not self._chosen:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _remove_stale_folders() -> None:
    """Remove what cancelled runs left behind: Slicer ends a module without giving it time to clean up."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


def _job(task: Task, chosen: dict[str, Any], folder: Path) -> Job:
    options: dict[str, Any] = {}
    for field in option_fields(task.Options):
        value = chosen[field.name]
        if value in ("", None):  # Slicer's way to say "not given"
            continue
        options[field.name] = [part.strip() for part in value.split(",")] if field.type == "list" else value
    machine = {name: chosen[name] for name in ("device", "seed", "trust_model")}
    return Job(task=task.name, options=options, output=str(folder), **machine)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong call as an error with a remedy instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{self.prog} was called wrongly: {message}.", "Call it with --help for its parameters.")


def _parser(task: Task) -> argparse.ArgumentParser:
    parser = _Parser(prog=task.title, description=task.description, allow_abbrev=False)
    for field in option_fields(task.Options):
        parser.add_argument(slicer_flag(field.name), help=field.title, **_argument(field))
    for item in task.outputs:
        parser.add_argument(slicer_flag(output_name(item)), default="", help=item.title)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(slicer_flag("trust_model"), action="store_true")
    parser.add_argument("--output", default="")
    parser.add_argument("--returnparameterfile", default="")
    parser.add_argument("--processinformationaddress", default="", help=argparse.SUPPRESS)
    return parser


def _argument(field: OptionField) -> dict[str, Any]:
    if field.type == "boolean":  # Slicer gives the flag for true and leaves it out for false
        return {"action": "store_true"}
    return {"default": "", "required": field.required}


def _take_streams() -> tuple[IO[str], IO[str]]:
    """Return stdout and stderr for this module's own use, and send what others write to stderr to stdout."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    own = [os.fdopen(os.dup(number), "w", encoding="utf-8", newline="\n") for number in (1, 2)]
    os.dup2(1, 2)
    return own[0], own[1]
