"""From a scan's slice to the generator and the model and back: geometry, preprocessing, answers, sequences."""

from __future__ import annotations

import nrrd
import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    Flip,
    NormalizeIntensity,
    Orientation,
    Resize,
    ScaleIntensity,
    ScaleIntensityRange,
    Spacing,
    SpatialPad,
)
from support.counterfactual_standins import SIZE, LinearSpace, image_model
from support.scans import GRIDS, SHEARED
from xaiengine.core.errors import OptionError
from xaiengine.counterfactual.preparation import LinearPreparation, find_preparation, through_transforms
from xaiengine.counterfactual.scalar_output import choose_answer
from xaiengine.counterfactual.series.frame_sequence import write_sequence
from xaiengine.counterfactual.series.slice_replacement import blank_frame, slice_frame
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume

SPACE = LinearSpace()

CHAINS = {
    "scaled": [ScaleIntensityRange(0, 255, 0, 1)],
    "clipped": [ScaleIntensityRange(60, 160, 0, 1, clip=True)],
    "resized": [Resize((40, 24, 1), mode="bilinear"), ScaleIntensityRange(0, 255, -1, 1)],
    "area": [Resize((16, 16, 1), mode="area"), ScaleIntensityRange(0, 255, 0, 1)],
    "flipped": [Flip(0), ScaleIntensityRange(0, 255, 0, 1)],
    "turned": [Orientation("PLS"), ScaleIntensityRange(0, 255, 0, 1)],
    "padded": [SpatialPad((48, 40, 1)), ScaleIntensityRange(0, 255, 0, 1)],
    "resampled": [Orientation("RAS"), Spacing((3.0, 2.5, 2.0)), ScaleIntensityRange(0, 255, 0, 1)],
    "standardized": [NormalizeIntensity()],
}


@pytest.mark.parametrize("name", CHAINS)
def test_preprocessing_becomes_one_differentiable_operation(name):
    """Equal to the model's own transforms, on images that were not used to find it, with a gradient."""
    model = image_model(preprocessing=lambda: [EnsureChannelFirst(), *CHAINS[name]])
    frame = blank_frame(SIZE, 1, "axial", (0.0, 255.0), (2.0, 2.0))
    images = SPACE.decode(SPACE.sample(5, 3))
    found = find_preparation(model, frame, images[:2])
    assert found is not None
    expected = through_transforms(model, frame)(images[2:])
    torch.testing.assert_close(found(images[2:]), expected, atol=4e-3, rtol=1e-3)
    leaf = images[2:].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(found(leaf).square().sum(), leaf)
    assert gradient.abs().sum() > 0


def test_color_channels_keep_their_own_scale():
    steps = [NormalizeIntensity([100.0, 120.0, 90.0], [50.0, 60.0, 70.0], channel_wise=True)]
    model = image_model(preprocessing=lambda: [Compose(steps)], in_channels=3)
    frame = blank_frame(SIZE, 3, "axial", (0.0, 255.0), None)
    images = torch.rand(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = find_preparation(model, frame, images[:2])
    assert isinstance(found, LinearPreparation)
    torch.testing.assert_close(found(images), through_transforms(model, frame)(images), atol=1e-3, rtol=1e-3)


def test_what_is_not_linear_is_left_to_the_transforms():
    model = image_model(preprocessing=lambda: [EnsureChannelFirst(), ScaleIntensity(0, 1)])
    frame = blank_frame(SIZE, 1, "axial", (0.0, 255.0), None)
    assert find_preparation(model, frame, SPACE.decode(SPACE.sample(2, 3))) is None


def smooth_scan(grid: Grid) -> Volume:
    """Values that rise linearly in the patient: any resampling by interpolation keeps them."""
    ras = grid.index_to_ras(np.moveaxis(np.indices(grid.shape), 0, -1))
    values = 100 + 0.4 * ras[..., 0] + 0.3 * ras[..., 1] - 0.2 * ras[..., 2]
    return Volume(values.astype(np.float32), grid, "ramp")


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("name", [*GRIDS, "sheared"])
def test_a_slice_goes_to_the_generator_and_back_in_any_geometry(name, plane):
    grid = SHEARED if name == "sheared" else GRIDS[name]
    scan = smooth_scan(grid)
    normal = {"sagittal": 0, "coronal": 1, "axial": 2}[plane]
    index = grid.shape[grid.index_axis(normal)] // 3
    frame = slice_frame(scan, plane=plane, index=index, size=64, window=(0.0, 200.0))
    back = frame.on_slice(frame.image())
    inner = tuple(slice(2, -2) if size > 1 else slice(None) for size in back.shape[1:])
    np.testing.assert_allclose(back[0][inner], frame.own_values()[0][inner], atol=1.0)
    changed = frame.replaced(back + 10)
    others = np.delete(changed.array, index, frame.axis)
    np.testing.assert_array_equal(others, np.delete(scan.array, index, frame.axis))


@pytest.mark.parametrize("name", GRIDS)
def test_images_are_turned_as_radiologists_look(name):
    """The first axis runs to the patient's left, the second to the back, as nearly as the scan's axes allow."""
    frame = slice_frame(smooth_scan(GRIDS[name]), plane="axial", index=None, size=32, window=(0.0, 200.0))
    steps = frame.image_grid.directions
    assert steps[0, 0] < -0.7 and steps[1, 1] < -0.7


def test_integer_scans_stay_integers_and_are_not_wrapped():
    grid = Grid.from_directions((16, 16, 4))
    scan = Volume(np.full(grid.shape, 200, np.uint8), grid, "scan")
    frame = slice_frame(scan, plane="axial", index=1, size=16, window=(0.0, 255.0))
    changed = frame.replaced(np.full((1, 16, 16, 1), 300.4))
    assert changed.array.dtype == np.uint8 and (changed.array[..., 1] == 255).all()
    assert (changed.array[..., 0] == 200).all() and (scan.array == 200).all()


def test_the_scan_stays_where_the_generators_image_does_not_reach():
    grid = Grid.from_directions((40, 40, 3), (1.0, 1.0, 1.0))
    scan = Volume(np.random.default_rng(0).normal(size=grid.shape).astype(np.float32), grid, "scan")
    frame = slice_frame(scan, plane="axial", index=1, size=16, window=(0.0, 1.0), pixel=(1.0, 1.0))
    changed = frame.replaced(frame.on_slice(torch.ones(1, 16, 16)))
    assert (changed.array[12:28, 12:28, 1] == 1).all()
    np.testing.assert_array_equal(changed.array[:12], scan.array[:12])


def test_slices_that_are_not_there_are_refused():
    scan = smooth_scan(GRIDS["axial"])
    options = {"size": 32, "window": (0.0, 1.0)}
    with pytest.raises(OptionError, match="0 to 31"):
        slice_frame(scan, plane="axial", index=32, **options)
    with pytest.raises(OptionError, match="axial"):
        slice_frame(scan, plane="oblique", index=0, **options)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_images_without_a_scan_lie_in_their_plane(plane):
    frame = blank_frame(16, 1, plane, (0.0, 100.0), (2.0, 3.0))
    image = torch.linspace(-1, 1, 256).reshape(1, 16, 16)
    values = frame.on_slice(image)
    assert values.shape[1 + frame.axis] == 1
    np.testing.assert_allclose(values.reshape(16, 16), (image[0].numpy() + 1) * 50, atol=1e-3)


def test_log_odds_are_those_of_the_probability():
    logits = torch.tensor([[0.3, -1.2, 2.0]])
    model = image_model(labels=("a", "b", "c"), activation="softmax")
    answer = choose_answer(model, logits, "b")
    probability = logits.softmax(1)[0, 1]
    assert float(answer.value(logits)) == pytest.approx(float(probability.logit()), abs=1e-5)
    assert float(answer.shown(answer.value(logits))) == pytest.approx(float(probability), abs=1e-6)
    assert answer.turning_point == pytest.approx(0.0)
    against = choose_answer(model, logits, "b", "a")
    assert float(against.value(logits)) == pytest.approx(-1.5)
    assert against.name == "probability of b against a"


def test_models_that_end_in_probabilities_are_moved_as_log_odds():
    model = image_model(labels=("a", "b"), activation="none")
    probabilities = torch.tensor([[0.2, 0.8]])
    answer = choose_answer(model, probabilities, "b")
    assert float(answer.shown(answer.value(probabilities))) == pytest.approx(0.8, abs=1e-5)


def test_of_two_classes_the_second_is_explained_whatever_the_prediction():
    model = image_model()
    for logit in (-2.0, 2.0):
        assert choose_answer(model, torch.tensor([[logit]])).name == "probability of opaque"


def test_regression_values_are_moved_as_they_are():
    answer = choose_answer(image_model(task="regression"), torch.tensor([[3.0]]), decision=2.0)
    assert float(answer.value(torch.tensor([[3.0]]))) == 3.0 and answer.turning_point == 2.0


def test_a_sequence_keeps_frames_names_and_geometry(tmp_path):
    frames = np.random.default_rng(0).normal(size=(3, 5, 4, 1)).astype(np.float32)
    grid = Grid.from_directions((5, 4, 1), (2.0, 3.0, 4.0), origin=(7.0, 8.0, 9.0))
    write_sequence(tmp_path / "x.seq.nrrd", frames, grid, ["0.1 (-1 SD)", "0.5", "0.9"])
    data, header = nrrd.read(str(tmp_path / "x.seq.nrrd"))
    np.testing.assert_array_equal(data, frames)
    assert header["axis 0 index values"] == "0.1%20(-1%20SD) 0.5 0.9"
    np.testing.assert_allclose(header["space origin"], [-7, -8, 9])
    with pytest.raises(ValueError, match="names"):
        write_sequence(tmp_path / "x.seq.nrrd", frames, grid, ["one"])
