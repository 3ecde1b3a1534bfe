"""What other tasks need, prepared from the console with the real engine: statistics, generators, directions."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
from demo.counterfactual import write_case
from host.bright_lesion import LESION_HU, SMALL_SHAPE, make_small_patient, write_model
from safetensors.torch import load_file, save_file
from SlicerXAILib.EngineErrors import EngineError
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics
from xaiengine.counterfactual.directions.store import DirectionSet

XRAY_MODEL, XRAY_GENERATOR = "chest_xray_consolidation_classifier", "chest_xray_counterfactual"
LAYER = "net.layer_0"
NO_STATISTICS = "There are no reference statistics"
SMALL_GENERATOR = {
    "size": "32",
    "code_size": "8",
    "code_channels": 2,
    "width": 4,
    "maximum_width": 8,
    "latent_size": 6,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine(real_engine):
    return real_engine


@pytest.fixture
def classifier(tmp_path) -> str:
    """A model of which no other test has fitted statistics: they are kept by the digest of its weights."""
    bundle = write_model(tmp_path / "bright")
    weights = bundle / "models" / "model.safetensors"
    state = {name: value * (1 + 1e-6) for name, value in load_file(weights).items()}
    save_file(state, weights)
    return str(bundle)


def cells(table) -> dict[str, list[str]]:
    """The columns of a table node by their names."""
    vtkTable = table.GetTable()
    return {
        vtkTable.GetColumnName(column): [
            vtkTable.GetValue(row, column).ToString() for row in range(vtkTable.GetNumberOfRows())
        ]
        for column in range(vtkTable.GetNumberOfColumns())
    }


def disks(count: int):
    """A volume each axial slice of which holds a disk somewhere in the dark, the last ones as bright as lesions."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    centers = generator.integers(8, 24, (count, 2))
    brightness = np.linspace(-100, LESION_HU, count)
    slices = [
        np.where(np.hypot(rows - row, columns - column) < 6, bright, -800)
        for (row, column), bright in zip(centers, brightness)
    ]
    return slicer.util.addVolumeFromArray(np.stack(slices).astype(np.int16), name="Disks")


def test_statistics_fitted_over_nodes_serve_the_bottleneck_from_then_on(logic, classifier, tmp_path):
    scans = [make_small_patient()[0] for _ in range(2)]
    options = {"methods": "iba", "target": "lesion", "slices": "highest", "layers": LAYER}
    before = logic.explainPrediction(scans[0], classifier, **options)
    assert any(text.startswith(NO_STATISTICS) for text in before.warnings)

    found = logic.fitReference(scans, classifier, layer=LAYER, output=tmp_path / "fitted")
    assert found.values["samples"] == 2 * SMALL_SHAPE[2] and found.values["scans_read"] == 2
    assert [int(count) for count in cells(found.scans)["samples"]] == [SMALL_SHAPE[2]] * 2
    assert found.files["reference"] == tmp_path / "fitted" / "reference.safetensors"
    fitted = ReferenceStatistics.load(found.files["reference"])
    assert fitted.metadata.items() >= {"layer": LAYER, "model": found.provenance["model"]["digest"]}.items()

    after = logic.explainPrediction(scans[0], classifier, **options)
    assert not any(text.startswith(NO_STATISTICS) for text in after.warnings)


def test_a_generator_is_trained_on_the_slices_of_a_node(logic, classifier, tmp_path):
    folder = tmp_path / "generator"
    trained = logic.trainGenerator(
        disks(24), folder, model=classifier, target="lesion", steps=3, batch=4, figures_every=0, **SMALL_GENERATOR
    )
    assert trained.values["steps_done"] == 3 and trained.values["images_used"] == 20
    assert [int(count) for count in cells(trained.images)["images"]] == [24]
    assert [int(step) for step in cells(trained.log)["step"]][-1] == 3
    assert {"generator", "weights", "encoder", "samples"} == set(trained.files)
    assert all(file.is_file() and file.parent == folder for file in trained.files.values())
    assert trained.pictures["samples"].content.startswith(b"\x89PNG")

    # After three steps it makes no image that the model calls a lesion: there is nothing to be found, which is said.
    with pytest.raises(EngineError, match="says the same of all 50 images of the generator"):
        logic.findDirections(folder, classifier, target="lesion", samples=50)


def test_directions_of_the_shipped_generator_serve_a_counterfactual(logic, tmp_path):
    found = logic.findDirections(
        XRAY_GENERATOR, XRAY_MODEL, methods=["covariance", "weights"], samples=60, judged=2, output=tmp_path / "found"
    )
    table = cells(found.table)
    assert table["method"] == ["covariance", "weights"]
    assert found.values["flip_rate"] == float(table["flip_rate"][0])
    directions = DirectionSet.load(found.files["directions"])
    assert directions.generator_digest == found.provenance["generator"]["digest"]
    second = directions.directions[1].name
    assert second == table["direction"][1]

    node = slicer.util.loadVolume(write_case(tmp_path, 1)["volume"])
    expected = logic.estimate("explainCounterfactual", volume=node, model=XRAY_MODEL, generator=XRAY_GENERATOR)
    assert "generated images are shown" in expected["estimate"]
    assert expected["estimated_seconds"] > 0 and expected["estimated_memory_gb"] > 0
    told = logic.explainCounterfactual(
        node, XRAY_MODEL, XRAY_GENERATOR, directions=found.files["directions"], direction=second, frames=3, steps=5
    )
    assert told.provenance["direction"] == second
    assert told.series.GetNumberOfDataNodes() == 3
    assert "reconstruction" in told.verdict.GetText()
