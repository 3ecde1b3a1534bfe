"""Network dissection: built detectors are found, figures equal those of whole maps, two models are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import EnsureChannelFirst, Flip, Resize, Rotate90, Spacing
from support.dissection_runs import COUNT, built, dissect, finished, labels, table
from support.planted_findings import FINDINGS, BuiltDetectors, finding_batch, flat_grid, model_around, write_cohort
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.attribution.placement import placed
from xaiengine.core.job import Job
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import read_segmentation, write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.models.explained_model import ExplainedModel, Inferer
from xaiengine.network.feature_grid import feature_grid


@pytest.fixture(scope="module")
def images():
    return finding_batch(np.random.default_rng(11), COUNT)


@pytest.fixture(scope="module")
def cohort(images, tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), images)


def test_built_detectors_are_found_without_error(cohort, tmp_path):
    result, dissection = finished(tmp_path / "out", cohort, built(), layers=["units"])
    assert labels(dissection)[:3] == ["nodule", "cavity", ""]
    assert dissection.best_iou[0] > 0.5 and dissection.best_iou[1] > 0.5
    assert dissection.dead.tolist() == [False, False, True, False]
    assert result.values["images_used"] == COUNT and result.values["dead_units"] == 1
    assert any("1 of 4 units of units never change" in text for text in result.warnings)
    rows = {row["concept"]: row for row in table(tmp_path / "out", "concepts")}
    assert rows["nodule"]["best unit"] == "0" and rows["cavity"]["best unit"] == "1"
    assert int(rows["nodule"]["images with it"]) == COUNT // 2
    assert float(rows["nodule"]["IoU by chance"]) < dissection.best_iou[0]
    assert not (tmp_path / "out" / "activations").exists()


def plain_dissection(cohort: Path, model: ExplainedModel, layer: str, thresholds: np.ndarray) -> np.ndarray:
    """IoU (U, K) from whole stretched maps, image by image."""
    overlap = union = 0
    for path in sorted((cohort / "images").iterdir()):
        pixels = torch.from_numpy(read_volume(path).array[..., 0].astype(np.float32))[None, None]
        segments = read_segmentation(cohort / "masks" / f"{path.name[:-5]}.seg.nrrd")
        masks = np.stack([segments.mask(kind)[..., 0] for kind in FINDINGS])
        with torch.no_grad():
            cells = model.network.get_submodule(layer)(pixels)[0]
        on = placed(cells, feature_grid(model.network, layer, pixels), pixels.shape[2:]).numpy()
        on = on > thresholds[:, None, None]
        overlap = overlap + (on[:, None] & masks).sum((2, 3))
        union = union + (on[:, None] | masks).sum((2, 3))
    return overlap / union


def test_iou_equals_that_of_whole_maps(cohort, tmp_path):
    _, dissection = finished(tmp_path / "out", cohort, built(), layers=["units"])
    plain = plain_dissection(cohort, built(), "units", dissection.thresholds)
    assert dissection.iou == pytest.approx(plain, abs=1e-9)
    order = [dissection.concepts.index(kind) for kind in FINDINGS]
    assert order == [0, 1]


def test_thresholds_leave_a_hundredth_of_all_voxels_above(cohort, images, tmp_path):
    _, dissection = finished(tmp_path / "out", cohort, built(), layers=["units"])
    assert dissection.rank_error < 1e-3
    assert dissection.area / dissection.voxels == pytest.approx([0.01, 0.01, 0.0, 0.01], abs=1e-3)
    assert dissection.voxels == COUNT * images[0].pixels.size


def test_volumes_are_dissected_like_images(images, tmp_path):
    """Each image becomes a volume whose findings are a few slices thick."""
    folder = tmp_path / "volumes"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    grid = Grid.from_directions((48, 48, 12), (1.0, 1.0, 2.0), np.diag([-1.0, 1.0, 1.0]))
    for number, image in enumerate(images[:8]):
        pixels = np.repeat(0.1 * image.pixels[..., None], 12, axis=2)
        pixels[..., 4:8] = image.pixels[..., None]
        masks = []
        for kind, mask in image.masks.items():
            voxels = np.zeros(grid.shape, bool)
            voxels[..., 4:8] = mask[..., None]
            masks.append(Mask(kind, voxels))
        write_volume(folder / "images" / f"v{number}.nrrd", Volume(pixels, grid))
        write_segmentation(folder / "masks" / f"v{number}.seg.nrrd", Segmentation.from_masks(masks, grid))
    result, dissection = finished(
        tmp_path / "out", folder, model_around(BuiltDetectors(3), 3), layers=["units"], without_masks="nothing there"
    )
    assert labels(dissection)[:3] == ["nodule", "cavity", ""]
    assert result.values["images_used"] == 8


def test_slices_of_volumes_count_for_their_volume(images, tmp_path):
    folder = tmp_path / "stacks"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    grid = Grid.from_directions((48, 48, 4), (1.0, 1.0, 5.0))
    for stack in range(4):
        part = images[4 * stack : 4 * stack + 4]
        pixels = np.stack([image.pixels for image in part], -1)
        masks = [
            Mask(kind, np.stack([image.masks.get(kind, np.zeros((48, 48), bool)) for image in part], -1))
            for kind in FINDINGS
        ]
        write_volume(folder / "images" / f"v{stack}.nrrd", Volume(pixels, grid))
        write_segmentation(folder / "masks" / f"v{stack}.seg.nrrd", Segmentation.from_masks(masks, grid))
    _, dissection = finished(tmp_path / "out", folder, built(), layers=["units"])
    assert labels(dissection)[:2] == ["nodule", "cavity"]
    assert len(dissection.images) == 4 and dissection.voxels == 16 * 48 * 48
    assert dissection.concept_images.tolist() == [4, 4]


@pytest.mark.parametrize(
    "transforms",
    [
        [EnsureChannelFirst(), Flip(0), Rotate90(1, spatial_axes=(0, 1))],
        [EnsureChannelFirst(), Spacing((1.0, 1.0, -1.0), mode="bilinear")],
        [EnsureChannelFirst(), Resize((96, 64, -1), mode="bilinear")],
    ],
    ids=["turned", "resampled", "resized"],
)
def test_masks_follow_the_preprocessing(images, tmp_path, transforms):
    """Findings lie on one side of the image, so that a mask turned the wrong way would miss them."""
    grid = flat_grid((48, 48), (2.0, 1.0, 1.0))
    cohort = write_cohort(tmp_path / "cohort", images, grid)
    _, dissection = finished(tmp_path / "out", cohort, built(preprocessing=lambda: transforms), layers=["units"])
    assert labels(dissection)[:2] == ["nodule", "cavity"]
    assert dissection.best_iou[:2].min() > 0.4


def test_two_models_are_compared(cohort, tmp_path):
    """The second model has lost its detector of cavities, and its first unit sees both findings' edges."""
    other = BuiltDetectors()
    with torch.no_grad():
        other.units[0].weight[1].zero_()
    second = model_around(other, digest="2" * 64)
    finished(tmp_path / "second", cohort, second, layers=["units"])
    inputs = {"earlier": str(tmp_path / "second" / "dissection.json")}
    result, dissection = finished(tmp_path / "out", cohort, built(), inputs, layers=["units"])
    rows = {row["concept"]: row for row in table(tmp_path / "out", "comparison")}
    assert rows["cavity"]["verdict"] == "vanishes" and rows["cavity"]["first units"] == "1"
    assert float(rows["cavity"]["change"]) == -0.25
    assert float(rows["cavity"]["low"]) <= -0.25 <= float(rows["cavity"]["high"])
    assert rows["nodule"]["verdict"] == "no clear change" and rows["nodule"]["same images"] == "yes"
    assert result.artifact("comparison-chart").kind == "plot"


def test_two_models_given_together_are_compared(cohort, tmp_path):
    models = {"one": built(), "two": model_around(BuiltDetectors(pool=4), digest="2" * 64)}
    session = session_with(None)
    session.model = lambda name, device, trust=False: models[name]
    inputs = {"images": str(cohort), "second_model": "two"}
    job = Job(
        task="dissect",
        model="one",
        inputs=inputs,
        options={"layers": ["units"], "draws": 10, "rolls": 0},
        output=str(tmp_path / "out"),
    )
    result = run_job(job, session=session)
    assert result.status == "finished", result.error
    assert {row["concept"] for row in table(tmp_path / "out", "comparison")} == set(FINDINGS)


def test_without_masks_units_are_grouped_by_what_they_respond_to(cohort, tmp_path):
    """Two pairs of units, each pair responding to one kind of finding."""
    network = BuiltDetectors()
    with torch.no_grad():
        weight, bias = network.units[0].weight, network.units[0].bias
        weight[2], bias[2] = 0.5 * weight[0], 0.5 * bias[0]
        weight[3], bias[3] = 2.0 * weight[1], 2.0 * bias[1]
    for method in ("factorisation", "kmeans"):
        result, dissection = finished(
            tmp_path / method,
            cohort / "images",
            model_around(network),
            layers=["units"],
            clusters=2,
            cluster_method=method,
            sheet_units=4,
        )
        groups = dissection.concept_of_unit
        assert groups[0] == groups[2] != groups[1] == groups[3]
        assert dissection.kind == "clusters" and dissection.concepts == ("pattern 1", "pattern 2")


def test_more_clusters_than_units_are_refused(cohort, tmp_path):
    result = dissect(tmp_path / "out", cohort / "images", built(), layers=["units"], clusters=9)
    assert result.status == "failed" and "Only 3 units respond" in result.error.message


def test_segmentation_networks_are_dissected_in_their_windows(images, tmp_path):
    from dataclasses import replace

    grid = Grid.from_directions((48, 48, 8), (1.0, 1.0, 1.0))
    image = images[3]
    pixels = np.repeat(image.pixels[..., None], 8, axis=2)
    masks = [Mask(kind, np.repeat(mask[..., None], 8, axis=2)) for kind, mask in image.masks.items()]
    write_volume(tmp_path / "v.nrrd", Volume(pixels, grid))
    write_segmentation(tmp_path / "v.seg.nrrd", Segmentation.from_masks(masks, grid))
    inferer = Inferer("sliding_window", roi_size=(24, 24, 8))
    model = replace(model_around(BuiltDetectors(3), 3), task="segmentation", inferer=inferer)
    _, dissection = finished(tmp_path / "out", tmp_path, model, layers=["units"])
    assert dissection.voxels == 48 * 48 * 8 and labels(dissection)[:2] == ["nodule", "cavity"]


def test_the_estimate_is_given_without_the_work(cohort, tmp_path):
    job = Job(
        task="dissect",
        model="planted",
        inputs={"images": str(cohort)},
        options={"layers": ["units"]},
        output=str(tmp_path / "out"),
        only_estimate=True,
    )
    result = run_job(job, session=session_with(built()))
    assert result.status == "finished" and result.artifacts == []
    assert "GB of disk" in result.values["estimate"]


def test_the_stored_dissection_is_plain_json_and_safetensors(cohort, tmp_path):
    _, dissection = finished(tmp_path / "out", cohort, built(), layers=["units"])
    words = json.loads((tmp_path / "out" / "dissection.json").read_text(encoding="utf-8"))
    assert words["layer"] == "units" and words["model_digest"] == "1" * 64 and words["concepts"] == list(FINDINGS)
    assert dissection.images == tuple(f"scan{number:03d}" for number in range(COUNT))
