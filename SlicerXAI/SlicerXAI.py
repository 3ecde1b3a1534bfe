"""SlicerXAI: why a deep-learning model says what it says about a scan."""

import slicer
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
        parent.categories = [translate("qSlicerAbstractCoreModule", "Explainable AI")]
        parent.dependencies = ["Segmentations", "Sequences", "Tables", "Plots", "SubjectHierarchy"]
        parent.contributors = ["SlicerXAI contributors"]
        parent.helpText = _(
            "Explains what a deep-learning model says about a scan: heat maps in the patient's geometry, "
            "segmented lesions, tables. For research, not for diagnosis."
        )
        parent.acknowledgementText = _("The methods' authors are named in the documentation of each task.")


class SlicerXAIWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        self.logic = None
        self.panel = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from SlicerXAILib.Widgets.QuantifyLesionsPanel import QuantifyLesionsPanel

        self.logic = SlicerXAILogic()
        self.panel = QuantifyLesionsPanel(self.logic, self.layout)
        self.layout.addStretch(1)

    def cleanup(self):
        if self.logic is not None:
            self.panel.cleanup()
            self.logic.close()


class SlicerXAILogic(ScriptedLoadableModuleLogic, XAILogic):
    """``slicer.util.getModuleLogic("SlicerXAI").quantifyLesions(volumeNode)`` and siblings."""

    def __init__(self, engine=None):
        ScriptedLoadableModuleLogic.__init__(self)
        XAILogic.__init__(self, engine)


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
