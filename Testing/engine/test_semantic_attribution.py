"""Contributions of units and concepts: closed forms, captum, maps that add up, the words, the task."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation, LayerIntegratedGradients
from monai.transforms import EnsureChannelFirst, Rotate90, Spacing
from support.planted_findings import (
    FINDINGS,
    BuiltDetectors,
    finding_batch,
    finding_image,
    flat_grid,
    model_around,
    trained_network,
    write_cohort,
)
from support.prediction_models import session_with
from support.small_networks import SmallClassifier, images, seeded
from xaiengine.app.run import run_job
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.feature_maps import explainable
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.placement import placed
from xaiengine.core.errors import InputError, ModelError
from xaiengine.core.job import Job, Result
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.network.feature_grid import FeatureGrid
from xaiengine.semantics.concept_maps import cell_weights, concept_maps
from xaiengine.semantics.dissection.clustering import cluster_units
from xaiengine.semantics.dissection.store import find_dissection, load_dissection, save_dissection
from xaiengine.semantics.semantic_attribution import (
    METHODS,
    ConceptShare,
    LayerCase,
    UnitContributions,
    concept_shares,
    unit_contributions,
)
from xaiengine.semantics.sentences import findings_sentence, gap_sentence
from xaiengine.targets.targets import ClassTarget

TARGET = ClassTarget(1, "finding")
LAYER = "middle"


def case_of(network, inputs, layer=LAYER, baseline=None, mean=None, target=TARGET, **more) -> LayerCase:
    model = model_around(network, inputs.ndim - 2)
    if mean is None:
        mean = np.zeros(6)
    return LayerCase(model, target, layer, inputs, baseline, mean, **more)


@pytest.fixture(params=[2, 3], ids=["2D", "3D"])
def scene(request):
    """A small network and two samples with a baseline."""
    network = seeded(SmallClassifier, request.param)
    inputs = images((2, 1, *(16,) * request.param))
    return network, inputs, baseline_like(inputs)


def test_conductance_equals_integrated_gradients_at_the_layer(scene):
    """captum integrates along the same straight line in the layer's activations."""
    network, inputs, baseline = scene
    found = unit_contributions("conductance", case_of(network, inputs, baseline=baseline), steps=20)
    with explainable(network):
        forward = TargetForward(network, TARGET)
        expected = LayerIntegratedGradients(forward, network.middle).attribute(
            inputs, baselines=baseline, n_steps=20, method="gausslegendre"
        )
    assert found.values == pytest.approx(expected.flatten(2).sum(2).detach().double().numpy(), abs=1e-5)


def test_conductance_adds_up_to_the_change_of_the_prediction(scene):
    network, inputs, baseline = scene
    found = unit_contributions("conductance", case_of(network, inputs, baseline=baseline))
    with torch.no_grad():
        change = (TARGET.value(network(inputs)) - TARGET.value(network(baseline))).double().numpy()
    assert found.score - found.start == pytest.approx(change, abs=1e-6)
    assert found.relative_gap < 0.02
    assert np.abs(found.gap).max() < 0.02 * np.abs(change).max()
    assert found.gap == pytest.approx(change - found.values.sum(1), abs=1e-9)


def test_gradient_x_activation_equals_captums(scene):
    network, inputs, baseline = scene
    found = unit_contributions("gradient_x_activation", case_of(network, inputs, baseline=baseline))
    with explainable(network):
        forward = TargetForward(network, TARGET)
        expected = LayerGradientXActivation(forward, network.middle).attribute(inputs.requires_grad_())
    assert found.values == pytest.approx(expected.flatten(2).sum(2).detach().double().numpy(), abs=1e-5)


def test_ablation_equals_whole_passes_with_a_hook(scene):
    network, inputs, baseline = scene
    mean = np.linspace(-0.2, 0.6, 6)
    groups = [np.array([0, 3]), np.array([1]), np.array([2, 4, 5])]
    found = unit_contributions("ablation", case_of(network, inputs, baseline=baseline, mean=mean), groups)

    def without(units):
        def hook(module, arguments, output):
            output = output.clone()
            for unit in units:
                output[:, unit] = mean[unit]
            return output

        handle = network.middle.register_forward_hook(hook)
        with torch.no_grad():
            values = TARGET.value(network(inputs)).double().numpy()
        handle.remove()
        return values

    whole = without([])
    singles = np.stack([whole - without([unit]) for unit in range(6)], 1)
    assert found.values == pytest.approx(singles, abs=1e-5)
    assert found.joint == pytest.approx(np.stack([whole - without(units) for units in groups], 1), abs=1e-5)
    assert found.start == pytest.approx(without(range(6)), abs=1e-5)


def test_a_linear_network_has_the_same_contributions_by_every_method():
    """f = Σ over cells of w · y: with a baseline of zero every method gives w · Σ y."""
    network = BuiltDetectors()
    image = finding_image(np.random.default_rng(1), FINDINGS).tensor
    expected = network.head.weight[1].detach().numpy() * network.units(image)[0].flatten(1).sum(1).detach().numpy()
    case = case_of(network, image, "units", baseline=None, mean=np.zeros(4))
    for method in METHODS:
        found = unit_contributions(method, case, [np.arange(4)])
        assert found.values[0] == pytest.approx(expected, rel=1e-4), method
        assert found.relative_gap < 1e-5


def test_the_layer_of_another_dissection_is_refused(scene):
    network, inputs, baseline = scene
    with pytest.raises(ModelError, match="6 units, its dissection 5"):
        case_of(network, inputs, baseline=baseline, mean=np.zeros(5))


def contributions(values) -> UnitContributions:
    values = np.array(values, dtype=float)
    return UnitContributions("conductance", values, values.sum(1), np.zeros(len(values)), np.zeros(len(values)))


def test_shares_are_of_what_spoke_on_the_same_side():
    found = contributions([[3.0, 1.0, -2.0, 0.5, -6.0], [5.0, 1.0, -2.0, 1.5, -6.0]])
    bars = concept_shares(found, ["a", "b", "c"], np.array([0, 0, 1, -1, -1]))
    assert [bar.concept for bar in bars] == ["a", "b", "unlabeled"]
    assert [bar.contribution for bar in bars] == [5.0, -2.0, -5.0]
    assert [bar.share for bar in bars] == pytest.approx([1.0, 2 / 7, 5 / 7])
    assert bars[0].strongest == (0, 1) and bars[0].units == 2
    assert sum(bar.contribution for bar in bars) == pytest.approx(found.values.mean(0).sum())


def test_the_sentence_names_what_spoke_for_and_against():
    bars = [
        ConceptShare("effusion", 3.0, 0.62, 4, ()),
        ConceptShare("nodule", 1.0, 0.2, 2, ()),
        ConceptShare("scar", 0.1, 0.02, 1, ()),
        ConceptShare("air", -2.0, 1.0, 3, ()),
        ConceptShare("unlabeled", 0.8, 0.16, 9, ()),
    ]
    assert findings_sentence("pneumonia", bars) == (
        "Findings that spoke for pneumonia: effusion (62 %), nodule (20 %), units without a known concept (16 %); "
        "against: air (100 %)."
    )
    assert findings_sentence("pneumonia", bars[:1]).endswith("against: none.")
    assert "passes by this layer" in gap_sentence(0.3, 0.25)
    assert gap_sentence(0.001, 0.0) == "The bars miss 0.1 % of the change of the prediction."


@pytest.mark.parametrize(
    ("cells", "voxels", "scale", "offset"),
    [((6, 5), (24, 20), (4.0, 4.0), (1.5, 1.5)), ((3, 4, 5), (9, 12, 11), (3.0, 3.0, 2.2), (0.0, 1.0, 0.6))],
)
def test_maps_add_up_to_the_contributions_of_their_concepts(cells, voxels, scale, offset):
    grid = FeatureGrid(cells, scale, offset, measured=True)
    activation = torch.randn(2, 7, *cells)
    activation[:, 2] = -1.0 - activation[:, 2].abs()  # never on
    activation[:, 3] = 0.5  # the same everywhere
    values = np.random.default_rng(0).standard_normal((2, 7))
    groups = [np.array([0, 2]), np.array([1, 3, 4]), np.array([], dtype=int)]
    maps = concept_maps(activation, values, groups, grid, voxels)
    assert maps.shape == (2, 3, *voxels)
    sums = maps.reshape(2, 3, -1).sum(2)
    assert sums == pytest.approx(np.stack([values[:, units].sum(1) for units in groups], 1), abs=1e-4)
    ones = placed(torch.ones(1, *cells), grid, voxels).sum()
    assert cell_weights(grid, voxels).sum() == pytest.approx(float(ones), rel=1e-5)


@pytest.mark.parametrize("method", ["factorisation", "kmeans"])
def test_units_that_respond_to_the_same_places_form_a_cluster(method):
    generator = np.random.default_rng(3)
    sources = generator.random((3, 400)) ** 6
    truth = generator.integers(0, 3, 40)
    places = sources[truth] * generator.uniform(0.5, 20, (40, 1)) + 0.01 * generator.random((40, 400))
    places[7] = 1.0  # silent
    label, share = cluster_units(torch.as_tensor(places), 3, method, seed=1)
    assert label[7] == -1
    rest = np.delete(np.arange(40), 7)
    pairs = {(truth[unit], label[unit]) for unit in rest}
    assert len(pairs) == 3 and np.bincount(label[rest]).argmax() == 0
    assert share[rest].sum(1) == pytest.approx(np.ones(39))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), finding_batch(np.random.default_rng(21), 24))


def run(output: Path, task: str, model: ExplainedModel, inputs: dict[str, str], **options) -> Result:
    job = Job(task=task, model="planted", inputs=inputs, options=options, output=str(output))
    return run_job(job, session=session_with(model))


@pytest.fixture(scope="module")
def dissected(cohort, tmp_path_factory) -> Path:
    """The dissection of the network whose detectors are built."""
    output = tmp_path_factory.mktemp("dissected")
    result = run(
        output,
        "dissect",
        model_around(BuiltDetectors()),
        {"images": str(cohort)},
        layers=["units"],
        draws=10,
        rolls=8,
        sheet_units=0,
        keep=False,
    )
    assert result.status == "finished", result.error
    return output / "dissection.safetensors"


def scan_of(folder: Path, kinds: tuple[str, ...], grid=None, seed: int = 5) -> tuple[Path, dict[str, np.ndarray]]:
    image = finding_image(np.random.default_rng(seed), kinds)
    path = folder / "scan.nrrd"
    write_volume(path, Volume(image.pixels[..., None], grid or flat_grid((48, 48)), "scan"))
    return path, image.masks


def rows_of(output: Path, role: str) -> list[dict[str, str]]:
    with open(output / f"{role}.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def explained(folder: Path, dissection: Path | str, kinds=FINDINGS, model=None, grid=None, **options) -> Result:
    path, _ = scan_of(folder, kinds, grid)
    inputs = {"volume": str(path), "dissection": str(dissection)}
    return run(folder / "out", "explain-semantics", model or model_around(BuiltDetectors()), inputs, **options)


@pytest.mark.parametrize("method", METHODS)
def test_the_task_says_what_spoke_for_and_against(dissected, tmp_path, method):
    result = explained(tmp_path, dissected, methods=[method], target="finding")
    assert result.status == "finished", result.error
    assert result.values["strongest_for"] == "nodule" and result.values["strongest_against"] == "cavity"
    assert "spoke for finding: nodule" in result.values["sentence"]
    assert "against: cavity" in result.values["sentence"]
    rows = {row["finding"]: row for row in rows_of(tmp_path / "out", "findings")}
    assert rows["nodule"]["speaks"] == "for" and rows["cavity"]["speaks"] == "against"
    assert rows["nodule"]["strongest units"].split()[0] == "0"
    assert result.values["completeness_gap"] < 2
    text = (tmp_path / "out" / "sentence.txt").read_text(encoding="utf-8")
    assert text.startswith(result.values["sentence"])


def test_maps_lie_on_their_findings_in_the_scans_geometry(dissected, tmp_path):
    """The scan is turned and resampled on its way to the network."""
    grid = flat_grid((48, 48), (2.0, 1.0, 1.0)).cropped((3, -9, 0), (48, 48, 1))
    steps = [EnsureChannelFirst(), Spacing((1.0, 1.0, -1.0), mode="bilinear"), Rotate90(1, spatial_axes=(0, 1))]
    model = model_around(BuiltDetectors(), preprocessing=lambda: steps)
    result = explained(tmp_path, dissected, model=model, grid=grid, methods=["conductance"], target="finding")
    assert result.status == "finished", result.error
    _, masks = scan_of(tmp_path, FINDINGS, grid)
    rows = {row["finding"]: row for row in rows_of(tmp_path / "out", "findings")}
    for artifact in result.artifacts:
        if artifact.kind == "volume":
            concept = artifact.name.split(" (")[0]
            volume = read_volume(tmp_path / "out" / artifact.file)
            assert volume.grid.same_as(grid)
            weight = np.abs(volume.array[..., 0])
            assert weight[masks[concept]].sum() > 0.6 * weight.sum()
            assert volume.array.sum() == pytest.approx(float(rows[concept]["conductance"]), rel=0.05)
            assert artifact.units == "logits per voxel"


def test_a_scan_without_findings_has_next_to_nothing_to_say(dissected, tmp_path):
    result = explained(tmp_path, dissected, (), methods=["ablation"], target="finding")
    with_nodule = explained(tmp_path, dissected, ("nodule",), methods=["ablation"], target="finding")
    largest = max(abs(float(row["ablation"])) for row in rows_of(tmp_path / "out", "findings"))
    assert with_nodule.values["strongest_for"] == "nodule" and result.status == "finished"
    assert largest > 10 * abs(result.values["target_value"])


def test_the_dissection_of_other_weights_or_layers_is_refused(dissected, tmp_path):
    other = model_around(BuiltDetectors(), digest="3" * 64)
    result = explained(tmp_path, dissected, model=other)
    assert result.status == "failed" and "weights 111111111111" in result.error.message
    result = explained(tmp_path, dissected, layer="head")
    assert result.status == "failed" and "layer units, not of head" in result.error.message
    result = explained(tmp_path, tmp_path / "absent.safetensors")
    assert result.status == "failed" and "does not exist" in result.error.message


def test_unknown_methods_are_refused(dissected, tmp_path):
    result = explained(tmp_path, dissected, methods=["magic"])
    assert result.status == "failed" and "magic" in result.error.message


def test_damaged_dissections_are_refused(dissected, tmp_path):
    for name in ("dissection.safetensors", "dissection.json"):
        (tmp_path / name).write_bytes((dissected.parent / name).read_bytes())
    words = (tmp_path / "dissection.json").read_text(encoding="utf-8")
    for text, reason in (
        ("{", "cannot be read"),
        (words.replace("xaiengine-dissection-1", "other"), "no dissection that this version"),
        (words.replace("1" * 64, "2" * 64), "different dissections"),
        (words.replace('"nodule",', ""), "do not fit together"),
    ):
        (tmp_path / "dissection.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=reason):
            load_dissection(tmp_path / "dissection.safetensors")


def test_the_latest_dissection_is_found_and_one_beside_the_model(dissected, cohort, tmp_path, monkeypatch):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "bundle"
    folder.mkdir()
    model = replace(model_around(BuiltDetectors()), source=folder)
    assert find_dissection(model) is None
    (folder / "dissections").mkdir()
    save_dissection(folder / "dissections" / "units.safetensors", load_dissection(dissected))
    assert find_dissection(model).layer == "units" and find_dissection(model, layer="head") is None
    inputs = {"images": str(cohort)}
    run(tmp_path / "kept", "dissect", model, inputs, layers=["units"], draws=0, rolls=0, sheet_units=0)
    kept = find_dissection(model)
    assert kept.settings["draws"] == 0
    path, _ = scan_of(tmp_path, FINDINGS)
    result = run(tmp_path / "out", "explain-semantics", model, {"volume": str(path)})
    assert result.status == "finished", result.error
    assert result.provenance["dissection"]["images"] == 24


def test_without_a_dissection_units_are_grouped_in_the_scan_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("XAIENGINE_CACHE", str(tmp_path / "cache"))
    network = BuiltDetectors()
    result = explained(tmp_path, "", model=model_around(network), layer="units", clusters=3, methods=["conductance"])
    assert result.status == "finished", result.error
    assert any("no dissection of units" in text for text in result.warnings)
    assert {row["finding"] for row in rows_of(tmp_path / "out", "findings")} >= {"pattern 1", "unlabeled"}
    assert result.artifact("map").kind == "volume"


def test_cohort_means_can_be_the_baseline(dissected, tmp_path):
    result = explained(tmp_path, dissected, methods=["conductance", "ablation"], baseline="cohort", target="finding")
    rows = {row["method"]: row for row in rows_of(tmp_path / "out", "methods")}
    assert result.status == "finished", result.error
    assert float(rows["Conductance"]["baseline"]) == pytest.approx(float(rows["Ablation"]["baseline"]), rel=1e-4)
    assert float(rows["Conductance"]["passes by the layer"]) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.slow
def test_the_planted_cause_is_named_and_moves_when_it_is_removed(tmp_path):
    """A network trained on labels of whole images; 40 held-out scans with one finding, and with both."""
    model = model_around(trained_network(), learned=True)
    cohort = write_cohort(tmp_path / "cohort", finding_batch(np.random.default_rng(9), 60))
    result = run(tmp_path / "out", "dissect", model, {"images": str(cohort)}, layers=["late"], draws=0, sheet_units=0)
    assert result.status == "finished", result.error
    dissection = load_dissection(tmp_path / "out" / "dissection.safetensors")
    target = ClassTarget(2, "any finding", "logit", "sigmoid")

    def strongest(seed: int, kinds: tuple[str, ...]) -> str:
        inputs = finding_image(np.random.default_rng(seed), kinds).tensor
        case = LayerCase(model, target, "late", inputs, baseline_like(inputs), dissection.mean)
        found = unit_contributions("conductance", case)
        assert found.relative_gap < 0.02
        bars = concept_shares(found, dissection.concepts, dissection.concept_of_unit)
        return max(bars[:-1], key=lambda bar: bar.contribution).concept

    named = moved = 0
    for seed in range(1000, 1040):
        planted = FINDINGS[seed % 2]
        named += strongest(seed, (planted,)) == planted
        first = strongest(seed, FINDINGS)
        (left,) = (kind for kind in FINDINGS if kind != first)
        moved += strongest(seed, (left,)) == left
    assert named >= 36 and moved >= 36
