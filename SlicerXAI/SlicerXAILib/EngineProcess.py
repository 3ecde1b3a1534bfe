"""The engine's process: started once, kept warm, spoken to in JSON lines.

Threads read the process's output into a queue; :meth:`EngineProcess.processEvents` hands the events over in
the caller's thread, so that callbacks may touch nodes and widgets.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .EngineConnection import EngineConnection
from .EngineErrors import EngineError, JobCancelled
from .PythonExecutable import engineEnvironment, findPythonExecutable
from .Signal import Signal
from .TorchProbe import remedyFor
from .Translation import tr as _

_POLL_SECONDS = 0.05
# What a job is given to stop by itself, which keeps the model loaded, before the process is ended.
_CANCEL_SECONDS = 0.7
# What an idle engine is given to leave by itself.
_LEAVE_SECONDS = 3.0
# Of errors that say that torch is missing or cannot be imported.
_TORCH_KIND = "torch"


class EngineProcess:
    """Runs one job at a time in ``python -m xaiengine serve``.

    Signals, each with the job's identifier first: ``started(jobId)``, ``progress(jobId, event)``,
    ``logged(jobId, text)``, ``finished(jobId, result)`` with the content of ``result.json``, and
    ``failed(jobId, EngineError)``. Every job ends in one of the last two. ``answered(questionId, answer)`` holds
    what :meth:`inspect` asked for, or the EngineError that came of it.
    """

    def __init__(self, command: Sequence[str] | None = None) -> None:
        """:param command: what to start instead of the engine, for tests."""
        self._command = list(command) if command else None
        self._connection: EngineConnection | None = None
        self._leaving: EngineConnection | None = None
        self._onlyCpu = False
        self._jobId: str | None = None
        self._cancelling = False
        self.started, self.progress, self.logged = Signal(), Signal(), Signal()
        self.finished, self.failed = Signal(), Signal()
        self.answered = Signal()
        self._questions: list[str] = []
        # The engine's name and the maker's name of each, once a model has been looked at with them in sight.
        self.graphicsCards: list[tuple[str, str]] | None = None

    @property
    def currentJob(self) -> str | None:
        """The identifier of the running job."""
        return self._jobId

    @property
    def processId(self) -> int | None:
        """The identifier of the living process."""
        return self._connection.processId if self._isAlive() else None

    def requireIdle(self) -> None:
        """:raises EngineError: a job is running."""
        if self._jobId is not None:
            raise EngineError(_("The engine is busy with another job."), _("Wait for it, or cancel it."))

    def submit(self, job: Mapping[str, Any]) -> str:
        """Send a job to the engine, which is started if need be. Returns the job's identifier.

        :raises EngineError: a job is running already, or the process cannot be started.
        """
        return self._send({"command": "run", "job": dict(job)}, onlyCpu=job.get("device") == "cpu")

    def describe(self) -> dict[str, Any]:
        """Return the tasks with their options as the engine describes them."""
        return self.wait(self._send({"command": "describe"}, self._onlyCpu))["description"]

    def inspect(self, model: str, device: str = "auto", trustModel: bool = False) -> dict[str, Any]:
        """Return what a model is: task, labels, layers with the default marked, preprocessing, cost, digest.

        :raises EngineError: it cannot be read, or the process has ended.
        """
        outcome: list[Any] = []
        question = self.askAboutModel(model, device, trustModel)

        def keep(answered: str, answer: Any) -> None:
            if answered == question:
                outcome.append(answer)

        self.answered.connect(keep)
        try:
            self._waitFor(outcome, None, None)
        finally:
            self.answered.disconnect(keep)
        if isinstance(outcome[0], EngineError):
            raise outcome[0]
        return outcome[0]

    def askAboutModel(self, model: str, device: str = "auto", trustModel: bool = False) -> str:
        """Ask what :meth:`inspect` returns without waiting; the model stays loaded for the jobs that follow.

        Returns the question's identifier; the answer comes by the signal ``answered``. A job that runs first delays
        it.

        :raises EngineError: the process cannot be started.
        """
        if self._jobId is None:
            self._ensureStarted(device == "cpu")
        question = uuid.uuid4().hex
        self._questions.append(question)
        message = {"id": question, "command": "inspect", "model": model, "trust_model": trustModel}
        self._connection.send(message | {"device": device})
        return question

    @property
    def isBusy(self) -> bool:
        """Whether something is yet to come from the process."""
        return self._jobId is not None or bool(self._questions)

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

    def shutdown(self, timeout: float = _LEAVE_SECONDS) -> None:
        """Ask an idle engine to leave, and end it if it does not. A running job is ended at once."""
        if self._jobId is not None:
            self._abort()
        elif self._isAlive():
            self._connection.leave(timeout)
        self._kill()
        if self._leaving is not None:
            self._leaving.kill()
            self._leaving = None

    def dismiss(self) -> None:
        """End the process as :meth:`shutdown` does, without waiting for an idle one; a job may be submitted at once.

        What was asked about models is answered with JobCancelled.
        """
        if self._jobId is not None:
            self._abort()
        elif self._isAlive():
            self._leaving, self._connection = self._connection, None
            self._leaving.leaveSoon(_LEAVE_SECONDS)
            self._giveUp(JobCancelled())

    def _abort(self) -> None:
        self._kill()
        self._end(self.failed, JobCancelled())

    def _send(self, message: dict[str, Any], onlyCpu: bool) -> str:
        self.requireIdle()
        self._ensureStarted(onlyCpu)
        self._jobId = uuid.uuid4().hex
        self._cancelling = False
        self._connection.send({"id": self._jobId, **message})
        return self._jobId

    def _waitFor(self, outcome: list[Any], idle: Callable[[], Any] | None, timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not outcome:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(_("The job has not ended after {seconds} s.").format(seconds=timeout))
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
        self._connection = EngineConnection(command, engineEnvironment(onlyCpu))

    def _kill(self) -> None:
        if self._connection is not None:
            self._connection.kill()
            self._connection = None
        self._giveUp(JobCancelled())

    def _giveUp(self, error: EngineError) -> None:
        """Answer what the process will not answer any more."""
        questions, self._questions = self._questions, []
        for question in questions:
            self.answered.emit(question, error)

    def _end(self, signal: Signal, value: Any) -> None:
        jobId, self._jobId = self._jobId, None
        if self._connection is not None:
            self._connection.forgetCancel()
        if jobId is not None:
            signal.emit(jobId, value)

    def _dispatch(self, connection: EngineConnection, event: dict[str, Any]) -> None:
        if connection is not self._connection:
            return  # an event of a process that a callback has just ended
        kind = event["event"]
        if kind == "exited":
            ending = JobCancelled() if self._cancelling else connection.crash()
            self._giveUp(ending)
            self._kill()
            self._end(self.failed, ending)
        elif kind == "log":
            self.logged.emit(self._jobId, event.get("text", ""))
        elif event.get("id") in self._questions and kind in ("finished", "error"):
            self._answer(event)
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

    def _answer(self, event: dict[str, Any]) -> None:
        self._questions.remove(event["id"])
        known = event.get("inspection")
        if known is not None and not self._onlyCpu:
            self.graphicsCards = [(name, title) for name, title in event.get("devices") or []]
        self.answered.emit(event["id"], _reportedError(event) if known is None else known)

    def _finish(self, event: dict[str, Any]) -> None:
        result = event.get("result", event)
        status = result.get("status", "finished")
        if self._cancelling or status == "cancelled":
            self._end(self.failed, JobCancelled())
        elif status == "failed":
            self._end(self.failed, _reportedError(result.get("error") or {}))
        else:
            self._end(self.finished, result)


def _reportedError(report: Mapping[str, Any]) -> EngineError:
    if report.get("kind") == _TORCH_KIND:  # how it is corrected in Slicer is not known to the engine
        return EngineError(report["message"], remedyFor(report["message"]), report.get("details") or "")
    return EngineError(
        report.get("message") or _("The engine reported an error without a message."),
        report.get("remedy") or "",
        report.get("details") or "",
    )
