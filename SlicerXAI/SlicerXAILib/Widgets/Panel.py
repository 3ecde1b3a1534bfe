"""The module's panel: one page for each task of the engine, the model, one run at a time, and the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..EngineErrors import EngineError
from ..EngineJob import EngineJob
from ..JobWriter import SCAN
from ..LoadedResult import LoadedResult
from ..Logic import XAILogic
from ..Parameters import Parameters, inputKey, optionKey
from ..ResultRecord import TaskCall, callOf
from ..ScanChoice import likelyScan
from ..TaskDescriptions import readTasks
from .DependencyBar import DependencyBar
from .EstimateRow import EstimateRow
from .MachineSettings import MachineSettings
from .ModelPicker import ModelPicker
from .ResultsView import ResultsView
from .RunControls import RunControls
from .TaskList import outputsText, taskNames, taskTitle
from .TaskPage import MODEL, TaskPage

_PUMP_MILLISECONDS = 40
# While a scan or a result is on its way, every turn of the event loop does a piece of the work.
_MOVING_MILLISECONDS = 0


class Panel:
    """Holds the parts together: what is chosen goes to the parameter node, what is applied to the logic."""

    def __init__(self, ui: Any, scenes: Any, logic: XAILogic, parameterNode: Any) -> None:
        """:param scenes: the loaded .ui, whose ``mrmlSceneChanged`` hands the scene on."""
        self.ui = ui
        self._scenes, self._logic = scenes, logic
        self._parameters = Parameters(parameterNode)
        self._pages: dict[str, TaskPage] = {}
        self._page: TaskPage | None = None
        self._taskNames = taskNames()
        self._isLoading = False
        self._timer = qt.QTimer()
        self._timer.setInterval(_PUMP_MILLISECONDS)
        self._timer.connect("timeout()", self._pump)
        # What others write into the parameter node is shown once they have written all of it.
        self._change = qt.QTimer()
        self._change.setSingleShot(True)
        self._change.setInterval(0)
        self._change.connect("timeout()", self._showParameters)
        self._restoration = qt.QTimer()
        self._restoration.setSingleShot(True)
        self._restoration.setInterval(0)
        self._restoration.connect("timeout()", self._restore)
        self._nextNode: Callable[[], Any] | None = None
        self._afterwards: Callable[[], Any] = bool
        self._suggestion = qt.QTimer()
        self._suggestion.setSingleShot(True)
        self._suggestion.setInterval(0)
        self._suggestion.connect("timeout()", self.suggestScan)
        self.dependencies = DependencyBar(ui)
        self.run = RunControls(ui)
        self.machine = MachineSettings(ui)
        self.model = ModelPicker(ui, logic.engine, self._timer.start, lambda: not self.dependencies.problem)
        self.results = ResultsView(ui, logic.writeReport)
        self.estimate = EstimateRow(ui)
        self._fillChoosers()
        self._connect()
        self.setParameterNode(parameterNode)

    @property
    def page(self) -> TaskPage:
        return self._page

    def setParameterNode(self, node: Any) -> None:
        """Show the settings of a parameter node, such as that of a scene that was just opened."""
        self.machine.trust.withdraw()
        self._parameters.ignore()
        self._parameters = Parameters(node)
        self._parameters.observe(self._change.start)
        for page in self._pages.values():
            page.setParameters(self._parameters)
        self._showParameters()
        self._change.stop()
        self.results.refresh()

    def holdParameters(self) -> None:
        """Keep what the selectors lose while a scene is closed or read out of the parameter node."""
        self._parameters.ignore()
        for page in self._pages.values():
            page.hold()

    def setParameterNodeSoon(self, parameterNode: Callable[[], Any], afterwards: Callable[[], Any] = bool) -> None:
        """Show the parameter node that the function returns once every selector knows the scene's nodes."""
        self._nextNode, self._afterwards = parameterNode, afterwards
        self._restoration.start()

    def _restore(self) -> None:
        if self._nextNode is not None and not slicer.mrmlScene.IsBatchProcessing():
            self.setParameterNode(self._nextNode())
            self._afterwards()

    def _showParameters(self) -> None:
        self.machine.setParameters(self._parameters)
        task = self._parameters.value("task", self._taskNames[0])
        self._show(task if task in self._taskNames else self._taskNames[0])

    def setActive(self, active: bool) -> None:
        """Say whether the panel is on the screen."""
        if active:
            self.dependencies.look()
            self.results.refresh()
            self.suggestScan()
        self.model.setActive(active)
        self._update()

    def close(self) -> None:
        """Stop what runs; the logic then ends the engine."""
        self._parameters.ignore()
        self._change.stop()
        self._timer.stop()
        self._restoration.stop()
        self._suggestion.stop()
        self.results.close()
        self.model.close()

    def _fillChoosers(self) -> None:
        described = readTasks()
        for name in self._taskNames:
            self.ui.taskSelector.addItem(taskTitle(described[name]))

    def _connect(self) -> None:
        ui = self.ui
        ui.taskSelector.connect("currentIndexChanged(int)", self._onTask)
        self.machine.changed.connect(self._onMachine)
        self.dependencies.changed.connect(self._onDependencies)
        self.dependencies.told.connect(self.run.note)
        self.model.changed.connect(self._onModel)
        self.model.reported.connect(self._onReport)
        self.run.applied.connect(lambda: self._begin(self._logic.startTask))
        self.estimate.asked.connect(lambda: self._begin(self._logic.startEstimate))
        self.run.finished.connect(self._onFinished)
        self.run.ended.connect(self._onEnded)
        self.results.told.connect(self.run.note)
        self.results.failed.connect(self.run.show)
        self.results.rerunAsked.connect(self._onRerun)

    def _show(self, task: str) -> None:
        """Bring the page of a task to the front."""
        if self._page is not None:
            for widget in (self._page.inputsWidget, self._page.optionsWidget, self._page.advancedWidget):
                widget.setVisible(False)
        self._page = self._pages.get(task) or self._makePage(task)
        for widget in (self._page.inputsWidget, self._page.optionsWidget, self._page.advancedWidget):
            widget.setVisible(True)
        self.ui.taskSelector.blockSignals(True)
        self.ui.taskSelector.setCurrentIndex(self._taskNames.index(task))
        self.ui.taskSelector.blockSignals(False)
        self.ui.taskDescriptionLabel.text = self._page.task["description"]
        self.ui.outputsLabel.text = outputsText(self._page.task)
        self.ui.optionsButton.setVisible(self._page.hasOptions)
        field = self._page.modelField
        self.ui.modelArea.setVisible(field is not None)
        self.ui.modelLabel.setVisible(field is not None)
        self._isLoading = True
        self._page.reload()
        self.suggestScan()
        self._suggestMap()
        if field is not None:
            self.model.setModel(self._parameters.value(optionKey(task, MODEL), field["default"] or ""))
        self._page.setModelReport(self.model.report)
        self._isLoading = False
        self.estimate.forget()
        self._update()

    def _makePage(self, task: str) -> TaskPage:
        page = TaskPage(readTasks()[task], self._parameters, self._scenes)
        page.changed.connect(self._onPage)
        for area, widget in (
            (self.ui.inputsArea, page.inputsWidget),
            (self.ui.optionsArea, page.optionsWidget),
            (self.ui.advancedArea, page.advancedWidget),
        ):
            area.layout().addWidget(widget)
        self._pages[task] = page
        return page

    def suggestScanSoon(self) -> None:
        """Choose the scan once the event loop is reached, when what was just loaded is complete."""
        self._suggestion.start()

    def suggestScan(self) -> None:
        """Choose the scan on the screen, or the last one loaded, unless one is chosen already."""
        editor = self._page.inputEditor(SCAN) if self._page is not None else None
        if editor is not None and editor.value() is None:
            editor.setValue(likelyScan())

    def _suggestMap(self) -> None:
        """Offer the map on the screen to the task that checks maps."""
        if self._page.task["name"] != "evaluate-explanation":
            return
        editor = self._page.editor("explanation")
        if editor.value() is None and self.results.maps.map is not None:
            editor.setValue(self.results.maps.map)

    def _onTask(self, index: int) -> None:
        self._parameters.setValue("task", self._taskNames[index])
        self._show(self._taskNames[index])

    def _onPage(self) -> None:
        if not self._isLoading:
            self.model.wake()
            self.estimate.forget()
            self._update()

    def _onModel(self) -> None:
        if not self._isLoading:
            self._parameters.setValue(optionKey(self._page.task["name"], MODEL), self.model.model)
        self.estimate.forget()
        self._update()

    def _onReport(self, report: Mapping[str, Any] | None) -> None:
        if self._logic.engine.graphicsCards is not None:
            self.machine.setGraphicsCards(self._logic.engine.graphicsCards)
        if self._page is not None:
            self._isLoading = True
            self._page.setModelReport(report)
            self._isLoading = False

    def _onMachine(self) -> None:
        self.estimate.forget()
        self.model.setMachine(self.machine.device, self.machine.trust.isGiven)

    def _onDependencies(self) -> None:
        if not self._logic.isBusy:  # a process that was started before does not see what is new
            self._logic.engine.dismiss()
        self.model.forget()
        self.model.setActive(True)
        self._update()

    def _begin(self, start: Callable[..., EngineJob]) -> None:
        """Do what is chosen, or estimate it, once the packages are there."""
        if not self.dependencies.ensure():
            self.run.note(self.dependencies.problem or _("The packages were not installed."))
            self._onEnded()
            return
        self._start(lambda: start(**self._request()))

    def _start(self, begin: Any) -> None:
        self.run.start(begin)
        if self.run.isRunning:
            self.model.remember(self.model.model)
            self._timer.start()
        self._update()

    def _onFinished(self, outcome: Any) -> None:
        if isinstance(outcome, LoadedResult):
            self.results.show(outcome)
        else:
            self.estimate.tell(outcome)

    def _onEnded(self) -> None:
        self.estimate.giveUp()
        self._update()

    def _onRerun(self, record: Any) -> None:
        """Show how a result was asked for, and ask for it again."""
        try:
            made = callOf(record)
        except EngineError as error:
            self.run.show(error)
            return
        settings = dict(made.settings)
        model = settings.pop("model", "")
        self._parameters.setValue(optionKey(made.task, MODEL), model or None)
        for field in readTasks()[made.task]["options"]:
            if field["name"] != MODEL:
                self._keep(made.task, field, made)
        self._parameters.setValue("task", made.task)
        self._show(made.task)
        # Who trusts a model is asked again: the record came with the scene, or with a file.
        settings["trust_model"] = self.machine.trust.isGiven
        self._start(lambda: self._logic.startTask(made.task, made.inputs, made.options, model, **settings))

    def _keep(self, task: str, field: Mapping[str, Any], made: TaskCall) -> None:
        """Set an input or option to what it was in a call; nodes and values are kept under the same name."""
        isInput = field["role"] == "input"
        key = (inputKey if isInput else optionKey)(task, field["name"])
        value = (made.inputs if isInput else made.options).get(field["name"])
        isNode = isinstance(value, slicer.vtkMRMLNode)
        self._parameters.setReference(key, value if isNode else None)
        self._parameters.setValue(key, None if isNode or isinstance(value, (tuple, list)) and isInput else value)

    def _update(self) -> None:
        if self._page is None:
            return
        problems = self._page.problems()
        field = self._page.modelField
        if field is not None and field["required"] and not self.model.model:
            problems.append(_("Choose a model."))
        self.machine.trust.setModels([self.model.model if field is not None else "", *self._page.furtherModels()])
        self.run.setProblems(problems)
        self.ui.rerunButton.enabled = not self.run.isRunning
        self.estimate.setPossible(not problems and not self.run.isRunning)

    def _request(self) -> dict[str, Any]:
        """Return what a run would be asked for."""
        model = self.model.model if self._page.modelField is not None else ""
        return {
            "task": self._page.task["name"],
            "inputs": self._page.inputs(),
            "options": self._page.options(),
            "model": model,
            **self.machine.settings(),
        }

    def _pump(self) -> None:
        self._logic.processEvents()
        self._timer.setInterval(_MOVING_MILLISECONDS if self._logic.isMoving else _PUMP_MILLISECONDS)
        if not self._logic.isBusy:
            self._timer.stop()
