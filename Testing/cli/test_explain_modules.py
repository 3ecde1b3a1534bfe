"""The modules that explain, by Slicer's own CLI engine, with the real engine and models whose cause is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer
from host.bright_lesion import LESION_HU, SMALL_SHAPE, make_small_patient, write_model
from host.cli_engine import SUPPORTED, CommandLineModule
from PIL import Image
from support.segmentation_bundles import bright_bundle
from xaiengine.app.cli_xml import output_name
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics
from xaiengine.counterfactual.directions.store import DirectionSet
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import read_volume
from xaiengine.tasks import find_task

TESTING = Path(__file__).resolve().parents[1]
PACKAGE = TESTING.parent / "SlicerXAI"
NODES = {"volume": "vtkMRMLScalarVolumeNode", "segmentation": "vtkMRMLLabelMapVolumeNode", "table": "vtkMRMLTableNode"}

ENDINGS = {"image": "png", "data": "safetensors", "sequence": "seq.nrrd"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SUPPORTED, reason="Slicer's CLI engine is reached on Linux only"),
]


def run_module(name: str, task: str, folder: Path, **parameters):
    """Run a module as Slicer does, with a node or a file for each of its outputs."""
    module = CommandLineModule(PACKAGE / name / f"{name}.py")
    outputs = {}
    for item in find_task(task).outputs:
        made = slicer.mrmlScene.AddNewNodeByClass(NODES[item.kind], item.role) if item.kind in NODES else None
        outputs[item.role] = made or folder / f"{item.role}.{ENDINGS.get(item.kind, 'txt')}"
    wanted = {output_name(item): outputs[item.role] for item in find_task(task).outputs}
    node = module.create_node(**parameters, **wanted, output=str(folder / "result"))
    module.run(node)
    return SimpleNamespace(node=node, **outputs)


def result_of(folder: Path) -> dict:
    return json.loads((folder / "result" / "result.json").read_text(encoding="utf-8"))


def finished(run, folder: Path) -> dict:
    assert run.node.GetErrorText() == ""
    assert run.node.GetStatusString() == "Completed"
    result = result_of(folder)
    assert result["status"] == "finished"
    return result


def a_patient():
    scan, *_ = make_small_patient()
    return scan, slicer.util.arrayFromVolume(scan) == LESION_HU


def save_patients(folder: Path, count: int) -> list:
    """Scans as files of a new folder; the nodes with their lesions are returned."""
    folder.mkdir()
    patients = [a_patient() for _ in range(count)]
    for number, (scan, _) in enumerate(patients):
        slicer.util.saveNode(scan, str(folder / f"scan{number}.nrrd"))
    return patients


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> str:
    return str(write_model(tmp_path_factory.mktemp("classifier") / "bright"))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> str:
    return str(bright_bundle(tmp_path_factory.mktemp("segmenter")))


def explain(folder, classifier, scan, **more):
    options = {"methods": ["gradcam", "input_x_gradient"], "baseline": "zero", "target": "lesion", **more}
    return run_module("XAIExplainPrediction", "explain-prediction", folder, volume=scan, model=classifier, **options)


def test_a_prediction_is_explained_and_the_map_checked(scene, tmp_path, classifier):
    scan, lesion = a_patient()
    first = tmp_path / "explained"
    first.mkdir()
    run = explain(first, classifier, scan)
    values = finished(run, first)["values"]
    evidence = slicer.util.arrayFromVolume(run.attribution)
    assert evidence[lesion].mean() > 10 * evidence[~lesion].mean()
    assert run.methods.GetNumberOfRows() == 2
    assert run.node.GetParameterAsString("explained_target") == values["explained_target"] == "logit of lesion"
    assert float(run.node.GetParameterAsString("map_sum")) == pytest.approx(values["map_sum"])
    assert run.picture.read_bytes().startswith(b"\x89PNG")

    second = tmp_path / "checked"
    second.mkdir()
    checked = run_module(
        "XAIEvaluateExplanation",
        "evaluate-explanation",
        second,
        volume=scan,
        model=classifier,
        explanation=run.attribution,
        method="input_x_gradient",
        target="lesion",
        checks=["insertion_deletion", "tiles"],
        most_samples=1,
        steps=6,
        orders=2,
        baseline="zero",
    )
    found = finished(checked, second)
    assert checked.checks.GetNumberOfRows() == int(checked.node.GetParameterAsString("checks_done"))
    assert checked.verdict.read_text(encoding="utf-8").strip() == found["values"]["verdict"]


def test_a_segmentation_is_explained(scene, tmp_path, segmenter):
    voxels = np.random.default_rng(0).normal(0, 0.1, SMALL_SHAPE[::-1]).astype(np.float32)
    voxels[4:8, 6:11, 8:13] += 2.0
    scan = slicer.util.addVolumeFromArray(voxels, name="MR")
    run = run_module(
        "XAIExplainSegmentation",
        "explain-segmentation",
        tmp_path,
        volume=scan,
        model=segmenter,
        methods=["input-x-gradient"],
        receptive_field=False,
    )
    values = finished(run, tmp_path)["values"]
    bright = slicer.util.arrayFromVolume(scan) > 1
    evidence = slicer.util.arrayFromVolume(run.attribution)
    assert np.abs(evidence[bright]).mean() > 10 * np.abs(evidence[~bright]).mean()
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(run.target) > 0, bright)
    assert float(run.node.GetParameterAsString("target_ml")) == pytest.approx(values["target_ml"], rel=1e-4)


def test_a_network_is_dissected_and_its_prediction_worded(scene, tmp_path, classifier):
    """Two scans with their lesions as concept masks; the dissection's file then explains one of them."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    masks.mkdir()
    patients = save_patients(images, 2)
    for number, (_, lesion) in enumerate(patients):
        grid = read_volume(images / f"scan{number}.nrrd").grid
        write_segmentation(
            masks / f"scan{number}.seg.nrrd",
            Segmentation.from_masks([Mask("lesion", lesion.transpose(2, 1, 0))], grid),
        )
    first, second = tmp_path / "dissected", tmp_path / "worded"
    first.mkdir()
    second.mkdir()
    dissected = run_module(
        "XAIDissect",
        "dissect",
        first,
        images=str(images),
        masks=str(masks),
        model=classifier,
        layers=["net.layer_0"],
        draws=20,
        rolls=4,
        sheet_units=2,
    )
    finished(dissected, first)
    assert dissected.concepts.GetNumberOfRows() >= 1

    run = run_module(
        "XAIExplainSemantics",
        "explain-semantics",
        second,
        volume=patients[0][0],
        model=classifier,
        target="lesion",
        dissection=str(dissected.dissection),
        baseline="zero",
        methods=["gradient_x_activation"],
    )
    result = finished(run, second)
    assert run.findings.GetNumberOfRows() >= 1
    assert run.sentence.read_text(encoding="utf-8").startswith(result["values"]["sentence"])


def test_reference_statistics_are_fitted_and_carry_their_model(scene, tmp_path, classifier):
    save_patients(tmp_path / "scans", 2)
    run = run_module(
        "XAIFitReference",
        "fit-reference",
        tmp_path,
        scans=str(tmp_path / "scans"),
        model=classifier,
        layers="net.layer_0",
    )
    result = finished(run, tmp_path)
    assert run.node.GetParameterAsString("samples") == str(2 * SMALL_SHAPE[2])
    assert run.node.GetParameterAsString("scans_read") == "2"
    assert run.scans.GetNumberOfRows() == 2
    fitted = ReferenceStatistics.load(run.reference)
    assert fitted.samples == 2 * SMALL_SHAPE[2] and fitted.mean.shape == (2,)
    assert fitted.metadata["layer"] == "net.layer_0"
    assert fitted.metadata["model"] == result["provenance"]["model"]["digest"]


def test_a_generator_is_trained(scene, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    generator = np.random.default_rng(0)
    for number in range(20):
        row, column = generator.integers(8, 24, 2)
        rows, columns = np.mgrid[:32, :32]
        disk = 40 + 180 * (np.hypot(rows - row, columns - column) < 6)
        Image.fromarray(disk.astype(np.uint8)).save(pictures / f"{number}.png")
    run = run_module(
        "XAITrainGenerator",
        "train-generator",
        tmp_path,
        images=str(pictures),
        size="32",
        code_size="8",
        code_channels=2,
        steps=3,
        batch=4,
        width=4,
        maximum_width=8,
        latent_size=6,
        figures_every=0,
    )
    values = finished(run, tmp_path)["values"]
    assert run.node.GetParameterAsString("steps_done") == str(values["steps_done"]) == "3"
    assert run.samples.read_bytes().startswith(b"\x89PNG")
    assert {"generator.json"} <= {path.name for path in (tmp_path / "result").iterdir()}


def test_directions_of_the_shipped_generator_are_found(scene, tmp_path):
    run = run_module(
        "XAIFindDirections",
        "find-directions",
        tmp_path,
        generator="chest_xray_counterfactual",
        model="chest_xray_consolidation_classifier",
        methods=["covariance", "gradient"],
        samples=100,
        judged=2,
        gradients=20,
    )
    result = finished(run, tmp_path)
    assert run.table.GetNumberOfRows() == 2
    assert run.node.GetParameterAsString("explained_target") == result["values"]["explained_target"]
    found = DirectionSet.load(run.directions)
    assert [direction.method for direction in found.directions] == ["covariance", "gradient"]
    assert found.model_digest == result["provenance"]["model"]["digest"]
    assert found.generator_digest == result["provenance"]["generator"]["digest"]


def test_a_counterfactual_is_made_in_the_scans_place(scene, tmp_path):
    """With the generator and the classifier that come with the extension, on an X-ray that neither has seen."""
    pixels = np.load(TESTING / "data" / "chest_xray_held_out.npz")
    pixels = next(pixels[name] for name in pixels if pixels[name].ndim == 3)[0]
    scan = slicer.util.addVolumeFromArray(pixels[None].astype(np.int16), name="X-ray")
    scan.SetSpacing(4.0, 4.0, 1.0)
    run = run_module(
        "XAICounterfactual",
        "explain-counterfactual",
        tmp_path,
        volume=scan,
        model="chest_xray_consolidation_classifier",
        generator="chest_xray_counterfactual",
        frames=3,
        samples=100,
        steps=5,
        domain_limit=100,
    )
    finished(run, tmp_path)
    assert run.counterfactual.GetSpacing() == scan.GetSpacing()
    assert np.abs(slicer.util.arrayFromVolume(run.difference)).max() > 0
    assert run.frames.GetNumberOfRows() == 3
    assert run.verdict.read_text(encoding="utf-8").strip()
    assert run.film_strip.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"methods": ["gradcam"], "target": "tumor"}, "tumor"), ({"methods": ["no_such_method"]}, "no_such_method")],
)
def test_a_failure_is_told_alike_by_exit_code_message_and_result(scene, tmp_path, classifier, options, reason):
    scan, _ = a_patient()
    run = explain(tmp_path, classifier, scan, **options)
    assert run.node.GetStatusString() == "Completed with errors"
    error = result_of(tmp_path)["error"]
    assert reason in error["message"]
    assert error["message"] in run.node.GetErrorText() and error["remedy"] in run.node.GetErrorText()
    assert run.attribution.GetImageData() is None
