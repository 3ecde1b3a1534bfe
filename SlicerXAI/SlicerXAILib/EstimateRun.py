"""What a task would take: time and memory, found by the engine without doing the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer

from .EngineErrors import EngineError
from .EngineProcess import EngineProcess
from .JobWriter import JobFolder
from .Signal import Signal
from .Translation import tr as _


class EstimateRun:
    """Asks when it is made; ``ended(text)`` tells the answer, or why there is none."""

    def __init__(self, engine: EngineProcess, request: Mapping[str, Any]) -> None:
        """:param request: ``task``, ``inputs``, ``options``, ``model`` and the job's other fields.

        :raises EngineError: an input cannot be used, or the engine is busy.
        """
        self.ended = Signal()
        self._engine = engine
        self._folder = JobFolder(slicer.app.temporaryPath)
        request = dict(request)
        try:
            job = self._folder.job(
                request.pop("task"), request.pop("inputs"), request.pop("options"), only_estimate=True, **request
            )
            self._jobId = engine.submit(job)
        except Exception:
            self._folder.remove()
            raise
        engine.finished.connect(self._onFinished)
        engine.failed.connect(self._onFailed)

    def _onFinished(self, jobId: str, result: Mapping[str, Any]) -> None:
        if jobId == self._jobId:
            self._end(estimateText(result.get("values") or {}))

    def _onFailed(self, jobId: str, error: EngineError) -> None:
        if jobId == self._jobId:
            self._end(f"{error.message} {error.remedy}".strip())

    def _end(self, text: str) -> None:
        self._engine.finished.disconnect(self._onFinished)
        self._engine.failed.disconnect(self._onFailed)
        self._folder.remove()
        self.ended.emit(text)


def estimateText(values: Mapping[str, Any]) -> str:
    """Return the engine's estimate of time and memory as one text."""
    words = [str(values.get("estimate") or "").strip()]
    memory = values.get("estimated_memory_gb")
    if memory is not None and "GB" not in words[0]:
        words.append(_("About {gigabytes:.1f} GB of memory.").format(gigabytes=memory))
    return " ".join(word for word in words if word) or "-"
