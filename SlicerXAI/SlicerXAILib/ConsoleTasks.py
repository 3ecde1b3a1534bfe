"""The engine's tasks as functions for the console. What they share is in ``XAILogic.call``.

Each takes the nodes that it is about, then every other input and option of its task by name (``options("dissect")``
lists them with units, ranges and defaults), and ``progress``, ``finished``, ``failed``, ``device``, ``seed``,
``trustModel`` and ``show`` as ``call`` does. Each returns a ``LoadedResult``, whose nodes are attributes by their
role, or a ``TaskRun`` where ``finished`` or ``failed`` is given.

Where an input is a segmentation, one of its segments is given as ``(segmentationNode, "name")``, a box as an ROI
node. A point is given as a markup. Files stand for nodes by their path. Models are given by name, folder or file.
"""

from __future__ import annotations

from typing import Any

from .LoadedResult import LoadedResult


class ConsoleTasks:
    """Functions by the names of the tasks."""

    def quantifyLesions(self, volumeNode: Any, model: str | None = None, **arguments: Any) -> LoadedResult:
        """Find and measure lesions in a chest CT. Nodes: attribution, lesions, lungs, table, burden."""
        return self.call("quantify-lesions", volume=volumeNode, model=model or None, **arguments)

    def explainPrediction(self, volumeNode: Any, model: str, **arguments: Any) -> LoadedResult:
        """Show what in a scan a prediction rests on: ``methods=["iba", "gradcam"]``, ``target="lesion"``.

        ``segments=`` gives the shares of structures, ``roi=`` limits occlusion.
        """
        return self.call("explain-prediction", volume=volumeNode, model=model, **arguments)

    def evaluateExplanation(self, volumeNode: Any, model: str, explanation: Any, **arguments: Any) -> LoadedResult:
        """Check whether a map tells the truth about a model; a map of an earlier result knows how it was made."""
        return self.call("evaluate-explanation", volume=volumeNode, model=model, explanation=explanation, **arguments)

    def explainSegmentation(self, volumeNode: Any, model: str | None = None, **arguments: Any) -> LoadedResult:
        """Show what a segmentation model looks at.

        ``target="component", point=markupsNode`` for the structure at a point; ``target="segment"`` with
        ``segmentation=(segmentationNode, "name")`` or an ROI for a region; ``reference=`` for errors. ``roi=`` limits
        occlusion.
        """
        return self.call("explain-segmentation", volume=volumeNode, model=model or None, **arguments)

    def fitReference(self, scans: Any, model: str, **arguments: Any) -> LoadedResult:
        """Fit a model's reference statistics over volumes, a sequence of them, or a folder of scans."""
        return self.call("fit-reference", scans=scans, model=model, **arguments)

    def trainGenerator(self, images: Any, output: Any, **arguments: Any) -> LoadedResult:
        """Train the generator of counterfactual images; the folder ``output`` is the generator then."""
        return self.call("train-generator", images=images, output=output, **arguments)

    def findDirections(self, generator: str, model: str, **arguments: Any) -> LoadedResult:
        """Find the directions in a generator's latent space along which a model's prediction changes."""
        return self.call("find-directions", generator=str(generator), model=model, **arguments)

    def explainCounterfactual(self, volumeNode: Any, model: str, generator: str, **arguments: Any) -> LoadedResult:
        """Show what a scan would look like if the model had said otherwise."""
        return self.call(
            "explain-counterfactual", volume=volumeNode, model=model, generator=str(generator), **arguments
        )

    def dissect(self, images: Any, model: str, **arguments: Any) -> LoadedResult:
        """Find what the units of a network's layer respond to, over images with concept masks.

        ``masks=`` takes segmentation nodes in the order of the images, or a folder.
        """
        return self.call("dissect", images=images, model=model, **arguments)

    def explainSemantics(self, volumeNode: Any, model: str, **arguments: Any) -> LoadedResult:
        """Say which concepts spoke for and against a prediction, with their shares."""
        return self.call("explain-semantics", volume=volumeNode, model=model, **arguments)
