"""A report about results, for the record: the engine's HTML page, from nodes of the scene or from result folders."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .EngineErrors import EngineError
from .PythonExecutable import engineEnvironment, findPythonExecutable
from .ResultLoader import readResult
from .ResultRecord import resultOf
from .ResultWriting import ResultFolder
from .Translation import tr as _

_SECONDS = 600.0
# How a line of the engine begins that says what went wrong; the remedy follows.
_SAID = "Error: "


def writeReport(results: Any, path: str | Path, temporaryPath: str = "") -> Path:
    """Write a report and return its path.

    Nodes are reported as they are now: maps, segments, tables and charts that were changed since, and the scan, are
    written for the engine into a temporary folder first.

    :param results: a node of a result or several (each result is reported once), or a result folder or several.
    :raises EngineError: a node is no result, a folder holds none, or the page cannot be written.
    """
    given = list(results) if isinstance(results, (list, tuple)) else [results]
    written: list[ResultFolder] = []
    folders: list[Path] = []
    scan: list[str] = []
    known = set()
    try:
        for item in given:
            if isinstance(item, (str, Path)):
                readResult(item)
                folders.append(Path(item).resolve())
                continue
            loaded = resultOf(item)
            if loaded.record.GetID() in known:
                continue
            known.add(loaded.record.GetID())
            written.append(ResultFolder(loaded, temporaryPath or tempfile.gettempdir()))
            if not folders and written[-1].scan:
                scan = ["--scan", written[-1].scan]
            folders.append(written[-1].path)
        if not folders:
            raise EngineError(_("There is nothing to report."), _("Choose a result."))
        _runEngine(["report", *map(str, folders), "--output", str(Path(path).resolve()), *scan])
    finally:
        for folder in written:
            folder.remove()
    return Path(path)


def _runEngine(arguments: Sequence[str]) -> None:
    """:raises EngineError: what the engine reports, with its remedy."""
    try:
        ended = subprocess.run(
            [findPythonExecutable(), "-m", "xaiengine", *arguments],
            capture_output=True,
            env=engineEnvironment(),
            timeout=_SECONDS,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            _("The report was not written within {seconds:.0f} s.").format(seconds=_SECONDS),
            _("Report fewer results at once."),
        ) from error
    if ended.returncode == 0:
        return
    lines = [line.strip() for line in ended.stderr.strip().splitlines() if line.strip()]
    message = next((number for number, line in enumerate(lines) if line.startswith(_SAID)), None)
    if message is None:
        reason = lines[-1] if lines else _("no reason is given")
        raise EngineError(
            _("The report cannot be written: {reason}.").format(reason=reason),
            _("The panel of SlicerXAI installs what is missing."),
        )
    reason = lines[message].removeprefix(_SAID)
    raise EngineError(reason, " ".join(lines[message + 1 :]))
