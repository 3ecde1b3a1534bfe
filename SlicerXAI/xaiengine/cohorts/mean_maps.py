"""Mean and standard deviation of a cohort's maps, voxel by voxel: in an atlas, or where all cases share one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.job import read_result
from ..io.grid import Grid
from ..io.resample import resample
from ..io.volume import Volume
from ..io.volume_files import read_volume, write_volume
from .plan import Work

FEWEST = 2
TOLERANCE_MM = 1e-3
TRANSFORM = "transform"
"""Covariate with a case's transform to the atlas (.h5, .tfm, .txt; as SimpleITK writes it)."""


def write_mean_maps(
    output: Path, work: Sequence[Work], atlas: str = "", warn: Callable[[str], None] = lambda text: None
) -> list[str]:
    """Write ``mean_ROLE.nrrd`` and ``sd_ROLE.nrrd`` for every map that all cases have; returns the files' names.

    With ``atlas`` (a volume) maps are brought to its grid, through each case's transform where the column
    "transform" of the manifest names one; nothing is registered here. Without, all maps have to lie on one grid:
    otherwise nothing is written, and nothing said unless an atlas was asked for. Voxels that a case's scan does not
    cover do not count for it.
    """
    if len(work) < FEWEST:
        return []
    target = read_volume(atlas).grid if atlas else None
    roles = _common_roles(work)
    if not atlas and not _one_grid(work, roles):
        return []
    written = []
    for role in roles:
        mean, sd, grid, unit = _moments(work, role, target)
        for kind, values in (("mean", mean), ("sd", sd)):
            name = f"{kind}_{role}.nrrd"
            write_volume(output / name, Volume(values.astype(np.float32), grid, f"{kind} of {role}", unit))
            written.append(name)
    if atlas and not written:
        warn("The cases have no map in common: no mean was made.")
    return written


def _common_roles(work: Sequence[Work]) -> list[str]:
    found: list[str] | None = None
    for item in work:
        own = [
            artifact.role
            for artifact in read_result(item.folder).artifacts
            if artifact.kind == "volume" and artifact.display.get("colors")
        ]
        found = own if found is None else [role for role in found if role in own]
    return found or []


def _map(item: Work, role: str) -> Volume:
    artifact = read_result(item.folder).artifact(role)
    if artifact is None:
        raise InputError(f"{item.case.name} has no map {role}.", "Run the case again.")
    volume = read_volume(item.folder / artifact.file, allow_channels=True)
    return Volume(volume.array, volume.grid, volume.name, artifact.units or volume.unit)


def _one_grid(work: Sequence[Work], roles: Sequence[str]) -> bool:
    if not roles:
        return False
    grids = [_map(item, roles[0]).grid for item in work]
    first = grids[0]
    return all(
        grid.shape == first.shape and np.abs(grid.affine - first.affine).max() <= TOLERANCE_MM for grid in grids
    )


def _moments(work: Sequence[Work], role: str, target: Grid | None) -> tuple[np.ndarray, np.ndarray, Grid, str]:
    """Mean and standard deviation (n - 1) in one pass over the cases (Welford), memory of two maps."""
    grid = target if target is not None else _map(work[0], role).grid
    count, mean, squares = np.zeros(grid.shape), np.zeros(grid.shape), np.zeros(grid.shape)
    unit = ""
    for item in work:
        volume = _map(item, role)
        unit = volume.unit
        values, covered = _on(volume, grid, str(item.case.covariates.get(TRANSFORM) or ""), target is not None)
        count += covered
        step = np.where(covered, values - mean, 0.0)
        mean += np.divide(step, count, out=np.zeros_like(step), where=count > 0)
        squares += step * np.where(covered, values - mean, 0.0)
    sd = np.sqrt(np.divide(squares, count - 1, out=np.zeros_like(mean), where=count > 1))
    return mean, sd, grid, unit


def _on(volume: Volume, grid: Grid, transform: str, moved: bool) -> tuple[np.ndarray, np.ndarray]:
    array = np.asarray(volume.array, np.float32)
    array = array.sum(axis=0) if array.ndim == 4 else array
    if not moved:
        return array, np.isfinite(array)
    if transform:
        return _through(array, volume.grid, grid, Path(transform))
    covered = resample(np.ones(array.shape, np.uint8), volume.grid, grid, "nearest", outside=0) > 0
    return resample(array, volume.grid, grid, "linear", outside=0.0), covered


def _through(array: np.ndarray, own: Grid, grid: Grid, transform: Path) -> tuple[np.ndarray, np.ndarray]:
    """Through a transform that maps points of the atlas to points of the case, in LPS as ITK has them."""
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise InputError(
            "Transforms are read with the package SimpleITK, which is not installed.", "pip install SimpleITK"
        ) from error
    try:
        moving = sitk.ReadTransform(str(transform))
    except RuntimeError as error:
        raise InputError(f"The transform {transform} cannot be read.", "Save it as .h5 or .tfm.") from error
    image, reference = _itk(array, own), _itk(np.zeros(grid.shape, np.float32), grid)
    values = sitk.Resample(image, reference, moving, sitk.sitkLinear, 0.0)
    ones = _itk(np.ones(array.shape, np.float32), own)
    covered = sitk.Resample(ones, reference, moving, sitk.sitkNearestNeighbor, 0.0)
    return (
        np.transpose(sitk.GetArrayFromImage(values), (2, 1, 0)),
        np.transpose(sitk.GetArrayFromImage(covered), (2, 1, 0)) > 0.5,
    )


def _itk(array: np.ndarray, grid: Grid):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(np.transpose(array, (2, 1, 0))))
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing([float(step) for step in spacing])
    image.SetOrigin([float(value) for value in lps[:3, 3]])
    image.SetDirection([float(value) for value in (lps[:3, :3] / spacing).ravel()])
    return image
