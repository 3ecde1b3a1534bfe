"""What the interactive planes of a report show: scan, maps and segments, cropped and at 8 bit, as NIfTI in base64."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.errors import XAIError
from ..figures.gray_window import gray_window
from ..figures.planes import knows_its_sides
from ..figures.three_planes import MapLayer
from ..io.grid import Grid
from ..io.resample import resample
from ..io.segmentation_files import read_segmentation
from ..io.volume import Volume
from ..io.volume_files import read_image2d, read_volume
from .result_files import ResultFolder

MOST_VOXELS = 3_000_000
MOST_MAPS = 4
MOST_SEGMENTS = 60
MARGIN_MM = 15.0
LABEL_OF_EXPLAINED = "explained"


@dataclass(frozen=True, eq=False)
class Scene:
    """``content`` goes into the page as JSON; ``notes`` say what a reader must know of it."""

    content: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(eq=False)
class ShownResult:
    """The arrays of a result with its scan; ``notes`` say what could not be shown."""

    scan: Volume
    maps: list[tuple[str, MapLayer, Grid]] = field(default_factory=list)
    segments: list[tuple[str, tuple[float, ...], np.ndarray]] = field(default_factory=list)
    box: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


def read_shown(found: ResultFolder, scan_path: Any, most_maps: int | None = MOST_MAPS) -> ShownResult:
    """Read the scan and the volumes and segmentations of a result. Raises XAIError when the scan cannot be read."""
    try:
        scan = read_volume(scan_path, allow_channels=True)
    except XAIError:
        scan = read_image2d(scan_path)
    shown = ShownResult(scan)
    for item in found.artifacts("volume"):
        if not item.display.get("colors"):
            continue
        if len(shown.maps) == most_maps:
            shown.notes.append(f"The interactive planes show the first {most_maps} maps; the pictures show all.")
            break
        volume = read_volume(found.path(item))
        threshold = float(item.display.get("threshold", 0.0))
        window = item.display.get("window") or [0.0, 0.0]
        upper = float(window[1]) or None
        if scan.grid.overlaps(volume.grid) < 0.05:
            shown.notes.append(f"{item.name} does not lie on this scan and is left out.")
            continue
        layer = MapLayer(volume.channels_first()[0], item.name, item.units, threshold, upper)
        shown.maps.append((item.role, layer, volume.grid))
    boxes = []
    for item in found.artifacts("segmentation"):
        if item.role == LABEL_OF_EXPLAINED:
            continue
        segmentation = read_segmentation(found.path(item)).on_grid(scan.grid)
        voxels = np.argwhere(segmentation.union())
        if len(voxels):
            boxes.append(np.stack([voxels.min(0), voxels.max(0)]))
        if item.display.get("visible", True) is False:
            continue
        for segment in segmentation.segments[: MOST_SEGMENTS - len(shown.segments)]:
            shown.segments.append((segment.name, tuple(segment.color), segmentation.mask(segment)))
    if boxes:
        shown.box = np.stack([np.min([box[0] for box in boxes], 0), np.max([box[1] for box in boxes], 0)])
    return shown


def make_scene(shown: ShownResult, most_voxels: int = MOST_VOXELS) -> Scene:
    """Bring everything onto one grid along the patient's axes, as fine as ``most_voxels`` allow."""
    scan = shown.scan
    grid = display_grid(scan.grid, _box(shown), most_voxels)
    coarser = max(grid.spacing) > 1.01 * max(scan.grid.spacing) or min(grid.spacing) > 1.01 * min(scan.grid.spacing)
    window = gray_window(scan)
    values = np.asarray(scan.channels_first()[0], np.float32)
    gray = resample(values, scan.grid, grid, "linear", outside=window.low, antialias=coarser)
    step = (window.high - window.low) / 255
    content: dict[str, Any] = {
        "scan": {
            "name": scan.name or "scan",
            "nifti": _nifti(np.clip(gray, window.low, window.high), grid, "u1", step, window.low),
            "window": [window.low, window.high],
            "unit": scan.unit or ("HU" if window.text else ""),
        },
        "maps": [_map(role, layer, own, grid) for role, layer, own in shown.maps],
        "segments": _segments(shown, grid),
        "start": _start(shown),
        "sides": knows_its_sides(scan),
        "flat": min(grid.shape) == 1,
        "size": [grid.shape[grid.index_axis(axis)] * grid.spacing[grid.index_axis(axis)] for axis in range(3)],
    }
    notes = list(shown.notes)
    if coarser:
        size = " x ".join(f"{step:.1f}" for step in grid.spacing)
        notes.append(f"For this page the scan was resampled to {size} mm and 8 bit; the pictures have its own voxels.")
    return Scene(content, tuple(notes))


def display_grid(grid: Grid, box: np.ndarray, most_voxels: int) -> Grid:
    """A grid along the RAS axes over a box of voxel indices (2, 3), no finer than the scan's voxels.

    A single slice keeps its own plane.
    """
    if min(grid.shape) == 1:
        scale = max(1.0, (grid.voxel_count / most_voxels) ** 0.5)
        return grid.resized([max(1, int(size / scale)) for size in grid.shape])
    part = grid.cropped(box[0], (box[1] - box[0] + 1).tolist())
    corners, half = part.corners(), np.abs(part.affine[:3, :3]).sum(1) / 2
    low, high = corners.min(0) - half, corners.max(0) + half
    native = np.array([grid.spacing[grid.index_axis(axis)] for axis in range(3)])
    step, spacing = float(native.min()), native
    while np.prod(np.maximum(1, np.ceil((high - low) / spacing))) > most_voxels:
        step *= 1.05
        spacing = np.maximum(native, step)
    shape = np.maximum(1, np.ceil((high - low) / spacing - 1e-6)).astype(int)
    return Grid.from_directions(shape.tolist(), spacing.tolist(), None, low + spacing / 2)


def _box(shown: ShownResult) -> np.ndarray:
    """The voxels to show: around the segments with a margin, else where the scan is not background."""
    grid = shown.scan.grid
    last = np.array(grid.shape) - 1
    if shown.box is not None:
        margin = np.ceil(MARGIN_MM / np.array(grid.spacing)).astype(int)
        return np.stack([np.maximum(shown.box[0] - margin, 0), np.minimum(shown.box[1] + margin, last)])
    window = gray_window(shown.scan)
    values = shown.scan.channels_first()[0]
    floor = window.low + 0.15 * (window.high - window.low)
    strides = tuple(slice(None, None, max(1, size // 128)) for size in values.shape)
    step = np.array([part.step for part in strides])
    voxels = np.argwhere(values[strides] > floor) * step
    if not len(voxels):
        return np.stack([np.zeros(3, int), last])
    return np.stack([np.maximum(voxels.min(0) - step, 0), np.minimum(voxels.max(0) + step, last)])


def _map(role: str, layer: MapLayer, own: Grid, grid: Grid) -> dict[str, Any]:
    values = resample(np.nan_to_num(layer.values).astype(np.float32), own, grid, "linear", antialias=True)
    end = float(layer.end)
    kind, levels, low = ("i2", 127, -end) if layer.diverging else ("u1", 255, 0.0)
    return {
        "role": role,
        "name": layer.title,
        "unit": layer.unit or "attribution",
        "diverging": layer.diverging,
        "threshold": float(layer.threshold) or 0.05 * end,
        "end": end,
        "nifti": _nifti(np.clip(values, low, end), grid, kind, end / levels, 0.0),
    }


def _segments(shown: ShownResult, grid: Grid) -> dict[str, Any] | None:
    if not shown.segments:
        return None
    labels = np.zeros(grid.shape, np.uint8)
    for number, (_, _, mask) in enumerate(shown.segments, start=1):
        # What is smaller than a voxel of the page is not lost.
        covered = resample(mask.astype(np.float32), shown.scan.grid, grid, "linear", antialias=True)
        covered = covered >= min(0.5, 0.9 * float(covered.max(initial=0.0)))
        labels[covered & (labels == 0) & (covered > 0)] = number
    return {
        "names": [name for name, _, _ in shown.segments],
        "colors": [[int(round(255 * part)) for part in color[:3]] for _, color, _ in shown.segments],
        "nifti": _nifti(labels, grid, "u1", is_label=True),
    }


def _start(shown: ShownResult) -> list[float]:
    """Where the crosshair stands first: the strongest voxel of the first map, else the middle."""
    if shown.maps:
        _, layer, grid = shown.maps[0]
        amount = np.nan_to_num(np.abs(layer.values))
        if amount.any():
            index = np.unravel_index(int(amount.argmax()), amount.shape)
            return [float(value) for value in grid.index_to_ras(np.array(index))]
    return [float(value) for value in shown.scan.grid.center]


def _nifti(
    values: np.ndarray, grid: Grid, kind: str, slope: float = 1.0, inter: float = 0.0, is_label: bool = False
) -> str:
    """A gzipped NIfTI-1 file of integers with slope and intercept, in base64; the same values give the same text."""
    import nibabel

    slope = slope or 1.0
    image = nibabel.Nifti1Image(np.rint((values - inter) / slope).astype(kind), grid.affine)
    image.header.set_xyzt_units("mm")
    if is_label:
        image.header.set_intent("label")
    content = bytearray(image.to_bytes())
    # nibabel writes integers as they are, and forgets the scale: scl_slope and scl_inter of the header
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    return base64.b64encode(gzip.compress(bytes(content), 6, mtime=0)).decode("ascii")


def places_of(columns: Sequence[str], row: Sequence[str]) -> list[float] | None:
    """The RAS point (mm) that a row of a table names by its columns "... R (mm)", "... A (mm)", "... S (mm)"."""
    for prefix in ("centroid ", "center ", "peak ", ""):
        names = [f"{prefix}{axis} (mm)" for axis in "RAS"]
        if all(name in columns for name in names):
            try:
                return [float(row[list(columns).index(name)]) for name in names]
            except (ValueError, IndexError):
                return None
    return None
