"""Demo: what a small network has learned, and which findings each of its answers rests on.

The network is trained here (half a minute) on labels of whole drawn images: is there a nodule (bright), a cavity
(dark), any finding? No one shows it where. Dissection then finds out which of its units detect nodules and cavities,
over images with masks, and three new images are explained: one with each finding, and one with both.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from support.planted_findings import (
    FINDINGS,
    finding_batch,
    finding_image,
    flat_grid,
    model_around,
    trained_network,
    write_cohort,
)
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.core.job import Job, Result
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume

IMAGES = 100
SEED = 77


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when everything has finished, 1 when something has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo-results"))
    folder = parser.parse_args(arguments).output / "semantics"
    print("Training the network on labels of whole images")
    session = session_with(model_around(trained_network(), learned=True))
    cohort = folder / "cohort"
    if not cohort.exists():
        write_cohort(cohort, finding_batch(np.random.default_rng(9), IMAGES))
    inputs = {"images": str(cohort)}
    found = _run("dissect", inputs, {"layers": ["late"], "keep": False}, folder / "dissect", session)
    if found.error is not None:
        return 1
    with open(folder / "dissect" / "concepts.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            best = (
                f", best IoU {float(row['best IoU']):.2f}, by chance {row['IoU by chance']}" if row["best IoU"] else ""
            )
            print(f"  {row['concept']}: {row['units']} of {found.values['units']} units{best}")
    for kinds in (FINDINGS[:1], FINDINGS[1:], FINDINGS):
        name = "-and-".join(kinds)
        scan = folder / f"{name}.nrrd"
        pixels = finding_image(np.random.default_rng(SEED), kinds).pixels[..., None]
        write_volume(scan, Volume(pixels, flat_grid(pixels.shape[:2])))
        inputs = {"volume": str(scan), "dissection": str(folder / "dissect" / "dissection.safetensors")}
        result = _run("explain-semantics", inputs, {}, folder / name, session)
        if result.error is not None:
            return 1
        print(f"  An image with {' and '.join(kinds)}: {result.values['sentence']}")
    print(f"  files: {folder}")
    return 0


def _run(task: str, inputs: dict[str, str], options: dict, output: Path, session) -> Result:
    print(f"{task}:" if task == "dissect" else "", end="\n" if task == "dissect" else "")
    job = Job(task=task, model="the network of the demo", inputs=inputs, options=options, output=str(output))
    result = run_job(job, session=session)
    if result.error is not None:
        print(f"Error: {result.error.message}\n  {result.error.remedy}\n{result.error.details}")
    return result


if __name__ == "__main__":
    sys.exit(main())
