"""Images and masks of a dissection: every layout, boxes, names, geometries, and what is left out or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import EnsureChannelFirst, ScaleIntensity
from PIL import Image
from support.dissection_runs import COUNT, built, dissect, finished, labels, table
from support.planted_findings import FINDINGS, finding_batch, flat_grid, model_around, write_cohort
from torch import nn
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.terminology import MASS
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume


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
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nrrd").write_text("nothing", encoding="utf-8")
    result = dissect(tmp_path / "out", tmp_path / "images", built())
    assert result.status == "failed" and "None of the 1 images" in result.error.message
