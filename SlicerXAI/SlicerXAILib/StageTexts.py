"""What the engine says it is doing, in the language of the application.

No file of Slicer's holds these words; they are named here so that Slicer finds them.
"""

from __future__ import annotations

from .Translation import tr as _


def stageText(stage: str) -> str:
    """Return what a stage of a job is called; the name of a method is its own."""
    known = {
        "Asking the model of generated images": _("Asking the model of generated images"),
        "Changing the image": _("Changing the image"),
        "Explaining": _("Explaining"),
        "Explaining the slices": _("Explaining the slices"),
        "Finding directions": _("Finding directions"),
        "Finding the lungs": _("Finding the lungs"),
        "Judging directions": _("Judging directions"),
        "Measuring": _("Measuring"),
        "Measuring the uncertainty": _("Measuring the uncertainty"),
        "Correcting the errors": _("Correcting the errors"),
        "Preparing": _("Preparing"),
        "Preparing the explanation": _("Preparing the explanation"),
        "Preparing the scan": _("Preparing the scan"),
        "Reading the images": _("Reading the images"),
        "Reading the scan": _("Reading the scan"),
        "Reading the scans": _("Reading the scans"),
        "Reading the slices": _("Reading the slices"),
        "Rebuilding the image": _("Rebuilding the image"),
        "Segmenting the scan": _("Segmenting the scan"),
        "Training": _("Training"),
        "Writing": _("Writing"),
    }
    return known.get(stage, stage)
