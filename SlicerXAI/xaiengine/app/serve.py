"""The engine as a process that stays: jobs come as JSON lines on stdin, events go out on stdout.

In:  ``{"id": 1, "command": "run", "job": {...}}``, ``{"id": 2, "command": "describe"}``,
``{"command": "cancel", "id": 1}``, ``{"command": "shutdown"}``.
``{"id": 3, "command": "inspect", "model": "..."}`` says what a model is, and keeps it for the jobs that follow; its
answer names the graphics cards too.

Out: ``{"id": 1, "event": "started" | "progress" | "log" | "finished" | "error", ...}``; first of all
``{"event": "ready"}``. ``finished`` carries the result, whatever its status; ``error`` answers a line that
is no command. The end of stdin ends the process, so it never outlives its parent.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from typing import IO, Any

from .. import __version__
from ..core.device import graphics_cards, memory_problem
from ..core.errors import XAIError
from ..core.job import parse_job
from ..core.progress import Progress, ProgressEvent
from ..core.torch_problem import torch_problem
from ..models.session import Session
from .describe import describe
from .run import quiet_libraries, run_job


class Server:
    """Reads commands in a thread, so that a cancel arrives while a job runs; does jobs one after another."""

    def __init__(self, incoming: IO[str], outgoing: IO[str]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[Any] = set()
        self._session = Session()

    def run(self) -> None:
        """Serve until told to shut down or until stdin ends."""
        threading.Thread(target=self._read, daemon=True).start()
        self._send({"event": "ready", "version": __version__, "pid": os.getpid()})
        while True:
            command = self._commands.get()
            if command["command"] == "shutdown":
                return
            self._answer(command)

    def _read(self) -> None:
        for line in self._incoming:
            if not line.strip():
                continue
            try:
                command = json.loads(line)
                name = command["command"]
                if name not in ("run", "describe", "inspect", "cancel", "shutdown"):
                    raise KeyError(name)
            except (ValueError, KeyError, TypeError) as error:
                self._send(
                    {"event": "error", "id": None, "message": f"Not a command: {error!r}: {line.strip()[:200]}"}
                )
                continue
            if name == "cancel":
                self._cancelled.add(command.get("id"))
            else:
                self._commands.put(command)
        # Without a parent no one wants the running job's result any more: end at once, job and all.
        os._exit(0)

    def _answer(self, command: dict[str, Any]) -> None:
        identity = command.get("id")
        try:
            if command["command"] == "describe":
                self._send({"event": "finished", "id": identity, "description": describe()})
            elif command["command"] == "inspect":
                inspection = self._inspect(command)
                devices = graphics_cards()
                self._send({"event": "finished", "id": identity, "inspection": inspection, "devices": devices})
            else:
                self._run_job(identity, command.get("job"))
        except Exception as error:
            self._send({"event": "error", "id": identity, **_report(error)})

    def _inspect(self, command: dict[str, Any]) -> dict[str, Any]:
        from ..core.device import choose_device
        from .inspection import inspect_model

        device = choose_device(command.get("device") or "auto")
        with quiet_libraries():
            model = self._session.model(str(command.get("model") or ""), device, bool(command.get("trust_model")))
            return inspect_model(model).as_dict()

    def _run_job(self, identity: Any, content: Any) -> None:
        job = parse_job(content)
        self._send({"event": "started", "id": identity, "task": job.task})
        progress = Progress(
            sink=lambda event: self._send({"event": "progress", "id": identity, **event.as_dict()}),
            cancelled=lambda: identity in self._cancelled,
        )
        result = run_job(job, progress, self._session, lambda text: self._log(identity, text))
        self._send({"event": "finished", "id": identity, "result": result.model_dump(mode="json")})

    def _log(self, identity: Any, text: str) -> None:
        self._send({"event": "log", "id": identity, "text": text})

    def _send(self, message: dict[str, Any]) -> None:
        with self._lock:
            self._outgoing.write(json.dumps(message, ensure_ascii=False) + "\n")
            self._outgoing.flush()


def _report(error: Exception) -> dict[str, Any]:
    """What is sent of an error that ended a command."""
    known = error if isinstance(error, XAIError) else torch_problem(error) or memory_problem(error)
    if known is None:
        details = "".join(traceback.format_exception(error))
        return {"kind": XAIError.kind, "message": f"{type(error).__name__}: {error}", "details": details}
    return {"kind": known.kind, "message": known.message, "remedy": known.remedy}


def progress_line(event: ProgressEvent) -> str:
    """One JSON line for ``run --json-progress``."""
    return json.dumps({"event": "progress", **event.as_dict()})


def serve() -> None:
    """Serve on the process's own stdin and stdout.

    The real stdout is kept for the protocol alone: what libraries print goes to stderr.
    """
    outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    Server(sys.stdin, outgoing).run()
