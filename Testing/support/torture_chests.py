"""Chests that break lung segmentations, made from one real CT by transforming it or drawing into it.

Each keeps the truth of where the lungs are: the lobes of the real scan, changed along with it. What is drawn into the
truth (effusion, a mass) is left out of the judgment: ``ignored``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from xaiengine.io.grid import Grid

AIR, WATER = -1000.0, 0.0


@dataclass(frozen=True, eq=False)
class Chest:
    """``hu`` (I, J, K) float32, ``lungs`` and ``heart`` (I, J, K) bool on ``grid``, whose axes are RAS."""

    hu: np.ndarray
    lungs: np.ndarray
    heart: np.ndarray
    grid: Grid
    ignored: np.ndarray | None = None

    def changed(self, hu: np.ndarray, **others: np.ndarray) -> Chest:
        return replace(self, hu=hu.astype(np.float32), **others)

    def cut(self, box: tuple[slice, ...]) -> Chest:
        start = np.eye(4)
        start[:3, 3] = [extent.indices(size)[0] for extent, size in zip(box, self.hu.shape)]
        hu = np.ascontiguousarray(self.hu[box])
        ignored = None if self.ignored is None else self.ignored[box]
        grid = Grid(hu.shape, self.grid.affine @ start)
        return Chest(hu, self.lungs[box], self.heart[box], grid, ignored)


def from_labels(hu: np.ndarray, labels: np.ndarray, grid: Grid) -> Chest:
    """A chest from a CT and TotalSegmentator's labels (lobes 10 to 14, heart 51), brought to RAS axes."""
    flips = tuple(slice(None, None, -1) if grid.affine[axis, axis] < 0 else slice(None) for axis in range(3))
    start, step = np.eye(4), [extent.step or 1 for extent in flips]
    start[:3, :3] = np.diag(step)
    start[:3, 3] = [size - 1 if s < 0 else 0 for size, s in zip(hu.shape, step)]
    hu = np.ascontiguousarray(hu[flips]).astype(np.float32)
    labels = labels[flips]
    return Chest(hu, np.isin(labels, range(10, 15)), labels == 51, Grid(hu.shape, grid.affine @ start))


def body_of(chest: Chest) -> np.ndarray:
    """Everything inside the skin, slice by slice, (I, J, K) bool."""
    solid = ndimage.binary_opening(chest.hu > -400, iterations=2)
    labels, _ = ndimage.label(solid)
    solid = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return np.stack([ndimage.binary_fill_holes(solid[:, :, k]) for k in range(solid.shape[2])], axis=2)


def _millimeters(chest: Chest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position of each voxel along the three axes in mm from the middle of the lungs (open arrays)."""
    middle = np.argwhere(chest.lungs).mean(axis=0)
    axes = np.ogrid[tuple(slice(size) for size in chest.hu.shape)]
    return tuple((axis - center) * step for axis, center, step in zip(axes, middle, chest.grid.spacing))


def _blurred(chest: Chest, mm: float) -> np.ndarray:
    return ndimage.gaussian_filter(chest.hu, [mm / step for step in chest.grid.spacing[:2]] + [0])


def _noisy(chest: Chest, hu: np.ndarray, sd: float) -> np.ndarray:
    return hu + np.random.default_rng(0).normal(0, sd, hu.shape)


def contrast(chest: Chest) -> Chest:
    """Blood in the heart and in vessels of the lung at 250 HU and above."""
    vessels = chest.lungs & (chest.hu > -300) & (chest.hu < 300)
    return chest.changed(np.where(chest.heart | vessels, chest.hu + 260, chest.hu))


def sharp_kernel(chest: Chest) -> Chest:
    return chest.changed(_noisy(chest, chest.hu + 1.2 * (chest.hu - _blurred(chest, 1.5)), 50))


def soft_kernel(chest: Chest) -> Chest:
    return chest.changed(_blurred(chest, 1.8))


def low_dose(chest: Chest) -> Chest:
    return chest.changed(_noisy(chest, chest.hu, 130))


def body_cut(chest: Chest) -> Chest:
    """A field of view that cuts the chest wall on all sides, and the lungs at the sides by about a centimeter."""
    hits = [np.flatnonzero(chest.lungs.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(2)]
    sides, ends = round(8 / chest.grid.spacing[0]), round(2 / chest.grid.spacing[1])
    box = (slice(hits[0][0] + sides, hits[0][-1] - sides), slice(hits[1][0] - ends, hits[1][-1] + ends), slice(None))
    return chest.cut(box)


def round_field(chest: Chest) -> Chest:
    """A round field of view with padding of -2048 around, that cuts the body at the sides."""
    x, y, _ = _millimeters(chest)
    outside = np.broadcast_to(np.hypot(x, y) > 150, chest.hu.shape)
    return chest.changed(np.where(outside, -2048, chest.hu), lungs=chest.lungs & ~outside)


def effusion(chest: Chest) -> Chest:
    """The back third of the right lung's room full of water."""
    x, y, _ = _millimeters(chest)
    fluid = chest.lungs & (x > 0) & (y < -35)
    return chest.changed(np.where(fluid, 8 + 0.02 * chest.hu, chest.hu), ignored=fluid)


def pneumothorax(chest: Chest) -> Chest:
    """The front third of the left lung's room full of free air."""
    x, y, _ = _millimeters(chest)
    free = chest.lungs & (x < 0) & (y > 35)
    return chest.changed(_noisy(chest, np.where(free, -1000, chest.hu), 8), ignored=free)


def emphysema(chest: Chest) -> Chest:
    """Lung of -930 HU in the middle, with bullae of pure air."""
    holes = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal(chest.hu.shape), 5)
    bullae = chest.lungs & (holes > 1.2 * holes.std())
    hu = np.where(chest.lungs & (chest.hu < -600), -1000 + 0.5 * (chest.hu + 1000), chest.hu)
    return chest.changed(np.where(bullae, -1000, hu))


def one_lung(chest: Chest) -> Chest:
    """The left lung taken out, its room full of fluid and fat."""
    x, _, z = _millimeters(chest)
    gone = chest.lungs & (x < 0)
    return chest.changed(np.where(gone, np.where(z > 0, -60, 10), chest.hu), lungs=chest.lungs & ~gone)


def consolidated(chest: Chest) -> Chest:
    """The lower half of the right lung consolidated (about 20 % of all lung), with open airways."""
    x, _, z = _millimeters(chest)
    solid = chest.lungs & (x > 0) & (z < -10) & (chest.hu > -960)
    return chest.changed(np.where(solid, 35 + 0.03 * chest.hu, chest.hu), ignored=solid)


def prone_on_table(chest: Chest) -> Chest:
    """A table in front of the patient, touching the skin."""
    return _table(chest, front=True)


def table_and_arms(chest: Chest) -> Chest:
    """A table behind, both arms with bones beside the chest, a drain of metal through the wall."""
    tabled = _table(chest, front=False)
    hu = np.pad(tabled.hu, ((60, 60), (0, 0), (0, 0)), constant_values=AIR)
    lungs, heart = (np.pad(mask, ((60, 60), (0, 0), (0, 0))) for mask in (chest.lungs, chest.heart))
    start = np.eye(4)
    start[0, 3] = -60
    padded = Chest(hu, lungs, heart, Grid(hu.shape, chest.grid.affine @ start))
    body = body_of(padded)
    columns = np.flatnonzero(body.any(axis=(1, 2)))
    spacing = chest.grid.spacing[0]
    for center in (columns[0] - 50 / spacing, columns[-1] + 50 / spacing):
        x, y, _ = _millimeters(padded)
        offset = (center - np.argwhere(lungs)[:, 0].mean()) * spacing
        radius = np.hypot(x - offset, y)
        hu = np.where((radius < 45) & ~body, 40, hu)
        hu = np.where((radius < 12) & ~body, 700, hu)
    x, y, z = _millimeters(padded)
    drain = (np.abs(y + 0.2 * x) < 3) & (np.abs(z) < 3) & (x > 40)
    return replace(padded, hu=np.where(np.broadcast_to(drain, hu.shape), 2500, hu).astype(np.float32))


def _table(chest: Chest, front: bool) -> Chest:
    rows = np.flatnonzero(body_of(chest).any(axis=(0, 2)))
    thick = round(15 / chest.grid.spacing[1])
    hu = chest.hu.copy()
    rows = slice(rows[-1], rows[-1] + thick) if front else slice(max(rows[0] - thick, 0), rows[0])
    hu[10:-10, rows] = np.where(hu[10:-10, rows] < -500, -120, hu[10:-10, rows])
    return chest.changed(hu)


def open_trachea(chest: Chest) -> Chest:
    """Cut in the trachea's upper third, with air from it to the outside in the topmost slices (tracheostomy)."""
    top = np.flatnonzero(chest.lungs.any(axis=(0, 1)))[-1]
    cut = chest.cut((slice(None), slice(None), slice(0, top + 2)))
    body = body_of(cut)[:, :, -1]
    gas, _ = ndimage.label(body & (cut.hu[:, :, -1] < -850) & ~cut.lungs[:, :, -1])
    middle = cut.hu.shape[0] // 2
    hu = cut.hu.copy()
    sizes = np.bincount(gas.ravel())
    sizes[0] = 0
    if sizes.any():
        index = np.argwhere(gas == sizes.argmax()).mean(axis=0).astype(int)
        middle, first = index
        hu[middle - 5 : middle + 6, first:, -3:] = np.minimum(hu[middle - 5 : middle + 6, first:, -3:], AIR)
    return cut.changed(hu)


def thick_slices(chest: Chest) -> Chest:
    """5 mm."""
    return _resliced(chest, lambda a: a[:, :, : a.shape[2] // 2 * 2].reshape(*a.shape[:2], -1, 2).mean(-1), 2.0)


def thin_slices(chest: Chest) -> Chest:
    """0.625 mm, the upper part of the chest."""
    half = chest.cut((slice(None), slice(None), slice(chest.hu.shape[2] // 2, None)))
    zoom = {"zoom": (1, 1, 4), "order": 1, "grid_mode": True, "mode": "nearest"}
    return _resliced(half, lambda array: ndimage.zoom(array.astype(np.float32), **zoom), 0.25)


def _resliced(chest: Chest, change: Callable[[np.ndarray], np.ndarray], factor: float) -> Chest:
    hu = change(chest.hu)
    scale = np.diag([1.0, 1.0, factor, 1.0])
    scale[2, 3] = (factor - 1) / 2
    lungs, heart = (change(mask.astype(np.float32)) >= 0.5 for mask in (chest.lungs, chest.heart))
    return Chest(hu.astype(np.float32), lungs, heart, Grid(hu.shape, chest.grid.affine @ scale))


def child(chest: Chest) -> Chest:
    """45 % of the size."""
    return replace(chest, grid=Grid(chest.hu.shape, np.diag([0.45, 0.45, 0.45, 1.0]) @ chest.grid.affine))


def upper_half(chest: Chest) -> Chest:
    return chest.cut((slice(None), slice(None), slice(_height(chest, 0.5), None)))


def lower_half(chest: Chest) -> Chest:
    return chest.cut((slice(None), slice(None), slice(0, _height(chest, 0.5))))


def lung_bases(chest: Chest) -> Chest:
    """An abdomen with the lowest quarter of the lungs."""
    return chest.cut((slice(None), slice(None), slice(0, _height(chest, 0.25))))


def _height(chest: Chest, share: float) -> int:
    hits = np.flatnonzero(chest.lungs.any(axis=(0, 1)))
    return round(hits[0] + share * (hits[-1] - hits[0]))


def whole_body(chest: Chest) -> Chest:
    """Belly with gas in the bowel and legs below, a head above: 1.5 m in all."""
    x, y, _ = _millimeters(chest)
    slices = round(600 / chest.grid.spacing[2])
    body = body_of(chest)[:, :, 0]
    below = np.where(body[..., None], 30.0, AIR).repeat(slices, axis=2)
    height = np.arange(slices)[None, None] * chest.grid.spacing[2]
    for place, depth, radius in ((-60, 20, 25), (70, 25, 30), (10, 40, 35), (-80, 0, 20)):
        bowel = np.hypot(np.hypot(x - place, y - depth), height - 480) < radius
        below = np.where(bowel & body[..., None], -990, below)
    legs = (np.hypot(np.abs(x) - 80, y) < 70) & (height < 350)
    below = np.where(height < 350, np.where(legs, 40, AIR), below)
    slices = round(250 / chest.grid.spacing[2])
    up = np.arange(slices)[None, None] * chest.grid.spacing[2]
    head = (np.hypot(x, y) < 75) & (up < 230)
    above = np.where(head, np.where(np.hypot(x, y - 40) < 14, -1000, 40), AIR)
    hu = np.concatenate([below, chest.hu, above], axis=2)
    ends = [(0, 0), (0, 0), (below.shape[2], above.shape[2])]
    start = np.eye(4)
    start[2, 3] = -below.shape[2]
    lungs, heart = np.pad(chest.lungs, ends), np.pad(chest.heart, ends)
    return Chest(hu.astype(np.float32), lungs, heart, Grid(hu.shape, chest.grid.affine @ start))


def breasts(chest: Chest) -> Chest:
    """Breasts of fat with glands, thick fat at the sides, and a field of view that cuts both."""
    body = body_of(chest)
    hu = np.pad(chest.hu, ((0, 0), (0, 40), (0, 0)), constant_values=AIR)
    lungs, heart, body = (np.pad(mask, ((0, 0), (0, 40), (0, 0))) for mask in (chest.lungs, chest.heart, body))
    padded = Chest(hu, lungs, heart, Grid(hu.shape, chest.grid.affine))
    x, y, z = _millimeters(padded)
    front = np.flatnonzero(body.any(axis=(0, 2)))[-1]
    reach = (front - np.argwhere(lungs)[:, 1].mean()) * chest.grid.spacing[1]
    grain = ndimage.gaussian_filter(np.random.default_rng(2).standard_normal(hu.shape).astype(np.float32), 3)
    grain /= grain.std()
    for side in (-85, 85):
        breast = ((x - side) / 75) ** 2 + ((y - reach + 15) / 70) ** 2 + ((z + 10) / 80) ** 2 < 1
        gland = ((x - side) / 50) ** 2 + ((y - reach) / 40) ** 2 + ((z + 10) / 55) ** 2 < 1
        fat = np.where(gland & (grain > -0.3), 35, -105)
        hu = np.where(breast & ~body, fat, hu)
    wall = ndimage.distance_transform_edt(~body, sampling=chest.grid.spacing) < 35
    hu = np.where(wall & (hu < -500) & ~body, -100, hu)
    columns = np.flatnonzero(lungs.any(axis=(1, 2)))
    margin = round(12 / chest.grid.spacing[0])
    wide = Chest(hu.astype(np.float32), lungs, heart, padded.grid)
    seen = slice(columns[0] - margin, columns[-1] + margin)
    return sharp_kernel(contrast(wide.cut((seen, slice(None), slice(None)))))


def no_lungs(chest: Chest) -> Chest:
    """The belly below the lungs."""
    return chest.cut((slice(None), slice(None), slice(0, max(np.flatnonzero(chest.lungs.any(axis=(0, 1)))[0] - 1, 8))))


TORTURES: dict[str, Callable[[Chest], Chest]] = {
    "as it is": lambda chest: chest,
    "contrast agent": contrast,
    "sharp kernel": sharp_kernel,
    "soft kernel": soft_kernel,
    "low dose (noise SD 130 HU)": low_dose,
    "body cut by the field of view": body_cut,
    "round field of view, padded": round_field,
    "breasts, thick wall, cut, contrast, sharp": breasts,
    "effusion": effusion,
    "pneumothorax": pneumothorax,
    "emphysema": emphysema,
    "one lung": one_lung,
    "lower half of one lung consolidated": consolidated,
    "prone on a table": prone_on_table,
    "table, arms, drain": table_and_arms,
    "trachea open to the outside": open_trachea,
    "5 mm slices": thick_slices,
    "0.6 mm slices": thin_slices,
    "size of a child (45 %)": child,
    "upper half": upper_half,
    "lower half": lower_half,
    "belly with lung bases": lung_bases,
    "whole body": whole_body,
    "belly without lungs": no_lungs,
}


def stored(array: np.ndarray, grid: Grid, way: str) -> tuple[np.ndarray, Grid]:
    """The same scan stored otherwise: ``flipped`` along all axes, or ``turned`` with the slices first."""
    if way == "flipped":
        flip = np.diag([-1.0, -1.0, -1.0, 1.0])
        flip[:3, 3] = np.array(grid.shape) - 1
        return np.ascontiguousarray(array[::-1, ::-1, ::-1]), Grid(grid.shape, grid.affine @ flip)
    turned = np.ascontiguousarray(np.moveaxis(array, 2, 0))
    return turned, Grid(turned.shape, grid.affine[:, [2, 0, 1, 3]])
