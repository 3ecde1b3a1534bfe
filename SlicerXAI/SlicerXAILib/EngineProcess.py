"""The engine's process: started once, kept warm, spoken to in JSON lines.

Threads read the process's output into a queue; :meth:`EngineProcess.processEvents` hands the events over in
the caller's thread, so that callbacks may touch nodes and widgets.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from .EngineErrors import EngineCrashed, EngineError, JobCancelled
from .ProcessTree import describeExit, killProcessTree, startProcess
from .PythonExecutable import engineEnvironment, findPythonExecutable
from .Signal import Signal

_LAST_WORDS = 40
_POLL_SECONDS = 0.05
# What a job is given to stop by itself, which keeps the model loaded, before the process is ended.
_CANCEL_SECONDS = 0.7


class EngineProcess:
    """Runs one job at a time in ``python -m xaiengine serve``.

    Signals, each with the job's identifier first: ``started(jobId)``, ``progress(jobId, event)``,
    ``logged(jobId, text)``, ``finished(jobId, result)`` with the content of ``result.json``, and
    ``failed(jobId, EngineError)``. Every job ends in one of the last two.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """:param command: what to start instead of the engine, for tests."""
        self._command = list(command) if command else None
        self._connection: _Connection | None = None
        self._onlyCpu = False
        self._jobId: str | None = None
        self._cancelling = False
        self.started, self.progress, self.logged = Signal(), Signal(), Signal()
        self.finished, self.failed = Signal(), Signal()

    @property
    def currentJob(self) -> str | None:
        """The identifier of the running job."""
        return self._jobId

    @property
    def processId(self) -> int | None:
        """The identifier of the living process."""
        return self._connection.processId if self._isAlive() else None

    def submit(self, job: Mapping[str, Any]) -> str:
        """Send a job to the engine, which is started if need be. Returns the job's identifier.

        :raises EngineError: a job is running already, or the process cannot be started.
        """
        return self._send({"command": "run", "job": dict(job)}, onlyCpu=job.get("device") == "cpu")

    def describe(self) -> dict[str, Any]:
        """Return the tasks with their options as the engine describes them."""
        return self.wait(self._send({"command": "describe"}, self._onlyCpu))["description"]

    def processEvents(self, timeout: float = 0.0) -> None:
        """Hand over what has arrived; wait for the first event for at most ``timeout`` seconds."""
        connection = self._connection
        if connection is None:
            return
        event = connection.receive(timeout)
        while event is not None:
            self._dispatch(connection, event)
            event = connection.receive(0.0)

    def wait(self, jobId: str, idle: Callable[[], Any] | None = None, timeout: float | None = None) -> dict[str, Any]:
        """Return the result of a job when it has ended; ``idle`` is called about 20 times a second meanwhile.

        :raises EngineError: the job failed, was cancelled (JobCancelled) or the process died (EngineCrashed).
        :raises TimeoutError: the job has not ended after ``timeout`` seconds; it goes on.
        """
        outcome: list[Any] = []

        def keep(endedJob: str, value: Any) -> None:
            if endedJob == jobId:
                outcome.append(value)

        self.finished.connect(keep)
        self.failed.connect(keep)
        try:
            self._waitFor(outcome, idle, timeout)
        except KeyboardInterrupt:
            self._abort()
            raise
        finally:
            self.finished.disconnect(keep)
            self.failed.disconnect(keep)
        if isinstance(outcome[0], EngineError):
            raise outcome[0]
        return outcome[0]

    def cancel(self) -> None:
        """Ask the running job to stop; if it has not within a second, the process is ended.

        The job fails with JobCancelled, once its process holds nothing of it any more.
        """
        if self._jobId is not None and not self._cancelling:
            self._cancelling = True
            self._connection.cancelOrKill(self._jobId, _CANCEL_SECONDS)

    def shutdown(self, timeout: float = 3.0) -> None:
        """Ask an idle engine to leave, and end it if it does not. A running job is ended at once."""
        if self._jobId is not None:
            self._abort()
        elif self._isAlive():
            self._connection.leave(timeout)
        self._kill()

    def _abort(self) -> None:
        self._kill()
        self._end(self.failed, JobCancelled())

    def _send(self, message: dict[str, Any], onlyCpu: bool) -> str:
        if self._jobId is not None:
            raise EngineError("The engine is busy with another job.", "Wait for it, or cancel it.")
        self._ensureStarted(onlyCpu)
        self._jobId = uuid.uuid4().hex
        self._cancelling = False
        self._connection.send({"id": self._jobId, **message})
        return self._jobId

    def _waitFor(self, outcome: list[Any], idle: Callable[[], Any] | None, timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not outcome:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"The job has not ended after {timeout} s.")
            self.processEvents(_POLL_SECONDS)
            if idle is not None:
                idle()

    def _isAlive(self) -> bool:
        return self._connection is not None and self._connection.isAlive()

    def _ensureStarted(self, onlyCpu: bool) -> None:
        if self._isAlive() and self._onlyCpu == onlyCpu:
            return
        self._kill()
        self._onlyCpu = onlyCpu
        command = self._command or [findPythonExecutable(), "-u", "-m", "xaiengine", "serve"]
        self._connection = _Connection(command, engineEnvironment(onlyCpu))

    def _kill(self) -> None:
        if self._connection is not None:
            self._connection.kill()
            self._connection = None

    def _end(self, signal: Signal, value: Any) -> None:
        jobId, self._jobId = self._jobId, None
        if self._connection is not None:
            self._connection.forgetCancel()
        if jobId is not None:
            signal.emit(jobId, value)

    def _dispatch(self, connection: _Connection, event: dict[str, Any]) -> None:
        if connection is not self._connection:
            return  # an event of a process that a callback has just ended
        kind = event["event"]
        if kind == "exited":
            self._kill()
            self._end(self.failed, JobCancelled() if self._cancelling else connection.crash())
        elif kind == "log":
            self.logged.emit(self._jobId, event.get("text", ""))
        elif self._jobId is None or event.get("id") != self._jobId:
            return
        elif kind == "started":
            self.started.emit(self._jobId)
        elif kind == "progress":
            self.progress.emit(self._jobId, event)
        elif kind == "finished":
            self._finish(event)
        elif kind == "error":
            self._end(self.failed, _reportedError(event))

    def _finish(self, event: dict[str, Any]) -> None:
        result = event.get("result", event)
        status = result.get("status", "finished")
        if self._cancelling or status == "cancelled":
            self._end(self.failed, JobCancelled())
        elif status == "failed":
            self._end(self.failed, _reportedError(result.get("error") or {}))
        else:
            self._end(self.finished, result)


class _Connection:
    """One process with the threads that read its output."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelTimer: threading.Timer | None = None
        self._lastWords: deque[str] = deque(maxlen=_LAST_WORDS)
        try:
            self._process = startProcess(command, environment)
        except OSError as error:
            raise EngineError(
                f"The engine could not be started: {error}.", "Check that this program exists: " + command[0]
            ) from error
        self._errorReader = self._startReader(self._readErrors, self._process.stderr)
        self._startReader(self._readEvents, self._process.stdout)

    @property
    def processId(self) -> int:
        return self._process.pid

    def isAlive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        # A process that has just died shows in its output's end, which reports the crash with its reason.
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass

    def receive(self, timeout: float) -> dict[str, Any] | None:
        try:
            return self._events.get(timeout=timeout) if timeout > 0 else self._events.get_nowait()
        except queue.Empty:
            return None

    def leave(self, timeout: float) -> None:
        self.send({"command": "shutdown"})
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass

    def cancelOrKill(self, jobId: str, seconds: float) -> None:
        """Send a cancel; unless it is forgotten within ``seconds``, end the process, come what may."""
        self.send({"id": jobId, "command": "cancel"})
        self._cancelTimer = threading.Timer(seconds, killProcessTree, [self._process])
        self._cancelTimer.daemon = True
        self._cancelTimer.start()

    def forgetCancel(self) -> None:
        if self._cancelTimer is not None:
            self._cancelTimer.cancel()
            self._cancelTimer = None

    def kill(self) -> None:
        self.forgetCancel()
        killProcessTree(self._process)

    def crash(self) -> EngineCrashed:
        """Describe the end of the process with the last lines that it wrote."""
        lastWords = "\n".join(self._lastWords)
        ending = next((line for line in reversed(self._lastWords) if line.strip()), "it said nothing")
        return EngineCrashed(
            f"The engine {describeExit(self._process.poll())}; its last words: {ending.strip()}",
            "Try again; if it happens again, choose the CPU or a smaller volume (memory may be short), "
            "and see the log.",
            lastWords,
        )

    def _startReader(self, read: Callable[[TextIO], None], stream: TextIO) -> threading.Thread:
        thread = threading.Thread(target=read, args=(stream,), daemon=True)
        thread.start()
        return thread

    def _readEvents(self, stream: TextIO) -> None:
        for line in stream:
            event = _parseEvent(line)
            if event is None:
                self._log(line)
            else:
                self._events.put(event)
        self._errorReader.join(timeout=2.0)
        self._process.wait()
        self._events.put({"event": "exited"})

    def _readErrors(self, stream: TextIO) -> None:
        for line in stream:
            self._log(line)

    def _log(self, line: str) -> None:
        text = line.rstrip("\n")
        self._lastWords.append(text)
        self._events.put({"event": "log", "text": text})


def _parseEvent(line: str) -> dict[str, Any] | None:
    """Return the event on a line, or None where a library has printed something of its own."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _reportedError(report: Mapping[str, Any]) -> EngineError:
    return EngineError(
        report.get("message") or "The engine reported an error without a message.",
        report.get("remedy") or "",
        report.get("details") or "",
    )
