"""What a task would take: time and memory, found by the engine without doing the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .EngineJob import EngineJob
from .EngineProcess import EngineProcess
from .JobWriter import JobFolder
from .Translation import tr as _


class EstimateRun(EngineJob):
    """Asks when it is made; ``finished(text)`` tells the answer."""

    def __init__(
        self,
        engine: EngineProcess,
        task: str,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        temporaryPath: str,
        **more: Any,
    ) -> None:
        """:param more: the job's other fields: ``model``, ``device``, ``seed``, ``trust_model``.

        :raises EngineError: an input cannot be used, or the engine is busy.
        """
        super().__init__(engine, JobFolder(temporaryPath, inTurns=True))
        self._start(task, inputs, options, {**more, "only_estimate": True})

    def _take(self, result: Mapping[str, Any]) -> None:
        self._leave()
        self.finished.emit(estimateText(result.get("values") or {}))


def estimateText(values: Mapping[str, Any]) -> str:
    """Return the engine's estimate of time and memory as one text."""
    words = [str(values.get("estimate") or "").strip()]
    memory = values.get("estimated_memory_gb")
    if memory is not None and "GB" not in words[0]:
        words.append(_("About {gigabytes:.1f} GB of memory.").format(gigabytes=memory))
    return " ".join(word for word in words if word) or "-"
