"""What SlicerXAI can do, for Slicer's Python console, for other modules and for the panel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import slicer

from . import Dependencies, Display
from .AbandonedFolders import removeAbandonedSoon
from .ConsoleTasks import ConsoleTasks
from .EngineErrors import EngineError, NodeError
from .EngineJob import EngineJob
from .EngineProcess import EngineProcess
from .EstimateRun import EstimateRun
from .EventPump import EventPump
from .JobWriter import JobFolder
from .LoadedResult import LoadedResult
from .Provenance import Provenance, provenanceOf
from .ResultLoader import loadResult
from .ResultRecord import callOf, explainedNode
from .TaskArguments import sortArguments
from .TaskDescriptions import describeOptions, findTask
from .TaskRun import TaskRun
from .TorchProbe import TorchReport, probeTorch
from .Translation import tr as _

ProgressCallback = Callable[[float, str], Any]
Run = TypeVar("Run", bound=EngineJob)


class XAILogic(ConsoleTasks):
    """Runs the engine's tasks on nodes. One process serves all of them and keeps models loaded."""

    def __init__(self, engine: EngineProcess | None = None) -> None:
        self.engine = engine or EngineProcess()
        self._runs: list[EngineJob] = []
        removeAbandonedSoon(_temporaryPath())
        self._closing = slicer.mrmlScene.AddObserver(
            slicer.vtkMRMLScene.StartCloseEvent, lambda _scene, _event: self.endEngine()
        )

    def call(
        self,
        task: str,
        *,
        progress: ProgressCallback | None = None,
        finished: Callable[[LoadedResult], Any] | None = None,
        failed: Callable[[EngineError], Any] | None = None,
        device: str = "auto",
        seed: int = 0,
        trustModel: bool = False,
        output: str | Path = "",
        show: bool = True,
        **arguments: Any,
    ) -> LoadedResult | TaskRun:
        """Do a task with nodes, files and options by name; :meth:`options` lists them.

        Returns the result when the task is done. With ``finished`` or ``failed`` it returns at once; they are called
        when the task has ended.

        :param progress: called with the fraction done and a text.
        :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        :param trustModel: let the model's own code run; only for models whose origin is known.
        :param output: a folder in which the result's files stay, among them ``result.json``.
        :param show: whether to show the result in the slice views.
        :raises EngineError: with the reason and a remedy; what an argument may be is listed.
        """
        description = findTask(task)
        given = sortArguments(description, arguments)
        settings = {"device": device, "seed": seed, "trust_model": trustModel, "output": output}
        run = self.startTask(description["name"], given.inputs, given.options, given.model, **settings)
        if show:
            run.finished.connect(lambda loaded: Display.showResult(loaded, explainedNode(loaded)))
        return self._follow(run, progress, finished, failed)

    def estimate(
        self, task: str, *, device: str = "auto", trustModel: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Return what a task would take: ``estimate`` in words, ``estimated_seconds``, ``estimated_memory_gb``.

        The model is loaded and tried once, which the task itself then need not do again.
        """
        description = findTask(task)
        given = sortArguments(description, arguments)
        self._requirePackages()
        folder = JobFolder(_temporaryPath())
        try:
            settings = {"model": given.model, "device": device, "trust_model": trustModel, "only_estimate": True}
            job = folder.job(description["name"], given.inputs, given.options, **settings)
            return self.engine.wait(self.engine.submit(job), idle=_processApplicationEvents)["values"]
        finally:
            folder.remove()

    def options(self, task: str) -> str:
        """Return the inputs and options of a task, or of its function, with meaning, unit, range and default."""
        return describeOptions(findTask(task))

    def inspectModel(self, model: str, device: str = "auto", trustModel: bool = False) -> dict[str, Any]:
        """Return what a model is: task, labels, layers with the default marked, preprocessing, cost, digest."""
        return self.engine.inspect(str(model), device, trustModel)

    def checkTorch(self) -> TorchReport:
        """Try torch in a process of its own: its version and the GPUs it can use, or its problem and the remedy."""
        return probeTorch()

    def provenance(self, node: Any) -> Provenance:
        """Return how a result was made: ``print`` it, or take its ``content``.

        :raises EngineError: the node is no result of the engine.
        """
        return provenanceOf(node)

    def rerun(self, node: Any, progress: ProgressCallback | None = None, **changes: Any) -> LoadedResult:
        """Repeat the task that made a result, with the same nodes, model, options and seed; makes new nodes.

        A trusted model must be trusted again (``trustModel=True``).

        :param changes: arguments that differ, among them ``seed`` and ``device``.
        :raises EngineError: what it was made from is no longer in the scene.
        """
        made = callOf(node, set(changes))
        settings = dict(made.settings)
        arguments = {**made.inputs, **made.options, "model": settings.pop("model", None) or None, **changes}
        settings = {name: arguments.pop(name, value) for name, value in settings.items()}
        return self.call(made.task, progress=progress, **settings, **arguments)

    def writeReport(self, results: Any, path: str | Path) -> Path:
        """Write one HTML page about results: pictures, tables, charts, warnings and how they were made.

        :param results: a node of a result, several of them, or the folder of a result.
        :raises EngineError: a node is no result of the engine, or the page cannot be written.
        """
        from .Report import writeReport

        return writeReport(results, path, _temporaryPath())

    def loadResult(self, folder: str | Path, show: bool = True) -> LoadedResult:
        """Load a result folder that the engine has written, for example on another machine."""
        loaded = loadResult(folder, inputName=Path(folder).resolve().name, keepFiles=True)
        if show:
            Display.showResult(loaded, None)
        return loaded

    def runTask(
        self,
        task: str,
        inputs: dict[str, Any],
        options: dict[str, Any] | None = None,
        model: str = "",
        progress: ProgressCallback | None = None,
        **more: Any,
    ) -> LoadedResult:
        """Run a task as :meth:`startTask` does and return its result when done.

        :raises EngineError: with the reason and a remedy.
        """
        return self._follow(self.startTask(task, inputs, options, model, **more), progress, None, None)

    def startTask(
        self, task: str, inputs: dict[str, Any], options: dict[str, Any] | None = None, model: str = "", **more: Any
    ) -> TaskRun:
        """Start a task and return at once; the caller then calls :meth:`processEvents` now and again.

        :raises EngineError: packages are missing, an input cannot be used, or another task is running.
        """
        if any(name == "volume" and node is None for name, node in inputs.items()):
            raise NodeError(_("No volume was given."), _("Choose the volume to explain."))
        self._requirePackages()
        run = TaskRun(self.engine, task, inputs, options or {}, _temporaryPath(), model=str(model), **more)
        return self._kept(run)

    def startEstimate(
        self, task: str, inputs: dict[str, Any], options: dict[str, Any], model: str = "", **more: Any
    ) -> EstimateRun:
        """Ask what a task would take and return at once, as :meth:`startTask` does.

        :raises EngineError: packages are missing, an input cannot be used, or a task is running.
        """
        self._requirePackages()
        run = EstimateRun(self.engine, task, inputs, options, _temporaryPath(), model=str(model), **more)
        return self._kept(run)

    def processEvents(self) -> None:
        """Hand over what the engine has said, and the next piece of a scan or of a result that it has written."""
        self.engine.processEvents()
        for run in list(self._runs):
            run.advance()

    @property
    def isMoving(self) -> bool:
        """Whether a scan or a result is on its way: it goes on with every :meth:`processEvents`."""
        return any(run.isMoving for run in self._runs)

    @property
    def isBusy(self) -> bool:
        """Whether :meth:`processEvents` has anything to wait for."""
        return self.engine.isBusy or bool(self._runs)

    def describe(self) -> dict[str, Any]:
        """Return the engine's tasks with their options: titles, units, ranges and defaults."""
        return self.engine.describe()

    def cancel(self) -> None:
        """Stop the running task, if any, or the loading of its result."""
        self.engine.cancel()
        for run in list(self._runs):
            run.cancel()

    def endEngine(self) -> None:
        """Stop what runs and end the engine's process, without waiting for it; the next task starts another."""
        self._dropMoving()
        self.engine.dismiss()

    def close(self) -> None:
        """End the engine's process for good."""
        slicer.mrmlScene.RemoveObserver(self._closing)
        self._dropMoving()
        self.engine.shutdown()

    def _kept(self, run: Run) -> Run:
        """Follow a run until it has ended."""
        self._runs.append(run)
        for ended in (run.finished, run.failed):
            ended.connect(lambda _outcome: self._runs.remove(run) if run in self._runs else None)
        return run

    def _dropMoving(self) -> None:
        for run in list(self._runs):
            if run.isMoving:
                run.cancel()

    def _requirePackages(self) -> None:
        if self.engine.processId is None and (problem := Dependencies.whyNotReady()):
            raise EngineError(problem, _("The panel of SlicerXAI installs what is missing."))

    def _follow(
        self,
        run: TaskRun,
        progress: ProgressCallback | None,
        finished: Callable[[LoadedResult], Any] | None,
        failed: Callable[[EngineError], Any] | None,
    ) -> LoadedResult | TaskRun:
        for signal, callback in ((run.progress, progress), (run.finished, finished), (run.failed, failed)):
            if callback is not None:
                signal.connect(callback)
        if finished is not None or failed is not None:
            EventPump(self.processEvents, run)
            return run
        try:
            return run.wait(idle=_processApplicationEvents)
        except KeyboardInterrupt:
            run.cancel()
            self.engine.shutdown()
            raise


def _temporaryPath() -> str:
    application = getattr(slicer, "app", None)
    return application.temporaryPath if application is not None else tempfile.gettempdir()


def _processApplicationEvents() -> None:
    application = getattr(slicer, "app", None)
    if application is not None:
        application.processEvents()
