"""SlicerXAI: why a deep-learning model says what it says about a scan."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from SlicerXAILib.Logic import XAILogic


class SlicerXAI(ScriptedLoadableModule):
    """What the module is called and where it stands in the module list."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("SlicerXAI")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Analysis")]
        parent.dependencies = ["Segmentations", "Sequences", "Tables", "Plots", "SubjectHierarchy"]
        parent.contributors = ["SlicerXAI contributors"]
        parent.helpText = _(
            "<p>Shows why a deep-learning model says what it says about a scan: heat maps in the patient's geometry, "
            "lesions found by a classifier's evidence, what a segmentation looks at, what would change a prediction, "
            "and checks of all that.</p>"
            "<p>Choose a scan, a task and a model, then click Apply; every option has a tool tip. Sample Data offers "
            "scans to try it with.</p>"
            "<p>For research, not for diagnosis.</p>"
            "<p><a href='https://github.com/SlicerXAI/SlicerXAI#readme'>Documentation</a>, "
            "<a href='https://github.com/SlicerXAI/SlicerXAI/issues'>questions and problems</a></p>"
        )
        parent.acknowledgementText = _(
            "<p>If it helps your work, cite SlicerXAI and the methods that you used:</p><ul>"
            "<li>information bottleneck: Schulz et al., ICLR 2020, arXiv 2001.00396; Khakzar et al., MICCAI 2021, "
            "arXiv 2104.00411</li>"
            "<li>lesions from a classifier: Demir et al., MLMI 2021, arXiv 2104.02869</li>"
            "<li>segmentation models: Chatterjee et al., Applied Sciences 12:1834, arXiv 2110.08429</li>"
            "<li>semantics: Bau et al., CVPR 2017; Khakzar et al., MICCAI 2021, arXiv 2104.02481</li>"
            "<li>counterfactuals: Schutte et al. 2021, arXiv 2101.07563; Karras et al., CVPR 2020, arXiv "
            "1912.04958</li></ul>"
            "<p>The <a href='https://github.com/SlicerXAI/SlicerXAI#how-to-cite-and-sources'>documentation</a> names "
            "the other sources, and where models and scans come from.</p>"
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Offer the scans that come with the extension in the Sample Data module."""
    from SlicerXAILib.SampleScans import registerSampleScans

    registerSampleScans()


class SlicerXAIFileReader:
    """Results of the engine open like any other data: by drag and drop, or in Add Data."""

    def __init__(self, parent):
        self.parent = parent

    def description(self):
        return _("SlicerXAI result")

    def fileType(self):
        return "XAIResult"

    def extensions(self):
        return [_("SlicerXAI result") + " (*.xai.json)", _("SlicerXAI result") + " (*result.json)"]

    def canLoadFileConfidence(self, filePath):
        from SlicerXAILib.ResultFileReader import readingConfidence

        return readingConfidence(filePath)

    def canLoadFile(self, filePath):
        return self.canLoadFileConfidence(filePath) > 0.0

    def load(self, properties):
        from SlicerXAILib.EngineErrors import EngineError
        from SlicerXAILib.ResultFileReader import openResult

        try:
            nodes = openResult(properties["fileName"])
        except EngineError as error:
            self.parent.userMessages().AddMessage(vtk.vtkCommand.ErrorEvent, str(error))
            return False
        self.parent.loadedNodes = [node.GetID() for node in nodes]
        return True


class SlicerXAIWidget(ScriptedLoadableModuleWidget):
    """The module's panel. It follows the scene: closing it ends the engine, opening one brings its settings."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic = None
        self.panel = None
        self._observations = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from SlicerXAILib.Widgets.Panel import Panel

        widget = slicer.util.loadUI(self.resourcePath("UI/SlicerXAI.ui"))
        self.layout.addWidget(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = SlicerXAILogic()
        self.panel = Panel(slicer.util.childWidgetVariables(widget), widget, self.logic, self.logic.getParameterNode())
        self.layout.addStretch(1)
        scene = slicer.mrmlScene
        for event in (scene.StartCloseEvent, scene.StartImportEvent):
            self._observations.append(scene.AddObserver(event, self._onSceneChanging))
        self._observations.append(scene.AddObserver(scene.EndCloseEvent, self._onSceneClosed))
        self._observations.append(scene.AddObserver(scene.EndImportEvent, self._onSceneChanged))
        self._observations.append(scene.AddObserver(scene.NodeAddedEvent, self._onNodeAdded))
        self._observations.append(scene.AddObserver(scene.NodeRemovedEvent, self._onNodeRemoved))

    def enter(self):
        self.panel.setActive(True)

    def exit(self):
        self.panel.setActive(False)

    def cleanup(self):
        for tag in self._observations:
            slicer.mrmlScene.RemoveObserver(tag)
        self._observations = []
        if self.panel is not None:
            self.panel.close()
        if self.logic is not None:
            self.logic.close()

    def _onNodeAdded(self, scene, _event):
        # A moment later, when it is known what the node is.
        if not scene.IsBatchProcessing():
            self.panel.suggestScanSoon()
            self.panel.results.followSoon()

    def _onNodeRemoved(self, scene, _event):
        if not scene.IsClosing():
            self.panel.results.followSoon()

    def _onSceneClosed(self, scene, event):
        # An engine is started again by the next click, not by an empty scene.
        self.panel.setParameterNodeSoon(self.logic.getParameterNode, self.panel.model.rest)

    def _onSceneChanging(self, _scene, _event):
        self.panel.holdParameters()

    def _onSceneChanged(self, _scene, _event):
        # A moment later: node selectors made after this observer learn of the scene's nodes after it.
        if not slicer.mrmlScene.IsClosing():
            self.panel.setParameterNodeSoon(self.logic.getParameterNode)


class SlicerXAILogic(XAILogic, ScriptedLoadableModuleLogic):
    """``slicer.util.getModuleLogic("SlicerXAI").quantifyLesions(volumeNode)`` and siblings."""

    def __init__(self, engine=None):
        # In this order of bases Slicer's class, which hands on to the next base, does not initialize ours again.
        XAILogic.__init__(self, engine)
        ScriptedLoadableModuleLogic.__init__(self)


class SlicerXAITest(ScriptedLoadableModuleTest):
    """Self test: a result folder becomes nodes under its scan. It needs neither torch nor network."""

    def setUp(self):
        slicer.mrmlScene.Clear(False)

    def runTest(self):
        self.setUp()
        self.test_resultBecomesNodes()

    def test_resultBecomesNodes(self):
        from SlicerXAILib.SelfTest import checkResultBecomesNodes

        checkResultBecomesNodes(slicer.app.temporaryPath)
        self.delayDisplay(_("Test passed"))
