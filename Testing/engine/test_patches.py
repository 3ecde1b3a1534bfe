"""Models of patches on whole scans: cut by geometry at a point, box or segment, or moved over all; maps land there."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
import xaiengine as xai
from support.scans import GRIDS, LESION_POINT, Ball, thorax
from xaiengine.app.run import run_job
from xaiengine.core.errors import InputError, ModelError, OptionError
from xaiengine.core.job import Job
from xaiengine.inference.patches import centers_of, patch_size, view_patches
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import read_volume, write_volume
from xaiengine.models import load_model

SIZE = (12, 14, 10)


class Bright(torch.nn.Module):
    """The brightness of a patch's middle against its rim: a nodule in lung gives a high first output."""

    def forward(self, x):
        middle = x[..., 4:8, 5:9, 3:7].mean((1, 2, 3, 4))
        return torch.stack([middle - x.mean((1, 2, 3, 4)), x.mean((1, 2, 3, 4)) - middle], 1)


@pytest.fixture
def model(tmp_path):
    torch.jit.trace(Bright(), torch.zeros(1, 1, *SIZE)).save(str(tmp_path / "m.ts"))
    steps = [
        {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0], "mode": "bilinear"},
    ]
    content = {"labels": ["nodule", "none"], "spatial_dims": 3, "in_channels": 1, "input_size": list(SIZE)}
    (tmp_path / "m.json").write_text(json.dumps({**content, "preprocessing": steps}))
    return tmp_path / "m.ts"


@pytest.mark.parametrize("grid", ["axial", "sagittal_stored", "oblique"])
def test_a_patch_is_cut_in_mm_around_the_point(grid, model):
    scan = thorax(GRIDS[grid], [Ball()])
    loaded = load_model(model)
    view = view_patches(scan, loaded, np.array([LESION_POINT]), patch_size(loaded))
    assert tuple(view.samples.shape) == (1, 1, *SIZE)
    place = view.places[0]
    middle = view.grid.index_to_ras([(part.start + part.stop - 1) / 2 for part in place])
    assert np.linalg.norm(middle - LESION_POINT) <= np.sqrt(3)  # half a voxel of 2 mm along each axis
    back = view.prepared.restored(view.volume_of(np.ones((1, *SIZE), np.float32), np.array([0])))
    covered = scan.grid.index_to_ras(np.argwhere(back > 0.5))
    away = np.abs(view.grid.ras_to_index(covered) - view.grid.ras_to_index(middle)) * 2.0
    assert (away.max(0) <= np.array(SIZE) + 3).all()  # half the patch in mm, and a voxel of the scan
    assert np.abs(covered.mean(0) - middle).max() < 2


def test_moved_over_the_scan_the_highest_patch_holds_the_nodule(model):
    loaded = load_model(model)
    scan = thorax(GRIDS["axial"], [Ball()])
    shown = scan.with_array(np.where(scan.array == 20, 800, 0).astype(np.int16) - 820)
    view = view_patches(shown, loaded, None, SIZE)
    best = view.places[int(view.outputs[:, 0].argmax())]
    middle = view.grid.index_to_ras([(part.start + part.stop - 1) / 2 for part in best])
    assert np.abs(middle - LESION_POINT).max() <= max(SIZE) / 2 + 2
    everything = np.arange(len(view.places))
    assert view.volume_of(np.ones((len(view.places), *SIZE), np.float32), everything).min() == 1


def test_the_task_writes_a_map_at_the_patch_alone(model, tmp_path):
    scan = thorax(GRIDS["axial"], [Ball()])
    write_volume(tmp_path / "scan.nrrd", scan)
    nodule = Segmentation.from_masks([Mask("nodule", Ball().mask(scan.grid))], scan.grid)
    write_segmentation(tmp_path / "s.seg.nrrd", nodule)
    point = ",".join(map(str, LESION_POINT))
    box = ",".join(str(c + d) for d in (-14, 14) for c in LESION_POINT)
    for at, where in (("point", point), ("segment", "nodule"), ("box", box), ("sliding", "")):
        job = Job(
            task="explain-prediction",
            model=str(model),
            inputs={"volume": str(tmp_path / "scan.nrrd"), "segments": str(tmp_path / "s.seg.nrrd")},
            options={"methods": ["occlusion"], "at": at, "where": where, "target": "nodule", "slices": "highest"},
            output=str(tmp_path / at),
        )
        result = run_job(job)
        assert result.status == "finished", (at, result.error)
        assert any("patch" in text for text in result.warnings)
        item = next(artifact for artifact in result.artifacts if artifact.kind == "volume")
        found = read_volume(tmp_path / at / item.file)
        assert found.grid.same_as(scan.grid)
        if at in ("point", "segment"):
            touched = scan.grid.index_to_ras(np.argwhere(np.abs(found.array) > 1e-6))
            assert len(touched) and np.abs(touched - LESION_POINT).max() < max(SIZE) + 4


def test_what_cannot_be_cut_is_refused(model):
    loaded = load_model(model)
    scan = thorax(GRIDS["axial"])
    with pytest.raises(InputError, match="outside"):
        view_patches(scan, loaded, np.array([[500.0, 0, 0]]), SIZE)
    with pytest.raises(OptionError, match="two corners"):
        centers_of("box", "1,2,3", None, scan, (1, 1, 1))
    with pytest.raises(OptionError, match="is not a position"):
        centers_of("point", "here", None, scan, (1, 1, 1))
    with pytest.raises(OptionError, match="segmentation"):
        centers_of("segment", "", None, scan, (1, 1, 1))
    with pytest.raises(OptionError, match="limit"):
        view_patches(scan, loaded, None, (2, 2, 2))
    with pytest.raises(ModelError, match="patches"):
        patch_size(load_model("lung_lesion_slice_classifier"))


def test_a_map_of_patches_is_evaluated_on_the_same_patches(model, tmp_path):
    scan = thorax(GRIDS["axial"], [Ball()])
    write_volume(tmp_path / "scan.nrrd", scan)
    inputs = {"volume": str(tmp_path / "scan.nrrd")}
    options = {"methods": ["occlusion"], "at": "point", "where": ",".join(map(str, LESION_POINT)), "target": "nodule"}
    options |= {"baseline": "minimum"}
    made = run_job(
        Job(task="explain-prediction", model=str(model), inputs=inputs, options=options, output=str(tmp_path / "map"))
    )
    assert made.status == "finished", made.error
    item = next(artifact for artifact in made.artifacts if artifact.kind == "volume")
    checked = run_job(
        Job(
            task="evaluate-explanation",
            model=str(model),
            inputs={**inputs, "explanation": str(tmp_path / "map" / item.file)},
            options={"checks": ["insertion_deletion"], "steps": 8},
            output=str(tmp_path / "checks"),
        )
    )
    assert checked.status == "finished", checked.error
    assert any("saw 1 patch " in text for text in checked.warnings)
    # Python keeps the patch that it explained; the task cuts it again from what the result says.
    kept = xai.explain(xai.load_model(model), scan, "occlusion", "nodule", at=LESION_POINT, baseline="minimum")
    curve = xai.evaluate(kept["occlusion"], "insertion_deletion", steps=8).curves["deletion"]
    name = next(artifact.file for artifact in checked.artifacts if artifact.role == "curves")
    rows = list(csv.DictReader((tmp_path / "checks" / name).read_text(encoding="utf-8-sig").splitlines()))
    assert [float(row["deletion"]) for row in rows] == pytest.approx(list(curve.values), abs=1e-4)


@pytest.mark.parametrize("place", ["tuple", "point", "box", "segment", "sliding"])
def test_python_names_the_place_as_the_shell_does(place, model):
    scan = thorax(GRIDS["axial"], [Ball()])
    nodule = Segmentation.from_masks([Mask("nodule", Ball().mask(scan.grid))], scan.grid)
    corners = [tuple(c + d for c in LESION_POINT) for d in (-14, 14)]
    at = {
        "tuple": LESION_POINT,
        "point": xai.at_point(*LESION_POINT),
        "box": xai.box(*corners),
        "segment": xai.at_segment(nodule, "nodule"),
        "sliding": "sliding",
    }[place]
    found = xai.explain(xai.load_model(model), scan, "occlusion", "nodule", at=at)["occlusion"]
    heat = found.on(scan.grid).map
    peak = scan.grid.index_to_ras(np.unravel_index(np.abs(heat).argmax(), heat.shape))
    assert np.abs(peak - LESION_POINT).max() <= max(SIZE) + 4
    check = xai.evaluate(found, "insertion_deletion", steps=8)
    assert "insertion-deletion" in check.checks


def test_python_refuses_places_that_are_none(model):
    scan = thorax(GRIDS["axial"], [Ball()])
    loaded = xai.load_model(model)
    for at in ("here", (1, 2), xai.boundary("nodule"), 7):
        with pytest.raises(OptionError, match="no place"):
            xai.explain(loaded, scan, "occlusion", "nodule", at=at)
