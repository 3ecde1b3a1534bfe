"""What every job of the engine needs: a folder for its files, its progress, an end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .EngineErrors import EngineError
from .EngineProcess import EngineProcess
from .JobWriter import JobFolder
from .Signal import Signal
from .StageTexts import stageText
from .Translation import tr as _


class EngineJob:
    """Follows one job from its start to its end.

    Signals: ``progress(fraction, text)``, ``logged(text)``, then one of ``finished(outcome)`` and
    ``failed(EngineError)``. The job's folder is removed in either case.
    """

    def __init__(self, engine: EngineProcess, folder: JobFolder) -> None:
        self.progress, self.logged = Signal(), Signal()
        self.finished, self.failed = Signal(), Signal()
        self.error: EngineError | None = None
        self._engine, self._folder = engine, folder
        self._jobId: str | None = None

    def cancel(self) -> None:
        """Stop the job; nothing of it is kept."""
        if self._jobId is not None and self._engine.currentJob == self._jobId:
            self._engine.cancel()

    def _start(
        self, task: str, inputs: Mapping[str, Any], options: Mapping[str, Any], more: Mapping[str, Any]
    ) -> None:
        """Write the inputs and hand the job over.

        :raises EngineError: an input cannot be used, the engine is busy or cannot be started.
        """
        try:
            job = self._folder.job(task, inputs, options, **more)
            for signal, slot in self._slots():
                signal.connect(slot)
            self._hand(job)
        except Exception:
            self._leave()
            raise

    def _hand(self, job: Mapping[str, Any]) -> None:
        """Give the job to the engine, whose files are complete."""
        self._jobId = self._engine.submit(job)

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
