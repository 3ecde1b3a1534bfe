"""XAIQuantifyLesions by Slicer's own CLI engine, with the real engine and a model whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from host.bright_lesion import LESION_HU, LESION_RADIUS_MM, make_patient, write_model
from host.cli_engine import SUPPORTED, CommandLineModule

SCRIPT = Path(__file__).resolve().parents[2] / "SlicerXAI" / "XAIQuantifyLesions" / "XAIQuantifyLesions.py"
SHAPE = (28, 30, 32)
LESION_ML = 4 / 3 * np.pi * LESION_RADIUS_MM**3 / 1000


def lungsAsLabels(segmentation, scan):
    """The lungs as the label map that a CLI module is given."""
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Lung labels")
    slicer.modules.segmentations.logic().ExportAllSegmentsToLabelmapNode(segmentation, labels)
    return labels


@pytest.mark.slow
@pytest.mark.skipif(not SUPPORTED, reason="Slicer's CLI engine is reached on Linux only")
def test_lesions_and_their_burden_come_back_to_slicer(scene, tmp_path):
    ijkToRas = np.diag([-6.0, -6.0, 6.0, 1.0])
    ijkToRas[:3, 3] = [80.0, 85.0, -90.0]
    center = (ijkToRas @ [*((np.array(SHAPE) - 1) / 2), 1.0])[:3] + [20.0, -12.0, 16.0]
    scan, lungs = make_patient(ijkToRas, SHAPE, center)
    module = CommandLineModule(SCRIPT)
    lesions = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "lesions")
    attribution = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "map")
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "table")
    run = module.create_node(
        volume=scan,
        lungs=lungsAsLabels(lungs, scan),
        model=str(write_model(tmp_path / "bright")),
        method="grad-cam",
        threshold_method="otsu",
        output_lesions=lesions,
        output_attribution=attribution,
        output_table=table,
    )
    module.run(run)
    assert run.GetErrorText() == ""
    assert run.GetStatusString() == "Completed"
    # Voxels of 6 mm blur the ball's rim, so that less than its whole volume is bright.
    assert 0.4 < float(run.GetParameterAsString("burden_ml")) / LESION_ML < 1.1
    assert run.GetParameterAsString("severity") == ""  # the model asks for no grading
    assert run.GetParameterAsString("lesion_count") == "1"
    assert table.GetNumberOfRows() == 1
    truth = slicer.util.arrayFromVolume(scan) == LESION_HU
    found = slicer.util.arrayFromVolume(lesions) > 0
    assert (found & ~truth).sum() == 0
    assert found.sum() > 0.4 * truth.sum()
    evidence = slicer.util.arrayFromVolume(attribution)
    assert evidence[truth].mean() > 20 * evidence[~truth].mean()
