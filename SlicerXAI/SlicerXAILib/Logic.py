"""What SlicerXAI can do, for Slicer's Python console, for other modules and for the panel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer

from . import Display
from .EngineErrors import NodeError
from .EngineProcess import EngineProcess
from .ResultLoader import LoadedResult
from .TaskRun import TaskRun

ProgressCallback = Callable[[float, str], Any]


@dataclass
class LesionQuantification:
    """The nodes and numbers of :meth:`XAILogic.quantifyLesions`."""

    loaded: LoadedResult

    @property
    def attribution(self) -> slicer.vtkMRMLScalarVolumeNode:
        """What each voxel tells the model, in bits per voxel."""
        return self.loaded.nodes["attribution"]

    @property
    def segmentation(self) -> slicer.vtkMRMLSegmentationNode:
        """The lesions found, largest first."""
        return self.loaded.nodes["lesions"]

    @property
    def lungs(self) -> slicer.vtkMRMLSegmentationNode:
        """The lungs in which lesions were sought."""
        return self.loaded.nodes["lungs"]

    @property
    def table(self) -> slicer.vtkMRMLTableNode:
        """One row for each lesion."""
        return self.loaded.nodes["table"]

    @property
    def values(self) -> dict[str, Any]:
        """Burden in mL and percent, severity and the other numbers that the engine returns."""
        return self.loaded.values

    @property
    def warnings(self) -> list[str]:
        """What the reader of the result must know."""
        return self.loaded.warnings

    @property
    def provenance(self) -> dict[str, Any]:
        """How the result was made."""
        return self.loaded.provenance


class XAILogic:
    """Runs the engine's tasks on nodes. One process serves all of them and keeps models loaded."""

    def __init__(self, engine: EngineProcess | None = None) -> None:
        self.engine = engine or EngineProcess()
        self._closing = slicer.mrmlScene.AddObserver(
            slicer.vtkMRMLScene.StartCloseEvent, lambda _scene, _event: self.cancel()
        )

    def quantifyLesions(
        self,
        volumeNode: slicer.vtkMRMLScalarVolumeNode,
        model: str = "",
        lungs: slicer.vtkMRMLSegmentationNode | None = None,
        reference: slicer.vtkMRMLSegmentationNode | None = None,
        progress: ProgressCallback | None = None,
        device: str = "auto",
        seed: int = 0,
        trustModel: bool = False,
        show: bool = True,
        **options: Any,
    ) -> LesionQuantification:
        """Find and measure lesions in a chest CT; returns when done.

        :param model: a model's folder or file, or the name of a shipped one; empty for the default.
        :param lungs: the lungs or their lobes; found in the CT if not given.
        :param reference: known lesions, with which the found ones are compared.
        :param progress: called with the fraction done and a text.
        :param show: whether to show the map over the CT in the slice views.
        :param options: the other options of the task, see :meth:`describe`.
        :raises EngineError: with the reason and a remedy.
        """
        inputs = {"volume": volumeNode, "lungs": lungs, "reference": reference}
        loaded = self.runTask(
            "quantify-lesions", inputs, options, model, progress, device=device, seed=seed, trust_model=trustModel
        )
        if show:
            Display.showResult(loaded, volumeNode)
        return LesionQuantification(loaded)

    def runTask(
        self,
        task: str,
        inputs: dict[str, Any],
        options: dict[str, Any] | None = None,
        model: str = "",
        progress: ProgressCallback | None = None,
        **more: Any,
    ) -> LoadedResult:
        """Run any task of the engine and load its result; returns when done.

        :raises EngineError: with the reason and a remedy.
        """
        run = self.startTask(task, inputs, options, model, **more)
        if progress is not None:
            run.progress.connect(progress)
        try:
            return run.wait(idle=_processApplicationEvents)
        except KeyboardInterrupt:
            self.engine.shutdown()
            raise

    def startTask(
        self, task: str, inputs: dict[str, Any], options: dict[str, Any] | None = None, model: str = "", **more: Any
    ) -> TaskRun:
        """Start a task and return at once; the caller then calls :meth:`processEvents` now and again.

        :raises EngineError: an input cannot be used, or another task is running.
        """
        if any(name == "volume" and node is None for name, node in inputs.items()):
            raise NodeError("No volume was given.", "Choose the volume to explain.")
        return TaskRun(self.engine, task, inputs, options or {}, _temporaryPath(), model=str(model), **more)

    def processEvents(self) -> None:
        """Hand over what the engine has said."""
        self.engine.processEvents()

    def describe(self) -> dict[str, Any]:
        """Return the engine's tasks with their options: titles, units, ranges and defaults."""
        return self.engine.describe()

    def cancel(self) -> None:
        """Stop the running task, if any."""
        self.engine.cancel()

    def close(self) -> None:
        """End the engine's process."""
        slicer.mrmlScene.RemoveObserver(self._closing)
        self.engine.shutdown()


def _temporaryPath() -> str:
    application = getattr(slicer, "app", None)
    return application.temporaryPath if application is not None else tempfile.gettempdir()


def _processApplicationEvents() -> None:
    application = getattr(slicer, "app", None)
    if application is not None:
        application.processEvents()
