"""One task on its way: from nodes to a job folder, through the engine, to nodes."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import slicer

from .EngineErrors import EngineError, JobCancelled
from .EngineJob import EngineJob
from .EngineProcess import EngineProcess
from .FileNames import fileName
from .JobWriter import SCAN, JobFolder
from .LoadedResult import LoadedResult
from .ResultLoader import ResultLoading
from .ResultRecord import TaskCall
from .TaskDescriptions import readTasks
from .Translation import tr as _


class TaskRun(EngineJob):
    """Starts a task when it is made. As a scan goes to the engine, so its result comes into the scene, in pieces.

    Signals: ``progress(fraction, text)``, ``logged(text)``, then one of ``finished(LoadedResult)`` and
    ``failed(EngineError)``. The job folder is removed in either case.
    """

    def __init__(
        self,
        engine: EngineProcess,
        task: str,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any],
        temporaryPath: str,
        output: str | Path = "",
        **more: Any,
    ) -> None:
        """:param output: a folder in which the result's files stay; a task that makes files for other tasks (a
          generator, directions, a dissection) keeps them in the user's documents if it is empty.
        :param more: other fields of the job: ``model``, ``device``, ``seed``, ``trust_model``.

        :raises EngineError: an input cannot be used, or the engine cannot be started.
        """
        self.inputNode = _firstNode(inputs)
        self._inputName = _inputName(inputs, self.inputNode)
        super().__init__(engine, JobFolder(temporaryPath, output or _ownFolder(task, self._inputName), inTurns=True))
        self._isOwnFolder = not output
        self.result: LoadedResult | None = None
        self._loading: ResultLoading | None = None
        self._call = TaskCall(task, dict(inputs), dict(options), more)
        self._start(task, inputs, options, more)

    @property
    def isMoving(self) -> bool:
        """Whether a scan is on its way to the engine, or the result into the scene: :meth:`advance` does a piece."""
        return not self.hasEnded and (super().isMoving or self._loading is not None)

    @property
    def hasEnded(self) -> bool:
        return self.result is not None or self.error is not None

    def wait(self, idle: Any = None) -> LoadedResult:
        """Return the loaded result.

        :raises EngineError: the task failed or was cancelled.
        """
        while not self.hasEnded:
            if self.isMoving:
                self.advance()
            else:
                self._engine.processEvents(timeout=0.05)
            if idle is not None:
                idle()
        if self.error is not None:
            raise self.error
        return self.result

    def advance(self) -> None:
        """Write the next piece of a scan, or load the next piece of the result, where there is one."""
        if self._loading is None:
            super().advance()
        elif not self.hasEnded:
            self._load()

    def _load(self) -> None:
        try:
            result = self._loading.advance()
        except EngineError as error:
            self._fail(error)
            return
        except Exception as error:
            message = _("The result cannot be shown: {reason}.").format(reason=f"{type(error).__name__}: {error}")
            self._fail(EngineError(message, _("Please report it with the log."), traceback.format_exc()))
            return
        if result is not None and not self.hasEnded:
            self.result = result
            self._leave()
            self.finished.emit(result)

    def cancel(self) -> None:
        """Stop the job, or the loading of its result; nothing of it is kept."""
        if self._loading is None:
            super().cancel()
        elif not self.hasEnded:
            self._loading.discard()
            self._fail(JobCancelled())

    def _leave(self) -> None:
        super()._leave()
        if self._isOwnFolder and self.error is not None:
            self._folder.removeBareOutput()

    def _take(self, _result: Mapping[str, Any]) -> None:
        kept = self._folder.keepsOutput
        notes = list(self._folder.notes)
        if kept:
            notes.append(_("The files were kept in {folder}.").format(folder=self._folder.output))
        self._loading = ResultLoading(
            self._folder.output,
            self.inputNode,
            self._inputName,
            kept,
            call=self._call,
            notes=notes,
            cleanUp=self._folder.remove,
        )
        self.progress.emit(1.0, _("Loading the result"))


def _ownFolder(task: str, name: str) -> Path | None:
    """Return a new folder in the user's documents for a task whose files other tasks need; None for the others."""
    outputs = readTasks().get(task, {}).get("outputs", ())
    if not any(item["kind"] == "data" for item in outputs):
        return None
    title = fileName(f"{datetime.now():%Y-%m-%d %H-%M-%S}", name, task)
    return Path(slicer.app.defaultScenePath) / "SlicerXAI" / title


def _firstNode(inputs: Mapping[str, Any]) -> Any:
    nodes = {name: value for name, value in inputs.items() if isinstance(value, slicer.vtkMRMLNode)}
    return nodes.get(SCAN) or next(iter(nodes.values()), None)


def _inputName(inputs: Mapping[str, Any], node: Any) -> str:
    """Return what results are named after: the node, or the file that was given as the scan."""
    if node is not None:
        return node.GetName()
    scan = inputs.get(SCAN)
    return Path(str(scan)).name.partition(".")[0] if scan else ""
