"""Plant lung lesions of known extent into a CT scan.

A lesion replaces a share ``f`` of the air in each lung voxel by fluid or tissue,

    HU' = HU + f * (HU_tissue - HU)        where HU < HU_tissue,

so vessels stay visible through ground glass (small ``f``), air bronchograms through consolidation, and nothing is
pasted. The extent comes from a score in millimeters that is thresholded at the quantile giving the wanted burden: the
truth mask is where the lesion's profile exceeds one half. Everything is drawn from one ``numpy.random.Generator``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

KINDS = ("ground_glass", "consolidation", "mass", "mixed", "diffuse")
NODULES = ("nodule", "spiculated", "part_solid", "cavitary")
"""One to three round lesions of 8 to 30 mm."""
SOLID = ("mass", *NODULES)
COARSE_MM = 3.0


@dataclass(frozen=True)
class Planted:
    """A scan with planted lesions: ``hu`` (I, J, K) float32, ``lesions`` (I, J, K) bool, what kind and how much.

    ``burden`` is the truth's share of the lung volume (0..1).
    """

    hu: np.ndarray
    lesions: np.ndarray
    kind: str
    burden: float


def smooth_noise(shape: tuple[int, ...], spacing: np.ndarray, scale_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian random field of unit variance and correlation length ``scale_mm``, float32."""
    step = np.maximum(spacing, min(COARSE_MM, scale_mm / 1.5))
    coarse = tuple(int(np.ceil(n * h / s)) + 1 for n, h, s in zip(shape, spacing, step))
    field = ndimage.gaussian_filter(rng.standard_normal(coarse).astype(np.float32), scale_mm / step, mode="wrap")
    field /= max(float(field.std()), 1e-6)
    if coarse == tuple(shape):
        return field
    return resized(field, shape, spacing / step)


def resized(field: np.ndarray, shape: tuple[int, ...], step: np.ndarray) -> np.ndarray:
    """Sample ``field`` linearly at ``index * step`` for each index of ``shape``, one axis at a time."""
    for axis, (n, h) in enumerate(zip(shape, step)):
        at = np.minimum(np.arange(n) * h, field.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(field.shape[axis] - 2, 0))
        high = np.minimum(low + 1, field.shape[axis] - 1)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(field.ndim)])
        field = np.take(field, low, axis) * (1 - weight) + np.take(field, high, axis) * weight
    return field


def bounding_box(mask: np.ndarray, spacing: np.ndarray, margin_mm: float) -> tuple[slice, ...]:
    """Index box of ``mask`` grown by ``margin_mm``."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        pad = int(np.ceil(margin_mm / spacing[axis]))
        box.append(slice(max(hit[0] - pad, 0), min(hit[-1] + pad + 1, mask.shape[axis])))
    return tuple(box)


def _axes(shape: tuple[int, ...], spacing: np.ndarray) -> list[np.ndarray]:
    return [
        (np.arange(n, dtype=np.float32) * h).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, h) in enumerate(zip(shape, spacing))
    ]


def _focal_score(
    lungs: np.ndarray,
    depth: np.ndarray,
    spacing: np.ndarray,
    radii: np.ndarray,
    peripheral: bool,
    rough: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Score in mm of ellipsoids of the given radii: radius minus distance, surface roughened by ``rough`` x radius."""
    candidates = np.argwhere(lungs & (depth < 12.0)) if peripheral else np.argwhere(lungs & (depth > 6.0))
    if len(candidates) == 0:
        candidates = np.argwhere(lungs)
    axes = _axes(lungs.shape, spacing)
    score = np.full(lungs.shape, -1e3, np.float32)
    for radius in radii:
        center = candidates[rng.integers(len(candidates))] * spacing
        stretch = np.exp(rng.normal(0, 0.2, 3))
        distance = np.sqrt(sum(((x - c) / s) ** 2 for x, c, s in zip(axes, center, stretch)))
        np.maximum(score, (radius - distance).astype(np.float32), out=score)
    mean_radius = float(np.mean(radii))
    score += rough * mean_radius * smooth_noise(lungs.shape, spacing, max(0.45 * mean_radius, 3.0), rng)
    return score


def _with_spicules(score: np.ndarray, spacing: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Score in mm with 6 to 14 tapering strands of 1 to 2 mm that run out from the deepest point."""
    center = np.array(np.unravel_index(int(score.argmax()), score.shape)) * spacing
    offsets = [x - c for x, c in zip(_axes(score.shape, spacing), center)]
    for _ in range(int(rng.integers(6, 15))):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        along = sum(d * o for d, o in zip(direction, offsets))
        across = np.sqrt(np.maximum(sum(o**2 for o in offsets) - along**2, 0.0))
        length = radius + rng.uniform(4.0, 12.0)
        width = rng.uniform(1.0, 2.0) * np.clip(1 - along / length, 0, 1)
        np.maximum(score, np.where(along > 0, width - across, -1e3).astype(np.float32), out=score)
    return score


def _diffuse_score(lungs: np.ndarray, depth: np.ndarray, spacing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Score in mm of patchy disease that prefers the periphery and the dependent, basal parts."""
    scale = rng.uniform(10, 28)
    score = 0.9 * scale * smooth_noise(lungs.shape, spacing, scale, rng)
    score += 3.0 * smooth_noise(lungs.shape, spacing, 5.0, rng)
    score -= rng.uniform(0.1, 0.9) * np.minimum(depth, 40.0)
    x, y, z = _axes(lungs.shape, spacing)
    return score - rng.uniform(-0.05, 0.15) * y - rng.uniform(-0.05, 0.12) * z + rng.uniform(-0.1, 0.1) * x


def _radii(kind: str, burden: float | None, lung_mm3: float, rng: np.random.Generator) -> np.ndarray:
    few = kind in ("consolidation", *SOLID)
    count = int(rng.integers(1, 4)) if few else int(rng.integers(1, 6))
    if kind in NODULES:
        radii = rng.uniform(4, 15, count)
    elif kind == "mass":
        radii = rng.uniform(5, 20, count)
    else:
        radii = rng.uniform(6, 30, count)
    if burden is not None:
        count = max(1, min(count, int(burden * lung_mm3 / 500.0)))
        radii = radii[:count]
        radii *= (burden * lung_mm3 / (4.19 * (radii**3).sum())) ** (1 / 3)
    return radii


def plant(
    hu: np.ndarray,
    lungs: np.ndarray,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    kind: str,
    burden: float | None = None,
    tissue_hu: float | None = None,
) -> Planted:
    """Plant lesions of one kind.

    ``hu`` (I, J, K) in Hounsfield units with axes right, anterior, superior; ``lungs`` (I, J, K) bool; ``spacing`` in
    mm; ``burden`` the wanted share of the lung volume (0..1), or None for a random size. The truth reaches the wanted
    burden to within the discretisation of the quantile.
    """
    if kind not in KINDS + NODULES:
        raise ValueError(f"unknown kind of lesion {kind!r}; one of {', '.join(KINDS + NODULES)}")
    spacing = np.asarray(spacing, float)
    out = hu.astype(np.float32, copy=True)
    truth = np.zeros(hu.shape, bool)
    box = bounding_box(lungs, spacing, 6.0)
    lung, ct = lungs[box], out[box]
    depth = ndimage.distance_transform_edt(lung, sampling=spacing).astype(np.float32)
    voxel = float(np.prod(spacing))
    lung_mm3 = float(lung.sum()) * voxel

    if kind == "diffuse":
        wanted = burden if burden is not None else float(rng.uniform(0.03, 0.6))
        score = _diffuse_score(lung, depth, spacing, rng)
    else:
        wanted = burden
        radii = _radii(kind, burden, lung_mm3, rng)
        rough = rng.uniform(0.08, 0.2) if kind in SOLID else rng.uniform(0.15, 0.4)
        score = _focal_score(lung, depth, spacing, radii, bool(rng.random() < 0.6), rough, rng)
        if kind == "spiculated":
            score = _with_spicules(score, spacing, float(np.max(radii)), rng)
    if wanted is not None:
        score = score - np.quantile(score[lung], 1.0 - wanted)

    sharp, soft, blurred = rng.uniform(0.5, 1.0), rng.uniform(0.8, 2.0), rng.uniform(1.0, 3.0)
    edge = sharp if kind in SOLID else soft if kind == "consolidation" else blurred
    profile = _sigmoid(score / edge)
    profile *= lung
    fill = _fill(kind, score, ct, lung.shape, spacing, rng)
    tissue = tissue_hu if tissue_hu is not None else float(rng.uniform(15, 60))
    grain = rng.uniform(8, 25) * ndimage.gaussian_filter(
        rng.standard_normal(lung.shape).astype(np.float32), (0.7, 0.7, 0)
    )
    blend = np.clip(profile * fill, 0.0, 1.0)
    target = np.maximum(ct, tissue + 2.0 * grain)
    ct += blend * (target - ct)
    truth[box] = (profile > 0.5) & lung
    return Planted(out, truth, kind, float(truth.sum()) * voxel / max(lung_mm3, voxel))


def _fill(
    kind: str, score: np.ndarray, ct: np.ndarray, shape: tuple[int, ...], spacing: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Share of the air that is replaced (0..1), with texture; open airways keep their air in consolidation."""
    texture = smooth_noise(shape, spacing, rng.uniform(2.5, 6.0), rng)
    if kind in SOLID:
        solid = np.clip(rng.uniform(0.94, 1.0) + 0.02 * texture, 0, 1)
        if kind not in ("cavitary", "part_solid"):
            return solid
        inner = _sigmoid((score - rng.uniform(0.25, 0.6) * max(float(score.max()), 1.0)) / 0.7)
        if kind == "cavitary":
            return solid * (1 - 0.95 * inner)
        glass = rng.uniform(0.25, 0.5)
        return glass + inner * (solid - glass)
    glass = rng.uniform(0.2, 0.48) * (1 + 0.18 * texture)
    solid = rng.uniform(0.75, 0.97) * (1 + 0.05 * texture)
    if kind == "consolidation":
        fill = solid
    elif kind == "ground_glass":
        fill = glass
    else:  # consolidated core in ground glass, the share of each being drawn
        core = _sigmoid((score - rng.uniform(2.0, 14.0) + 3.0 * smooth_noise(shape, spacing, 8.0, rng)) / 1.5)
        fill = glass + core * (solid - glass)
    if kind != "ground_glass" and rng.random() < 0.7:
        airways = _sigmoid((-945.0 - ndimage.uniform_filter(ct, 3)) / 12.0)
        fill = fill * (1 - 0.9 * airways)
    return np.clip(fill, 0, 1)


def add_distractors(
    hu: np.ndarray,
    lungs: np.ndarray,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    density: float = 1.0,
) -> np.ndarray:
    """Add what lungs show without lesions: thin bands, density rising to the dependent side, other inflation.

    Same conventions as :func:`plant`; ``density`` scales the changes of density (at 1 up to 90 HU everywhere and
    130 HU in the dependent parts). Returns a new (I, J, K) float32 array.
    """
    spacing = np.asarray(spacing, float)
    out = hu.astype(np.float32, copy=True)
    box = bounding_box(lungs, spacing, 2.0)
    lung, ct = lungs[box], out[box]
    x, y, z = _axes(lung.shape, spacing)
    ct += (lung & (ct < -300)) * (density * rng.uniform(-30, 90))
    if rng.random() < 0.5:
        height = (y - y.min()) / max(float(np.ptp(y)), 1.0)
        ct += (lung & (ct < -300)) * (1 - height) ** 2 * (density * rng.uniform(0, 130))
    for _ in range(int(rng.poisson(1.0))):
        normal = rng.normal(size=3)
        normal /= np.linalg.norm(normal)
        center = np.argwhere(lung)[rng.integers(int(lung.sum()))] * spacing
        offset = sum(n * (a - c) for n, a, c in zip(normal, (x, y, z), center))
        offset = offset + 2.0 * smooth_noise(lung.shape, spacing, 12.0, rng)
        reach = np.sqrt(sum((a - c) ** 2 for a, c in zip((x, y, z), center)))
        band = np.exp(-((offset / rng.uniform(0.7, 1.3)) ** 2)) * _sigmoid((rng.uniform(10, 30) - reach) / 3.0) * lung
        ct += band * rng.uniform(0.3, 0.9) * (np.maximum(ct, 20.0) - ct)
    return out


def paint_out(
    hu: np.ndarray,
    region: np.ndarray,
    lungs: np.ndarray,
    spacing: tuple[float, float, float],
    rng: np.random.Generator,
    *,
    margin_mm: float = 4.0,
) -> np.ndarray:
    """Replace ``region`` (I, J, K bool), grown by ``margin_mm``, by lung of the scan's own density and grain."""
    spacing = np.asarray(spacing, float)
    out = hu.astype(np.float32, copy=True)
    if not region.any():
        return out
    box = bounding_box(region, spacing, margin_mm + 30.0)
    inside, lung, ct = region[box], lungs[box], out[box]
    distance = ndimage.distance_transform_edt(~inside, sampling=spacing)
    ring = lung & (distance > margin_mm + 4) & (distance < margin_mm + 25)
    aerated = ct[ring & (ct < -700)]
    mean, sd = (float(np.median(aerated)), float(aerated.std())) if aerated.size > 50 else (-860.0, 35.0)
    weight = np.clip(1.0 + (margin_mm - distance) / 2.0, 0.0, 1.0) * (lung | inside)
    grain = smooth_noise(ct.shape, spacing, 2.5, rng)
    ct += weight * (mean + 0.8 * sd * grain - ct)
    return out


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x)).astype(np.float32)
