"""The engine as a process that stays: jobs come as JSON lines on stdin, events go out on stdout.

In:  ``{"id": 1, "command": "run", "job": {...}}``, ``{"id": 2, "command": "describe"}``,
``{"command": "cancel", "id": 1}``, ``{"command": "shutdown"}``.
``{"id": 3, "command": "inspect", "model": "..."}`` says what a model is, and keeps it for the jobs that follow; its
answer names the graphics cards too.

Out: ``{"id": 1, "event": "started" | "progress" | "log" | "finished" | "error", ...}``; first of all
``{"event": "ready"}``. Every line that is not empty is answered: ``finished`` carries the result, whatever its
status; ``error`` answers a line that is no command; ``cancelling`` a cancel of a job that waits or runs, which then
finishes. Ids are texts or numbers. What goes out is ASCII, with numbers that JSON knows.

The end of stdin, SIGTERM and SIGINT end the process within a second, and the running job leaves nothing half-written.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from typing import IO, Any

from .. import __version__
from ..core.device import graphics_cards, memory_problem
from ..core.errors import XAIError
from ..core.job import parse_job, plain
from ..core.output import abandon_all
from ..core.progress import Progress, ProgressEvent
from ..core.torch_problem import torch_problem
from ..models.session import Session
from .describe import describe
from .run import quiet_libraries, run_job

LONGEST_LINE = 16 * 2**20
PATIENCE_SECONDS = 0.6
"""How long a running job may take to stop by itself when the process is to end."""

COMMANDS = ("run", "describe", "inspect", "cancel", "shutdown")


class CommandError(ValueError):
    """A line that is no command."""


class Server:
    """Reads commands in a thread, so that a cancel arrives while a job runs; does jobs one after another."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[str]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()
        self._commands: queue.Queue[dict[str, Any]] = queue.Queue()
        self._waiting: set[Any] = set()
        self._cancelled: set[Any] = set()
        self._ending = threading.Event()
        self._idle = threading.Event()
        self._session = Session()

    def run(self) -> None:
        """Serve until told to shut down or until stdin ends."""
        threading.Thread(target=self._read, daemon=True).start()
        self._send({"event": "ready", "version": __version__, "pid": os.getpid()})
        while True:
            self._idle.set()
            command = self._commands.get()
            self._idle.clear()
            if command["command"] == "shutdown":
                self._send({"event": "finished", "id": command.get("id")})
                return
            self._answer(command)

    def end(self, code: int) -> None:
        """End the process: a job that runs is asked to stop, and what it leaves is removed."""
        self._ending.set()
        self._idle.wait(PATIENCE_SECONDS)
        abandon_all()
        if not self._idle.is_set():  # it may just have been writing
            time.sleep(0.05)
            abandon_all()
        os._exit(code)

    def _read(self) -> None:
        while line := self._incoming.readline(LONGEST_LINE):
            if not line.endswith(b"\n") and len(line) >= LONGEST_LINE:
                self._refuse(f"the line is longer than {LONGEST_LINE} bytes")
                while (rest := self._incoming.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                    pass
                continue
            if not line.strip():
                continue
            try:
                self._take(parse_command(line))
            except CommandError as error:
                self._refuse(str(error))
            except Exception as error:
                self._refuse(f"{type(error).__name__}: {error}")
        # Without a parent no one wants the running job's result any more.
        self.end(0)

    def _refuse(self, reason: str, identity: Any = None) -> None:
        self._send({"event": "error", "id": identity, "kind": "command", "message": f"Not a command: {reason[:300]}."})

    def _take(self, command: dict[str, Any]) -> None:
        name, identity = command["command"], command.get("id")
        if name == "cancel":
            if identity not in self._waiting:
                self._refuse("no job of this id waits or runs", identity)
                return
            self._cancelled.add(identity)
            self._send({"event": "cancelling", "id": identity})
            return
        if name == "run":
            if identity in self._waiting:
                self._refuse("a job of this id waits or runs already", identity)
                return
            self._waiting.add(identity)
        self._commands.put(command)

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
        finally:
            if command["command"] == "run":
                self._waiting.discard(identity)
                self._cancelled.discard(identity)

    def _inspect(self, command: dict[str, Any]) -> dict[str, Any]:
        from ..core.device import choose_device
        from .inspection import inspect_model

        device = choose_device(str(command.get("device") or "auto"))
        with quiet_libraries():
            model = self._session.model(str(command.get("model") or ""), device, command.get("trust_model") is True)
            return inspect_model(model).as_dict()

    def _run_job(self, identity: Any, content: Any) -> None:
        job = parse_job(content)
        self._send({"event": "started", "id": identity, "task": job.task})
        progress = Progress(
            sink=lambda event: self._send({"event": "progress", "id": identity, **event.as_dict()}),
            cancelled=lambda: identity in self._cancelled or self._ending.is_set(),
        )
        result = run_job(job, progress, self._session, lambda text: self._log(identity, text))
        self._send({"event": "finished", "id": identity, "result": result.model_dump(mode="json")})

    def _log(self, identity: Any, text: str) -> None:
        self._send({"event": "log", "id": identity, "text": text})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            text = json.dumps(message, allow_nan=False)
        except (ValueError, TypeError):
            text = json.dumps(plain(message), allow_nan=False, default=str)
        try:
            with self._lock:
                self._outgoing.write(text + "\n")
                self._outgoing.flush()
        except (OSError, ValueError):  # no one reads any more
            self._ending.set()


def parse_command(line: bytes) -> dict[str, Any]:
    """The command on a line.

    Raises:
        CommandError: it is none; the message says why.
    """
    try:
        command = json.loads(line.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise CommandError(f"the line is not UTF-8 ({error.reason} at byte {error.start})") from None
    except RecursionError:
        raise CommandError("the line is nested too deeply") from None
    except CommandError:
        raise
    except ValueError as error:
        raise CommandError(f"the line is not JSON ({error}): {line[:100]!r}") from None
    if not isinstance(command, dict) or command.get("command") not in COMMANDS:
        raise CommandError(f"expected an object whose command is one of {', '.join(COMMANDS)}, found {line[:100]!r}")
    identity = command.get("id")
    if isinstance(identity, bool) or not isinstance(identity, (str, int, float, type(None))):
        raise CommandError("the id must be a text or a number")
    if isinstance(identity, float) and not math.isfinite(identity):
        raise CommandError("the id is no finite number")
    return command


def _no_number(name: str) -> Any:
    raise CommandError(f"{name} is no number of JSON")


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
    server = Server(sys.stdin.buffer, outgoing)
    _end_on_signals(server)
    server.run()
    outgoing.flush()
    os._exit(0)  # the thread that reads holds stdin, which Python would wait for


def _end_on_signals(server: Server) -> None:
    """SIGTERM and SIGINT end the process even while the main thread computes in a library.

    A handler of Python waits for the main thread; the byte that the system writes for each signal does not.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno())
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK"):
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, lambda *_: None)

    def wait() -> None:
        number = receiver.recv(1)[0]
        sender.close()
        server.end(128 + number)

    threading.Thread(target=wait, daemon=True).start()
