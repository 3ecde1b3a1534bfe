"""The console with the real engine: every kind of input reaches it, what it finds lies where the input lay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicer
from demo.counterfactual import write_case
from host.bright_lesion import LESION_HU, SMALL_SHAPE, make_small_patient, write_model
from SlicerXAILib.EngineErrors import EngineError
from support.segmentation_bundles import bright_bundle

DATA = Path(__file__).resolve().parents[1] / "data"
BLOCK_KJI = (slice(4, 8), slice(6, 11), slice(8, 13))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(real_engine):
    return real_engine


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    return str(write_model(tmp_path_factory.mktemp("classifier") / "bright"))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> str:
    return str(bright_bundle(tmp_path_factory.mktemp("segmenter")))


def two_blocks():
    """A scan in which the segmenter finds two blocks, and where they are."""
    voxels = np.random.default_rng(0).normal(0, 0.1, SMALL_SHAPE[::-1]).astype(np.float32)
    first, second = np.zeros((2, *voxels.shape), bool)
    first[BLOCK_KJI] = True
    second[9:11, 1:4, 1:5] = True
    voxels[first | second] += 2.0
    scan = slicer.util.addVolumeFromArray(voxels, name="MR")
    ijkToRas = np.diag([-1.5, -1.5, 2.0, 1.0])
    ijkToRas[:3, 3] = [10.0, 20.0, 30.0]
    scan.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRas))
    return scan, first, second, ijkToRas


def labels_of(node, scan):
    names = node.GetSegmentation()
    found = [
        slicer.util.arrayFromSegmentBinaryLabelmap(node, names.GetNthSegmentID(index), scan) > 0
        for index in range(names.GetNumberOfSegments())
    ]
    return found


def test_a_prediction_is_explained_checked_told_and_made_again(logic, classifier, tmp_path):
    scan, lungs, center = make_small_patient()
    box = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Box")
    box.SetCenter(*center)
    box.SetSize(60, 60, 60)
    options = {"methods": ["input_x_gradient", "occlusion"], "baseline": "zero", "target": "lesion"}
    found = logic.explainPrediction(scan, classifier, segments=lungs, roi=box, **options)
    evidence = slicer.util.arrayFromVolume(found.attribution)
    lesion = slicer.util.arrayFromVolume(scan) == LESION_HU
    assert evidence[lesion].mean() > 10 * evidence[~lesion].mean()
    assert found.regions.GetNumberOfRows() >= 1

    checked = logic.evaluateExplanation(
        scan, classifier, found.attribution, checks="tiles", most_samples=1, steps=6, orders=2
    )
    # The map has told by itself which method and options made it.
    assert checked.provenance["method"] == "input_x_gradient"
    assert checked.values["checks_done"] == 1

    page = logic.writeReport([found.attribution, checked.checks], tmp_path / "report.html").read_text("utf-8")
    assert checked.values["verdict"].split(":")[0] in page and page.count("<img alt=") == 2

    again = logic.rerun(found.attribution)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(again.attribution), evidence)
    assert again.attribution.GetName() == f"{found.attribution.GetName()} 2"


def test_the_structure_at_a_point_is_explained_also_under_a_transform(logic, segmenter):
    scan, first, _second, ijkToRas = two_blocks()
    point = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "Here")
    point.AddControlPoint(*(ijkToRas @ [10, 8, 5, 1.0])[:3])
    options = {"target": "component", "methods": "input-x-gradient", "receptive_field": False}
    found = logic.explainSegmentation(scan, segmenter, point=point, **options)
    explained = labels_of(found.nodes["target"], scan)
    assert any(np.array_equal(mask, first) for mask in explained)

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "Registration")
    matrix = np.eye(4)
    matrix[:3, 3] = [100.0, -50.0, 25.0]
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    for node in (scan, point):
        node.SetAndObserveTransformNodeID(transform.GetID())
    moved = logic.explainSegmentation(scan, segmenter, point=point, **options)
    np.testing.assert_array_equal(
        slicer.util.arrayFromVolume(moved.attribution), slicer.util.arrayFromVolume(found.attribution)
    )
    assert moved.attribution.GetOrigin() == pytest.approx(np.add(found.attribution.GetOrigin(), matrix[:3, 3]))
    assert sum("Registration" in text for text in moved.warnings) == 2


def test_a_segment_alone_limits_the_target(logic, segmenter):
    scan, first, second, _ = two_blocks()
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Parts")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    for name, mask in (("first", first), ("second", second)):
        identity = segmentation.GetSegmentation().AddEmptySegment("", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, identity, scan)
    found = logic.explainSegmentation(
        scan,
        segmenter,
        target="segment",
        segmentation=(segmentation, "second"),
        methods="input-x-gradient",
        receptive_field=False,
    )
    evidence = np.abs(slicer.util.arrayFromVolume(found.attribution))
    assert evidence[second].min() > 0 and evidence[first].max() == 0


def test_a_model_is_known_and_a_run_estimated_before_it(logic, segmenter):
    report = logic.inspectModel(segmenter)
    assert report["labels"] == ["background", "bright"] and report["task"] == "segmentation"
    scan, *_ = two_blocks()
    before = slicer.mrmlScene.GetNumberOfNodes()
    expected = logic.estimate("explainSegmentation", volume=scan, model=segmenter, methods="saliency")
    assert expected["estimated_seconds"] > 0 and expected["estimated_memory_gb"] > 0
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_what_the_engine_refuses_is_said_with_what_there_is(logic, segmenter):
    scan, *_ = two_blocks()
    with pytest.raises(EngineError, match="'liver'.*0 background, 1 bright"):
        logic.explainSegmentation(scan, segmenter, classes="liver")


def test_a_network_is_dissected_and_a_prediction_told_by_its_concepts(logic, tmp_path):
    scan = slicer.util.loadVolume(str(DATA / "chest_cta.nrrd"))
    output, classifier = tmp_path / "dissected", "lung_lesion_slice_classifier"
    found = logic.dissect([scan], model=classifier, clusters=3, most_slices=8, output=str(output))
    assert (output / "dissection.safetensors").is_file()
    assert found.nodes
    told = logic.explainSemantics(
        scan, model=classifier, target="lesion", slices="highest", dissection=str(output / "dissection.safetensors")
    )
    assert "lesion" in told.values["sentence"]


def test_an_x_ray_gets_the_wanted_prediction(logic, tmp_path):
    node = slicer.util.loadVolume(write_case(tmp_path, 1)["volume"])
    found = logic.explainCounterfactual(
        node, model="chest_xray_consolidation_classifier", generator="chest_xray_counterfactual", wanted=0.2
    )
    assert found.values["counterfactual_prediction"] == pytest.approx(0.2, abs=0.05)
