"""Preprocessing with MONAI's transforms: where each voxel comes from is known, whatever they do to the axes.

The oracle is a coordinate phantom: an image whose three channels are the R, A and S of each voxel. However it is
cropped, turned and resampled, its values must be the coordinates that the tracked grid gives.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import monai.transforms as mt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from monai.data import MetaTensor  # noqa: E402
from scipy import ndimage  # noqa: E402
from support.scans import GRIDS, SHEARED, Ball, coordinates, smooth_field, thorax  # noqa: E402
from xaiengine.core.errors import ModelError  # noqa: E402
from xaiengine.inference.preprocessing import preprocess, restore  # noqa: E402
from xaiengine.io.grid import Grid  # noqa: E402
from xaiengine.io.volume import Volume  # noqa: E402

ALL_GRIDS = {**GRIDS, "sheared": SHEARED}

EXACT = {
    "nothing": lambda: [],
    "orientation": lambda: [mt.Orientation("RAS")],
    "orientation with other axes": lambda: [mt.Orientation("PLI")],
    "spacing, coarser": lambda: [mt.Spacing((3.0, 3.5, 8.0))],
    "spacing, finer": lambda: [mt.Spacing((1.3, 1.1, 2.2))],
    "spacing with equal axes": lambda: [mt.Spacing((2.0, 2.0, 2.0), diagonal=True)],
    "spacing over the extent": lambda: [mt.Spacing((3.0, 3.0, 3.0), scale_extent=True, align_corners=True)],
    "spacing with a recomputed affine": lambda: [mt.Spacing((3.0, 3.0, 3.0), recompute_affine=True)],
    "spacing padded with zeros": lambda: [mt.Spacing((3.0, 3.0, 3.0), padding_mode="zeros")],
    "spacing of one axis": lambda: [mt.Spacing((0, 0, 2.0))],
    "orientation, then spacing": lambda: [mt.Orientation("LPS"), mt.Spacing((2.5, 2.5, 2.5))],
    "resize": lambda: [mt.Resize((36, 40, 32), mode="trilinear")],
    "resize, corners aligned": lambda: [mt.Resize((36, 40, 32), mode="trilinear", align_corners=True)],
    "resize to the longest": lambda: [mt.Resize(48, size_mode="longest", mode="trilinear")],
    "zoom": lambda: [mt.Zoom(0.7, mode="trilinear", keep_size=False)],
    "zoom in the same size": lambda: [mt.Zoom(0.8, mode="trilinear", keep_size=True)],
    "crop": lambda: [mt.CenterSpatialCrop((20, 18, 12))],
    "crop of a region": lambda: [mt.SpatialCrop(roi_start=(3, 4, 2), roi_end=(24, 25, 13))],
    "crop to the foreground": lambda: [mt.CropForeground(select_fn=lambda image: image > image.mean())],
    "padding": lambda: [mt.SpatialPad((90, 91, 92), mode="edge")],
    "padding to a multiple": lambda: [mt.DivisiblePad(16, mode="edge")],
    "padding and cropping": lambda: [mt.ResizeWithPadOrCrop((30, 60, 20), mode="edge")],
    "border": lambda: [mt.BorderPad((2, 3, 4), mode="edge")],
    "flip": lambda: [mt.Flip((0, 2))],
    "quarter turn": lambda: [mt.Rotate90(1, (0, 1))],
    "three quarter turns": lambda: [mt.Rotate90(3, (1, 2))],
    "rotation": lambda: [mt.Rotate((0.1, 0.2, 0.3), mode="bilinear", padding_mode="border")],
    "affine": lambda: [
        mt.Affine(
            (0.1, 0.2, 0.3), None, (1, 2, 3), (0.9, 1.1, 1), mode="bilinear", padding_mode="border", image_only=True
        )
    ],
    "a usual chain": lambda: [
        mt.Compose([mt.Orientation("RAS"), mt.Spacing((2.2, 2.2, 3.1)), mt.CropForeground(lambda image: image > -40)]),
        mt.SpatialPad((60, 60, 40), mode="edge"),
        mt.Flip(1),
    ],
    "dictionary transforms": lambda: [
        mt.LoadImaged(["image"]),
        mt.EnsureChannelFirstd(["image"]),
        mt.Orientationd(["image", "label"], "RAS"),
        mt.Spacingd(["image", "label"], (2.2, 2.2, 3.1), mode=("bilinear", "nearest")),
        mt.Resized("image", (40, 40, 40), mode="trilinear"),
    ],
}


def between_centers(source: Grid, target: Grid) -> np.ndarray:
    """The voxels of ``target`` that lie a voxel within the outermost centers of ``source``, boolean (I, J, K)."""
    index = source.ras_to_index(np.moveaxis(coordinates(target), 0, -1))
    return np.all((index >= 1) & (index <= np.array(source.shape) - 2), axis=-1)


def phantom(grid: Grid) -> Volume:
    return Volume(coordinates(grid).astype(np.float32), grid, "coordinates")


@pytest.mark.parametrize("grid", ALL_GRIDS.values(), ids=ALL_GRIDS)
@pytest.mark.parametrize("transforms", EXACT.values(), ids=EXACT)
def test_coordinates_stay_what_they_are(transforms, grid):
    result = preprocess(phantom(grid), transforms())
    inside = between_centers(grid, result.grid)
    assert inside.sum() > 100
    error = np.abs(result.tensor.numpy() - coordinates(result.grid))[:, inside]
    assert error.max() < 1e-3


SMOOTHING = {
    "resize with antialiasing": lambda: [mt.Resize((25, 20, 12), mode="trilinear", anti_aliasing=True)],
    "resize by area": lambda: [mt.Resize((25, 20, 16), mode="area")],
    "resize by area, uneven": lambda: [mt.Resize((23, 19, 11), mode="area")],
    "resize by nearest": lambda: [mt.Resize((17, 13, 8), mode="nearest")],
    "resize by nearest, finer": lambda: [mt.Resize((81, 91, 101), mode="nearest")],
    "zoom by nearest": lambda: [mt.Zoom(0.4, mode="nearest", keep_size=False)],
    "zoom by nearest in the same size": lambda: [mt.Zoom(0.4, mode="nearest", keep_size=True, padding_mode="edge")],
    "spacing by nearest": lambda: [mt.Spacing((3.3, 3.3, 3.3), mode="nearest")],
    "spacing by splines": lambda: [mt.Spacing((3.3, 3.3, 3.3), mode=3, padding_mode="nearest")],
}


@pytest.mark.parametrize("name", ["axial", "oblique", "left_handed"])
@pytest.mark.parametrize("transforms", SMOOTHING.values(), ids=SMOOTHING)
def test_interpolation_that_is_not_linear_has_no_drift(transforms, name):
    """Single voxels come from up to half a voxel away, but the image as a whole does not move."""
    grid = ALL_GRIDS[name]
    result = preprocess(phantom(grid), transforms())
    inside = ndimage.binary_erosion(between_centers(grid, result.grid), iterations=2)
    assert inside.sum() > 50
    drift = (result.tensor.numpy() - coordinates(result.grid))[:, inside].mean(axis=1)
    voxels = np.linalg.solve(grid.directions, drift) / grid.spacing
    assert np.abs(voxels).max() < 0.1


def test_monai_alone_drifts_where_we_correct_it():
    """The reason for the correction; when this fails, it is no longer needed."""
    grid = GRIDS["axial"]
    image = MetaTensor(torch.from_numpy(coordinates(grid)), affine=torch.tensor(grid.affine))
    by_nearest = mt.Resize((17, 13, 8), mode="nearest")(image)
    inside = (slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
    stated = coordinates(Grid(tuple(by_nearest.shape[1:]), by_nearest.affine.numpy()))
    drift = (by_nearest.numpy() - stated)[inside].mean(axis=(1, 2, 3))
    assert np.abs(np.linalg.solve(grid.directions, drift) / grid.spacing).max() > 0.5
    recomputed = mt.Spacing((3.0, 3.0, 3.0), recompute_affine=True)(image)
    assert not np.allclose(np.linalg.norm(recomputed.affine[:3, :3], axis=0), 3.0, atol=0.2)


@pytest.mark.parametrize("grid", ["oblique", "left_handed"])
@pytest.mark.parametrize("name", [name for name in EXACT if "recomputed" not in name and "dictionary" not in name])
def test_the_model_gets_the_values_that_monai_gives(name, grid):
    grid = ALL_GRIDS[grid]
    volume = Volume(smooth_field(grid).astype(np.float32), grid)
    image = MetaTensor(torch.from_numpy(volume.array[None]), affine=torch.tensor(grid.affine))
    expected = mt.Compose(EXACT[name]())(image)
    result = preprocess(volume, EXACT[name]())
    assert result.tensor.shape == expected.shape
    np.testing.assert_allclose(result.grid.affine, expected.affine.numpy(), atol=1e-5)
    np.testing.assert_allclose(result.tensor.numpy(), expected.numpy(), atol=1e-4)


def test_intensities_are_changed_as_the_transforms_say():
    volume = thorax(GRIDS["axial"])
    result = preprocess(volume, [mt.ScaleIntensityRange(-1000, 200, 0, 1, clip=True)])
    expected = np.clip((volume.array + 1000.0) / 1200, 0, 1)
    np.testing.assert_allclose(result.tensor.numpy()[0], expected, atol=1e-6)
    assert result.tensor.dtype == torch.float32
    assert type(result.tensor) is torch.Tensor


def test_the_scan_stays_as_it_was():
    volume = Volume(smooth_field(GRIDS["axial"]).astype(np.float32), GRIDS["axial"])
    before = volume.array.copy()
    result = preprocess(volume, [mt.Lambda(lambda image: image.mul_(2))])
    np.testing.assert_array_equal(result.tensor[0].numpy(), 2 * before)
    np.testing.assert_array_equal(volume.array, before)


@pytest.mark.parametrize(
    "drop", [mt.EnsureType(track_meta=False), mt.ToNumpy(), mt.ToTensord("image", track_meta=False)]
)
def test_the_affine_survives_a_change_of_type(drop):
    grid = GRIDS["oblique"]
    result = preprocess(phantom(grid), [mt.Flip(0), drop, mt.Spacing((3, 3, 3))])
    inside = between_centers(grid, result.grid)
    assert np.abs(result.tensor.numpy() - coordinates(result.grid))[:, inside].max() < 1e-3


# The way back


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("transforms", ["a usual chain", "rotation", "resize", "padding and cropping"])
def test_a_map_over_the_tensor_returns_to_where_it_came_from(transforms, name):
    grid = GRIDS[name]
    result = preprocess(phantom(grid), EXACT[transforms]())
    back = result.restored(smooth_field(result.grid), outside=np.nan)
    assert back.shape == grid.shape
    inside = ndimage.binary_erosion(np.isfinite(back), iterations=2)
    assert inside.sum() > 200
    assert np.abs(back - smooth_field(grid))[inside].max() < 0.03


@pytest.mark.parametrize("name", GRIDS)
def test_a_lesion_returns_within_a_voxel(name):
    grid, ball = GRIDS[name], Ball(radius=7)
    transforms = [mt.Orientation("RAS"), mt.Spacing((2.0, 2.0, 2.0)), mt.CropForeground(lambda image: image > -900)]
    result = preprocess(thorax(grid), transforms)
    mask = ball.mask(result.grid)
    back = result.restored(mask, "nearest")
    assert back.dtype == bool
    center = grid.index_to_ras(np.argwhere(back)).mean(axis=0)
    assert np.linalg.norm(center - ball.center) < max(grid.spacing)
    assert back.sum() * grid.voxel_volume_ml == pytest.approx(ball.volume_ml, rel=0.2)


def test_a_coarse_feature_map_lies_edge_to_edge_over_the_tensor():
    grid = GRIDS["axial"]
    result = preprocess(phantom(grid), [mt.Resize((48, 40, 32), mode="trilinear")])
    pooled = torch.nn.functional.avg_pool3d(result.tensor[None], 4)[0]
    back = result.restored(pooled, outside=np.nan)
    inside = ndimage.binary_erosion(np.isfinite(back[0]), iterations=5)
    assert inside.any()
    assert np.abs(back - coordinates(grid))[:, inside].max() < 1e-3


def test_what_the_preprocessing_cropped_away_gets_the_value_for_outside():
    grid = GRIDS["axial"]
    result = preprocess(thorax(grid), [mt.CenterSpatialCrop((20, 20, 20))])
    back = restore(torch.ones(20, 20, 20), result.grid, grid, outside=-1)
    assert (back == 1).sum() == 20**3
    assert (back == -1).sum() == grid.voxel_count - 20**3


# What cannot be used


class Mirror(mt.Transform):
    """A transform of somebody's own that moves voxels and keeps the affine."""

    def __call__(self, image):
        return image.flip(2)


class Square(mt.Transform):
    """A transform of somebody's own that leaves voxels in place."""

    def __call__(self, image):
        return image * image


@pytest.mark.parametrize(
    "transforms, says",
    [
        ([mt.RandFlip(prob=1)], "RandFlip.* is random"),
        ([mt.RandSpatialCropSamples((8, 8, 8), 2)], "is random"),
        ([mt.Transpose((0, 3, 2, 1))], "Transpose.* moves voxels"),
        ([mt.Transposed("image", (0, 3, 2, 1))], "Transposed.* moves voxels"),
        ([mt.Lambda(lambda image: image.flip(1))], "Lambda.* moves voxels"),
        ([mt.Lambda(lambda image: image.roll(9, 3))], "Lambda.* moves voxels"),
        ([Mirror()], "Mirror.* moves voxels"),
        ([mt.Lambda(lambda image: image[..., 0])], r"\(1, 50, 40\)"),
        ([mt.GridPatch((8, 8, 8))], r"\(\d+, 1, 8, 8, 8\)"),
        ([mt.SpatialCrop(roi_slices=[slice(0, 0)] * 3)], "leaves nothing of the scan"),
        ([mt.ShiftIntensity(float("nan"))], "not numbers"),
        ([mt.Resize((3, 3), mode="trilinear")], "Resize.* failed"),
    ],
)
def test_transforms_whose_way_back_is_not_known_are_refused(transforms, says):
    with pytest.raises(ModelError, match=says) as caught:
        preprocess(thorax(GRIDS["axial"], [Ball()]), transforms)
    assert caught.value.remedy


@pytest.mark.parametrize("transform", [mt.Lambda(lambda image: image.clip(-900, 100) / 7), Square()])
def test_code_that_leaves_voxels_in_place_is_let_through(transform):
    for grid in GRIDS.values():
        result = preprocess(thorax(grid, [Ball()]), [transform])
        assert result.grid.same_as(grid)


@pytest.mark.slow
def test_spacing_of_a_large_scan_keeps_within_its_memory():
    """512 x 512 x 300 voxels: MONAI's own Spacing takes 6 GB."""
    resource = pytest.importorskip("resource")
    grid = Grid.from_directions((512, 512, 300), (0.7, 0.7, 1.0))
    volume = Volume(np.zeros(grid.shape, dtype=np.int16), grid)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = preprocess(volume, [mt.Orientation("LPS"), mt.Spacing((0.7, 0.7, 0.9))])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    source_bytes, result_bytes = 4 * grid.voxel_count, 4 * result.tensor.numel()
    assert grown < 2 * source_bytes + 3 * result_bytes
