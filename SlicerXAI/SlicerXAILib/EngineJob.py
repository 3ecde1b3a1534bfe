"""What every job of the engine needs: a folder for its files, its progress, an end."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

from .EngineErrors import EngineError, JobCancelled
from .EngineProcess import EngineProcess
from .JobWriter import JobFolder
from .Signal import Signal
from .StageTexts import stageText
from .Translation import tr as _


class EngineJob:
    """Follows one job from its start to its end; who started it calls :meth:`advance` besides ``processEvents``.

    A large scan is written a piece in each call, so that the event loop turns in between.

    Signals: ``progress(fraction, text)``, ``logged(text)``, then one of ``finished(outcome)`` and
    ``failed(EngineError)``. The job's folder is removed in either case.
    """

    def __init__(self, engine: EngineProcess, folder: JobFolder) -> None:
        self.progress, self.logged = Signal(), Signal()
        self.finished, self.failed = Signal(), Signal()
        self.error: EngineError | None = None
        self._engine, self._folder = engine, folder
        self._jobId: str | None = None
        self._job: Mapping[str, Any] = {}
        self._writing: Generator[None, None, None] | None = None
        self._isWriting = False

    @property
    def isMoving(self) -> bool:
        """Whether a scan is on its way to the engine: :meth:`advance` does a piece."""
        return self._writing is not None

    def advance(self) -> None:
        """Write the next piece of a scan, where there is one."""
        if self._writing is None or self._isWriting:  # the event loop may turn within a step
            return
        self._isWriting = True
        self.progress.emit(0.0, _("Handing the scan to the engine"))
        try:
            if self._isWritten():
                self._writing = None
                self._jobId = self._engine.submit(self._job)
        except EngineError as error:
            self._fail(error)
        finally:
            self._isWriting = False

    def cancel(self) -> None:
        """Stop the job; nothing of it is kept."""
        if self._writing is not None and not self._isWriting:
            self._fail(JobCancelled())
        elif self._jobId is not None and self._engine.currentJob == self._jobId:
            self._engine.cancel()

    def _start(
        self, task: str, inputs: Mapping[str, Any], options: Mapping[str, Any], more: Mapping[str, Any]
    ) -> None:
        """Write the inputs and hand the job over, now or when its scans are written.

        :raises EngineError: an input cannot be used, the engine is busy or cannot be started.
        """
        try:
            self._engine.requireIdle()
            job = self._folder.job(task, inputs, options, **more)
            for signal, slot in self._slots():
                signal.connect(slot)
            if self._folder.isComplete:
                self._jobId = self._engine.submit(job)
            else:
                self._job, self._writing = job, self._folder.writeScans()
        except Exception:
            self._leave()
            raise

    def _isWritten(self) -> bool:
        """Write the next piece; returns whether there was none left."""
        try:
            next(self._writing)
        except StopIteration:
            return True
        return False

    def _take(self, result: Mapping[str, Any]) -> None:
        """Go on with what the engine has returned."""
        raise NotImplementedError

    def _slots(self) -> tuple[tuple[Signal, Any], ...]:
        return (
            (self._engine.progress, self._onProgress),
            (self._engine.logged, self._onLogged),
            (self._engine.finished, self._onFinished),
            (self._engine.failed, self._onFailed),
        )

    def _leave(self) -> None:
        for signal, slot in self._slots():
            signal.disconnect(slot)
        if self._writing is not None and not self._isWriting:
            self._writing.close()
        self._writing = None
        self._folder.remove()

    def _onProgress(self, jobId: str, event: Mapping[str, Any]) -> None:
        if jobId == self._jobId:
            self.progress.emit(float(event.get("fraction") or 0.0), progressText(event))

    def _onLogged(self, jobId: str | None, text: str) -> None:
        if jobId is not None and jobId == self._jobId:
            self.logged.emit(text)

    def _onFinished(self, jobId: str, result: Mapping[str, Any]) -> None:
        if jobId == self._jobId:
            self._take(result)

    def _onFailed(self, jobId: str, error: EngineError) -> None:
        if jobId == self._jobId:
            self._fail(error)

    def _fail(self, error: EngineError) -> None:
        self.error = error
        self._leave()
        self.failed.emit(error)


def progressText(event: Mapping[str, Any]) -> str:
    """Return what is being done and how long it will take: ``Explaining, about 40 s left``."""
    stage = stageText(str(event.get("stage") or ""))
    seconds = event.get("seconds_left")
    if seconds is None:
        return stage
    if seconds < 90:
        return _("{stage}, about {count:.0f} s left").format(stage=stage, count=seconds)
    return _("{stage}, about {count:.0f} min left").format(stage=stage, count=seconds / 60)
