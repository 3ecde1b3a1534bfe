"""The task dissect: known detectors, folders of every layout, bad input, comparison of two models."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from engine.planted_findings import (
    FINDINGS,
    BuiltDetectors,
    finding_batch,
    flat_grid,
    model_around,
    write_cohort,
)
from engine.prediction_models import session_with
from monai.transforms import EnsureChannelFirst, Flip, Resize, Rotate90, ScaleIntensity, Spacing
from PIL import Image
from torch import nn
from xaiengine.attribution.placement import placed
from xaiengine.feature_grid import feature_grid
from xaiengine.grid import Grid
from xaiengine.job import Job, Result
from xaiengine.models.explained_model import ExplainedModel, Inferer
from xaiengine.run import run_job
from xaiengine.segmentation import Mask, Segmentation, read_segmentation, write_segmentation
from xaiengine.semantics.dissection import Dissection
from xaiengine.semantics.store import load_dissection
from xaiengine.terminology import MASS
from xaiengine.volume import Volume, read_volume, write_volume

COUNT = 24


@pytest.fixture(scope="module")
def images():
    return finding_batch(np.random.default_rng(11), COUNT)


@pytest.fixture(scope="module")
def cohort(images, tmp_path_factory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), images)


@pytest.fixture
def changed(cohort, tmp_path) -> Path:
    """A copy of the cohort that a test may spoil."""
    return Path(shutil.copytree(cohort, tmp_path / "changed"))


def built(**more) -> ExplainedModel:
    return model_around(BuiltDetectors(), **more)


def dissect(
    output: Path, images: Path, model: ExplainedModel, inputs: dict[str, str] | None = None, **options
) -> Result:
    options = {"draws": 20, "rolls": 8, "sheet_units": 0, **options}
    inputs = {"images": str(images), **(inputs or {})}
    job = Job(task="dissect", model="planted", inputs=inputs, options=options, output=str(output))
    return run_job(job, session=session_with(model))


def finished(output: Path, images: Path, model: ExplainedModel, *arguments, **options) -> tuple[Result, Dissection]:
    result = dissect(output, images, model, *arguments, **options)
    assert result.status == "finished", result.error
    return result, load_dissection(output / "dissection.safetensors")


def table(output: Path, role: str) -> list[dict[str, str]]:
    with open(output / f"{role}.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def labels(dissection: Dissection) -> list[str]:
    return [dissection.concepts[number] if number >= 0 else "" for number in dissection.concept_of_unit]


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


def picture_cohort(folder: Path, images, scale: int = 1) -> Path:
    (folder / "images").mkdir(parents=True)
    for number, image in enumerate(images):
        gray = np.clip(128 + 60 * image.pixels, 0, 255).astype(np.uint8)
        Image.fromarray(gray.T).save(folder / "images" / f"x{number:02d}.png")
        for kind, mask in image.masks.items():
            (folder / "masks" / kind).mkdir(parents=True, exist_ok=True)
            pixels = np.kron(mask.T, np.ones((scale, scale))).astype(np.uint8) * 255
            Image.fromarray(pixels).save(folder / "masks" / kind / f"x{number:02d}.png")
    return folder


@pytest.mark.parametrize("scale", [1, 3])
def test_pictures_with_a_folder_of_masks_for_each_concept(images, tmp_path, scale):
    folder = picture_cohort(tmp_path / "pictures", images, scale)
    model = built(preprocessing=lambda: [EnsureChannelFirst(), ScaleIntensity(-2.1, 2.1)])
    result, dissection = finished(
        tmp_path / "out", folder, model, layers=["units"], without_masks="nothing there", sheet_units=4
    )
    assert sorted(dissection.concepts) == sorted(FINDINGS)
    assert set(labels(dissection)[:2]) == set(FINDINGS)
    assert any("another geometry" in text for text in result.warnings) == (scale > 1)
    assert Image.open(tmp_path / "out" / "sheet.png").size[0] > 300


def test_label_maps_with_a_table_of_names_and_a_list_of_pairs(images, tmp_path):
    (tmp_path / "other").mkdir()
    rows = ["image,mask"]
    for number, image in enumerate(images):
        grid = flat_grid((48, 48))
        labels_ = np.zeros((48, 48, 1), np.uint8)
        for value, kind in ((3, "nodule"), (7, "cavity")):
            labels_[image.masks.get(kind, np.zeros((48, 48), bool))] = value
        write_volume(tmp_path / f"scan{number}.nrrd", Volume(image.pixels[..., None], grid))
        write_volume(tmp_path / "other" / f"marks{number}.nrrd", Volume(labels_, grid))
        if labels_.any():
            rows.append(f"scan{number}.nrrd,other/marks{number}.nrrd")
    (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "labels.csv").write_text("value,name\n3,Nodule\n7,Cavity\n", encoding="utf-8")
    inputs = {"pairs": str(tmp_path / "pairs.csv")}
    _, dissection = finished(tmp_path / "out", tmp_path, built(), inputs, layers=["units"])
    assert dissection.concepts == ("Nodule", "Cavity") and labels(dissection)[:2] == ["Nodule", "Cavity"]
    assert len(dissection.images) == len(rows) - 1


@pytest.mark.parametrize("unit", ["pixels", "mm"])
def test_boxes(images, tmp_path, unit):
    grid = flat_grid((48, 48), (0.5, 2.0, 1.0))
    rows = ["image,concept,x0,y0,x1,y1"]
    for number, image in enumerate(images):
        write_volume(tmp_path / f"scan{number}.nrrd", Volume(image.pixels[..., None], grid))
        for kind, mask in image.masks.items():
            low, high = np.argwhere(mask).min(0), np.argwhere(mask).max(0) + 1
            steps = np.array(grid.spacing[:2]) if unit == "mm" else 1
            ends = [*(low * steps), *(high * steps)]
            rows.append(f"scan{number},{kind}," + ",".join(f"{end:g}" for end in ends))
    (tmp_path / "boxes.csv").write_text("\n".join(rows), encoding="utf-8")
    inputs = {"boxes": str(tmp_path / "boxes.csv")}
    _, dissection = finished(tmp_path / "out", tmp_path, built(), inputs, layers=["units"], box_unit=unit)
    boxed = sum(np.prod(np.ptp(np.argwhere(mask), axis=0) + 1) for image in images for mask in image.masks.values())
    assert dissection.concept_voxels.sum() == boxed
    assert labels(dissection)[:2] == ["nodule", "cavity"]


def test_concepts_by_terminology_and_by_choice(images, tmp_path):
    for number, image in enumerate(images[:8]):
        grid = flat_grid((48, 48))
        mask = image.masks.get("nodule", np.zeros((48, 48), bool))[..., None]
        write_volume(tmp_path / f"s{number}.nrrd", Volume(image.pixels[..., None], grid))
        masks = [Mask(f"thing {number}", mask, terminology=MASS), Mask("rest", ~mask)]
        write_segmentation(tmp_path / f"s{number}.seg.nrrd", Segmentation.from_masks(masks, grid))
    result, dissection = finished(
        tmp_path / "out", tmp_path, built(), layers=["units"], naming="terminology", concepts=["SCT:4147007", "spleen"]
    )
    assert dissection.concepts == ("mass",) and dissection.codes == ("SCT:4147007",)
    assert labels(dissection)[0] == "mass"
    assert any("spleen is in none of the images" in text for text in result.warnings)
    assert any("one concept only" in text for text in result.warnings)


def test_images_that_cannot_be_read_are_listed_and_counted(changed, tmp_path):
    (changed / "images" / "scan001.nrrd").write_text("no image", encoding="utf-8")
    (changed / "masks" / "scan002.seg.nrrd").unlink()
    far = flat_grid((48, 48)).cropped((500, 0, 0), (48, 48, 1))
    mask = [Mask("nodule", np.ones(far.shape, bool))]
    write_segmentation(changed / "masks" / "scan003.seg.nrrd", Segmentation.from_masks(mask, far))
    result, dissection = finished(tmp_path / "out", changed, built(), layers=["units"])
    assert result.values["images_used"] == COUNT - 3 and result.values["images_skipped"] == 3
    notes = {row["image"]: row["note"] for row in table(tmp_path / "out", "images") if row["used"] == "no"}
    assert set(notes) == {"scan001", "scan002", "scan003"}
    assert "does not overlap" in notes["scan003"] and notes["scan002"] == "no masks"
    assert any("2 of" in text and "scan001" in text for text in result.warnings)
    assert any("Images without masks, left out: 1." in text for text in result.warnings)


def test_masks_of_another_geometry_are_moved_and_it_is_said(changed, images, tmp_path):
    fine = flat_grid((48, 48)).resized((96, 96, 1))
    masks = [Mask(kind, np.kron(mask, np.ones((2, 2), bool))[..., None]) for kind, mask in images[3].masks.items()]
    write_segmentation(changed / "masks" / "scan003.seg.nrrd", Segmentation.from_masks(masks, fine))
    result, dissection = finished(tmp_path / "out", changed, built(), layers=["units"])
    assert any("Images whose masks have another geometry: 1." in text for text in result.warnings)
    _, original = finished(tmp_path / "same", changed.parent / "changed", built(), layers=["units"])
    assert np.array_equal(dissection.concept_voxels, original.concept_voxels)


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, padding=1)
        self.pooled = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.pooled(self.body(inputs)).flatten(1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": ["nothing"]}, "no layer 'nothing'"),
        ({"layers": ["pooled"]}, "not a feature map"),
        ({"layers": ["head"]}, "not a feature map"),
        ({"quantile": 1.5}, "quantile"),
    ],
)
def test_what_cannot_be_dissected_is_refused(cohort, tmp_path, options, words):
    result = dissect(tmp_path / "out", cohort, model_around(Flattened()), **options)
    assert result.status == "failed" and words in result.error.message and result.error.remedy
    assert not list((tmp_path / "out").glob("*.csv"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,concept,x0,y0\na,b,1,2\n", "lacks x1, y1"),
        ("image,concept,x0,y0,x1,y1\nscan001,nodule,9,9,4,12\n", "has no extent"),
        ("image,concept,x0,y0,x1,y1\nscan001,nodule,one,9,4,12\n", "could not convert"),
        ("", "has the columns none"),
    ],
)
def test_tables_of_boxes_that_are_wrong_are_refused(cohort, tmp_path, text, words):
    (tmp_path / "boxes.csv").write_text(text, encoding="utf-8")
    result = dissect(tmp_path / "out", cohort / "images", built(), {"boxes": str(tmp_path / "boxes.csv")})
    assert result.status == "failed" and words in result.error.message


def test_folders_without_images_are_refused(tmp_path):
    result = dissect(tmp_path / "out", tmp_path / "nowhere", built())
    assert result.status == "failed" and "no folder" in result.error.message
    (tmp_path / "empty").mkdir()
    result = dissect(tmp_path / "out", tmp_path / "empty", built())
    assert result.status == "failed" and "holds no images" in result.error.message


def test_nothing_readable_is_an_error_with_the_last_reason(tmp_path):
    (tmp_path / "a.nrrd").write_text("nothing", encoding="utf-8")
    result = dissect(tmp_path / "out", tmp_path, built())
    assert result.status == "failed" and "None of the 1 images" in result.error.message


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
    job = Job(task="dissect", model="one", inputs=inputs, options={"layers": ["units"], "draws": 10, "rolls": 0},
              output=str(tmp_path / "out"))  # fmt: skip
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
            tmp_path / method, cohort / "images", model_around(network), layers=["units"], clusters=2,
            cluster_method=method, sheet_units=4,
        )  # fmt: skip
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
    job = Job(task="dissect", model="planted", inputs={"images": str(cohort)}, options={"layers": ["units"]},
              output=str(tmp_path / "out"), only_estimate=True)  # fmt: skip
    result = run_job(job, session=session_with(built()))
    assert result.status == "finished" and result.artifacts == []
    assert "GB of disk" in result.values["estimate"]


def test_the_stored_dissection_is_plain_json_and_safetensors(cohort, tmp_path):
    _, dissection = finished(tmp_path / "out", cohort, built(), layers=["units"])
    words = json.loads((tmp_path / "out" / "dissection.json").read_text(encoding="utf-8"))
    assert words["layer"] == "units" and words["model_digest"] == "1" * 64 and words["concepts"] == list(FINDINGS)
    assert dissection.images == tuple(f"scan{number:03d}" for number in range(COUNT))
