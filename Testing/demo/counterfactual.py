"""Demo: what would this chest X-ray look like if the classifier had said otherwise?

Three held-out X-rays of 64 x 64 pixels, two of them with a planted consolidation of known place: a series for each in
which the consolidation grows and shrinks, and one image that gets a wanted probability. Generator, encoder and
classifier are shipped; nothing is downloaded. X-rays: MedNIST (B. Erickson, Mayo Clinic), CC BY-SA 4.0.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from xaiengine.app.run import run_job
from xaiengine.core.console import ConsoleProgress
from xaiengine.core.job import Job, Result
from xaiengine.core.progress import Progress
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.models.session import Session

HELD_OUT = Path(__file__).resolve().parents[1] / "data" / "chest_xray_held_out.npz"
GENERATOR, MODEL = "chest_xray_counterfactual", "chest_xray_consolidation_classifier"
CASES = (1, 7, 12)
"""Two X-rays with a consolidation, one without."""
OPAQUE = 25
"""Opacity (of 255) from which a pixel counts as planted."""


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when everything was explained, 1 when something failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("demo-results"))
    parser.add_argument("--generator", default=GENERATOR)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--device", default="auto")
    chosen = parser.parse_args(arguments)
    session, done = Session(), []
    for number in CASES:
        inputs = write_case(chosen.output / f"xray_{number}", number)
        folder = chosen.output / f"xray_{number}" / "series"
        done.append(_explain(inputs, chosen, session, folder, {"sides": "toward"}))
    wanted = {"wanted": 0.2}
    first = chosen.output / f"xray_{CASES[0]}"
    done.append(_explain(write_case(first, CASES[0]), chosen, session, first / "wanted", wanted))
    return 0 if all(result.status == "finished" for result in done) else 1


def write_case(folder: Path, number: int) -> dict[str, str]:
    """The X-ray, and the planted region where there is one, as files in a folder; returns the task's inputs."""
    with np.load(HELD_OUT) as content:
        image, opacity = content["images"][number].T[..., None], content["opacity"][number].T[..., None]
    grid = Grid.from_directions(image.shape, (5.0, 5.0, 5.0), np.diag([-1.0, -1.0, 1.0]))
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {"volume": str(write_volume(folder / f"xray_{number}.nrrd", Volume(image, grid, f"X-ray {number}")))}
    if (opacity > OPAQUE).any():
        segmentation = Segmentation.from_masks([Mask("planted consolidation", opacity > OPAQUE)], grid)
        inputs["region"] = str(write_segmentation(folder / "planted.seg.nrrd", segmentation))
    return inputs


def _explain(
    inputs: dict[str, str], chosen: argparse.Namespace, session: Session, output: Path, options: dict[str, object]
) -> Result:
    console = ConsoleProgress()
    inputs = {**inputs, "generator": chosen.generator}
    job = Job(
        task="explain-counterfactual",
        model=chosen.model,
        inputs=inputs,
        options=options,
        device=chosen.device,
        output=str(output),
    )
    result = run_job(job, Progress(console), session, console.log)
    console.close()
    if result.error is not None:
        print(f"Error: {result.error.message}\n  {result.error.remedy}\n{result.error.details}")
        return result
    values = result.values
    name = Path(inputs["volume"]).stem
    rebuilt, changed = values["reconstructed_prediction"], values["counterfactual_prediction"]
    own = f"{values['explained_target']} {values['prediction']:.2f}"
    print(f"{name}: {own}, rebuilt {rebuilt:.2f}, changed {changed:.2f}")
    print(f"  {(output / 'verdict.txt').read_text(encoding='utf-8').strip()}")
    print(f"  pictures: {output / 'film_strip.png'}, {output / 'animation.gif'}")
    return result


if __name__ == "__main__":
    sys.exit(main())
