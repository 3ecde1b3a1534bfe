"""The task explain-counterfactual on a generator by formulas: what changes, where the flip is, what is written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import (
    EnsureChannelFirst,
    Orientation,
)
from PIL import Image
from support.counterfactual_runs import GRID, SPACE, an_image, explain, figures_of, rows_of, use_generator, write_image
from support.counterfactual_standins import SIZE, WINDOW, DiskBrightness, disk, image_model, slope_of, stored, to_unit
from support.scans import GRIDS
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry
from xaiengine.counterfactual.generator_context import Setting
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import read_volume, write_volume


@pytest.fixture
def generator(monkeypatch, tmp_path):
    return use_generator(monkeypatch, tmp_path)


def test_the_true_cause_changes_and_nothing_else(tmp_path, generator):
    result = explain(tmp_path, method="gradient")
    assert result.status == "finished", result.error
    assert result.values["speaks"] == "yes" and result.values["gap"] < 0.01
    difference = read_volume(tmp_path / "out" / "difference.nrrd").array[..., 0]
    inside = disk().numpy() > 0
    assert np.abs(difference[~inside]).max() < 0.02 * np.abs(difference[inside]).mean()
    assert np.ptp(difference[inside]) < 0.02 * np.abs(difference[inside]).mean()
    figures = figures_of(result, tmp_path)
    assert figures["SSIM outside"] > 0.99
    assert figures["Spearman of shift and answer"] == pytest.approx(1.0)


def test_the_flip_is_where_the_formula_says(tmp_path, generator):
    """f(G(z + t d)) = f(G(z)) + t |b|, so that the answer turns over at t = -f / |b|."""
    result = explain(tmp_path, method="gradient")
    slope = float((slope_of(SPACE) @ SPACE.covariance @ slope_of(SPACE)).sqrt())
    prediction = result.values["prediction"]
    expected = -np.log(prediction / (1 - prediction)) / slope
    assert result.values["flip_shift"] == pytest.approx(expected, abs=0.05)
    brightness = abs(expected) * slope / 40  # of the disk, in image units; the gain is 40
    change = brightness * float(disk().mean()) * (WINDOW[1] - WINDOW[0]) / 2
    assert result.values["flip_change"] == pytest.approx(change, rel=0.1)


@pytest.mark.parametrize("wanted", [0.05, 0.3, 0.9])
def test_a_wanted_prediction_is_reached(tmp_path, generator, wanted):
    result = explain(tmp_path, wanted=wanted)
    assert result.values["counterfactual_prediction"] == pytest.approx(wanted, abs=0.006)
    frames = rows_of(result, tmp_path, "frames")
    ends = [float(frames[0]["prediction"]), float(frames[-1]["prediction"])]
    assert min(abs(end - wanted) for end in ends) < 0.006
    assert 0.0 in [float(row["shift (SD)"]) for row in frames]


def test_a_series_may_run_toward_the_flip_alone(tmp_path, generator):
    result = explain(tmp_path, sides="toward", frames=7)
    frames = rows_of(result, tmp_path, "frames")
    shifts = [float(row["shift (SD)"]) for row in frames]
    flip = result.values["flip_shift"]
    end = shifts[0] if flip < 0 else shifts[-1]
    assert len(shifts) == 7 and 0.0 in (shifts[0], shifts[-1]) and abs(end) > abs(flip) and end * flip > 0


def test_a_prediction_out_of_reach_is_said(tmp_path, generator):
    result = explain(tmp_path, wanted=0.99999, reach=0.5)
    assert "is not reached" in (tmp_path / "out" / "verdict.txt").read_text(encoding="utf-8")
    assert result.status == "finished"


def test_a_regression_is_moved_to_a_wanted_value(tmp_path, generator):
    model = image_model(task="regression")
    result = explain(tmp_path, model, wanted=4.0)
    assert result.status == "finished", result.error
    assert result.values["counterfactual_prediction"] == pytest.approx(4.0, abs=0.1)
    assert "flip_shift" not in result.values
    result = explain(tmp_path, model, decision=2.0)
    assert abs(result.values["flip_shift"]) > 0


@pytest.mark.parametrize(
    "model, target",
    [
        (image_model(DiskBrightness(outputs=2), activation="softmax"), "probability of opaque"),
        (image_model(DiskBrightness(outputs=2), "multilabel", labels=("clear", "opaque")), "probability of opaque"),
        (image_model(), "probability of opaque"),
    ],
)
def test_classes_and_labels_are_explained(tmp_path, generator, model, target):
    result = explain(tmp_path, model)
    assert result.status == "finished", result.error
    assert result.values["explained_target"] == target
    assert result.values["spearman"] > 0.99


def test_the_other_side_runs_the_other_way(tmp_path, generator):
    forth, back = explain(tmp_path, target="opaque").values, explain(tmp_path, target="clear").values
    assert back["prediction"] == pytest.approx(1 - forth["prediction"], abs=1e-5)
    assert back["flip_shift"] == pytest.approx(-forth["flip_shift"], abs=0.05)


@pytest.mark.parametrize("method", ["auto", "covariance", "logistic", "ridge", "gradient", "local"])
def test_every_method_makes_a_series(tmp_path, generator, method):
    result = explain(tmp_path, method=method)
    assert result.status == "finished", result.error
    assert result.values["spearman"] > 0.99 and abs(result.values["flip_shift"]) > 0


@pytest.mark.parametrize("refine", ["latent", "plus", "none"])
def test_every_refinement_keeps_image_and_answer(tmp_path, generator, refine):
    latent = SPACE.sample(1, 4)[0]
    result = explain(tmp_path, volume=write_image(tmp_path, latent), refine=refine)
    assert result.status == "finished", result.error
    assert result.values["gap"] < 0.02
    assert figures_of(result, tmp_path)["reconstruction SSIM"] > 0.97


def volume_on(grid: Grid, index: int) -> Volume:
    """A scan whose axial slice ``index`` is the generator's mean image, seen as axial slices are looked at."""
    setting = Setting(stored(SPACE), LatentGeometry.of(SPACE))
    empty = Volume(np.full(grid.shape, 40.0, np.float32), grid, "scan")
    frame = setting.frame(empty, index)
    return frame.replaced(frame.on_slice(SPACE.decode(SPACE.mean[None])[0]))


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_the_slice_is_changed_in_its_place_whatever_the_geometry(tmp_path, generator, name):
    """The disk's place in the patient follows from the generator's image alone; all other voxels stay."""
    grid = GRIDS[name]
    axis = grid.index_axis(2)
    index = grid.shape[axis] // 2
    scan = volume_on(grid, index)
    path = str(write_volume(tmp_path / "scan.nrrd", scan))
    steps = lambda: [EnsureChannelFirst(), Orientation("LPS"), to_unit()]  # noqa: E731
    model = image_model(SeesTheDiskAnywhere(), preprocessing=steps)
    result = explain(tmp_path, model, volume=path, slice=str(index), domain_limit=50.0)
    assert result.status == "finished", result.error
    changed = read_volume(tmp_path / "out" / "counterfactual.nrrd")
    assert changed.grid.same_as(grid)
    others = np.delete(changed.array, index, axis)
    np.testing.assert_array_equal(others, np.delete(scan.array, index, axis))
    difference = read_volume(tmp_path / "out" / "difference.nrrd")
    assert difference.grid.same_as(grid)
    amount = np.abs(difference.array)
    center = np.array([(amount * axis_index).sum() for axis_index in np.indices(grid.shape)]) / amount.sum()
    assert np.linalg.norm(grid.index_to_ras(center) - disk_in_patient(grid, axis, index)) < 3.0


class SeesTheDiskAnywhere(torch.nn.Module):
    """Brightness of the brightest part: a network that takes slices of any size and orientation."""

    def forward(self, images):
        pooled = torch.nn.functional.adaptive_avg_pool2d(images, 16)
        return (pooled.flatten(1).logsumexp(1) - 4.5)[:, None] * 30


def disk_in_patient(grid: Grid, axis: int, index: int) -> np.ndarray:
    """The RAS center of the disk by rule: the image covers the slice, its axes run to the left and to the back."""
    rows, columns = np.nonzero(disk().numpy())
    place = np.array([rows.mean(), columns.mean()])
    middle = (np.array(grid.shape) - 1) / 2
    middle[axis] = index
    others = [number for number in range(3) if number != axis]
    pixel = max(grid.shape[number] * grid.spacing[number] for number in others) / SIZE
    offset = np.zeros(3)
    for value, direction in zip((place - (SIZE - 1) / 2) * pixel, ((0, -1), (1, -1))):
        number = next(n for n in others if grid.anatomical_axes[n][0] == direction[0])
        offset += value * direction[1] * grid.anatomical_axes[number][1] * grid.directions[:, number]
    return grid.index_to_ras(middle) + offset


def test_pictures_are_explained(tmp_path, generator):
    picture = Image.fromarray(an_image()[..., 0].T.round().astype(np.uint8))
    picture.save(tmp_path / "image.png")
    result = explain(tmp_path, volume=str(tmp_path / "image.png"))
    assert result.status == "finished", result.error
    assert result.values["speaks"] == "yes"


def test_the_series_is_a_sequence_with_its_predictions_as_names(tmp_path, generator):
    import nrrd

    result = explain(tmp_path, frames=7)
    data, header = nrrd.read(str(tmp_path / "out" / "series.seq.nrrd"))
    assert data.shape == (7, SIZE, SIZE, 1)
    frames = rows_of(result, tmp_path, "frames")
    names = header["axis 0 index values"].split(" ")
    assert len(names) == 7
    assert float(names[0].split("%20")[0]) == pytest.approx(float(frames[0]["prediction"]), rel=0.01)
    middle = read_volume(write_image(tmp_path)).array
    np.testing.assert_allclose(data[3, ..., 0], middle[..., 0], atol=2.0)


def test_film_strip_and_animation_show_every_frame(tmp_path, generator):
    explain(tmp_path, frames=5)
    with Image.open(tmp_path / "out" / "film_strip.png") as strip:
        assert strip.width > 5 * 100
    with Image.open(tmp_path / "out" / "animation.gif") as animation:
        assert animation.n_frames == 8  # there and back


def test_a_given_region_is_what_the_figures_are_about(tmp_path, generator):
    masks = [Mask("finding", disk().numpy()[..., None] > 0)]
    path = str(write_segmentation(tmp_path / "region.seg.nrrd", Segmentation.from_masks(masks, GRID)))
    figures = figures_of(explain(tmp_path, region=path, method="gradient"), tmp_path)
    assert figures["off-target share"] < 0.02
    assert figures["region's part of the image"] == pytest.approx(float(disk().mean()))
    elsewhere = [Mask("elsewhere", np.roll(disk().numpy(), 14, 0)[..., None] > 0)]
    write_segmentation(tmp_path / "region.seg.nrrd", Segmentation.from_masks(elsewhere, GRID))
    assert figures_of(explain(tmp_path, region=path), tmp_path)["off-target share"] > 0.98


def test_detail_of_the_scan_stays_where_nothing_changed(tmp_path, generator):
    values = an_image()
    speckle = np.random.default_rng(0).normal(0, 3.0, values.shape).astype(np.float32)
    path = str(write_volume(tmp_path / "image.nrrd", Volume(values + speckle, GRID, "image")))
    explain(tmp_path, volume=path, detail="masked", method="gradient", domain_limit=1e6)
    changed = read_volume(tmp_path / "out" / "counterfactual.nrrd").array
    far = np.ones((SIZE, SIZE), bool)
    far[1:24, 7:30] = False
    np.testing.assert_allclose(changed[far], (values + speckle)[far], atol=0.1)
    assert np.abs(changed - values - speckle).max() > 5
