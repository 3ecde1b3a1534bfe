"""Makes the pictures of the README and of the documentation again, from the demos and commands that they show.

    python3 Testing/run.py pictures [NAME ...] [--output DIR]

Without names all are made, which takes about half an hour on two cores. They are written into Resources; look at each
before it is committed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
ROOT = TESTING.parent
DATA = TESTING / "data"
RESOURCES = ROOT / "Resources"
WIDEST = 1640
"""Pixels; wider pictures are scaled down."""
AORTA = "3.0,136.3,582.2"
"""A point in the descending aorta of cta_aorta.nrrd, RAS in mm."""
SCREENSHOTS = (
    "check_the_explanation",
    "counterfactual",
    "explain_prediction",
    "explain_segmentation",
    "quantify_lesions",
    "semantics",
)


def lesions(folder: Path) -> Path:
    """A lung cancer found by a classifier of slices."""
    _demo("lesions", folder)
    return folder / "picture.png"


def prediction(folder: Path) -> Path:
    """Three methods at one false alarm of the shipped classifier."""
    options = ["--target", "lesion", "--slices", "highest", "--methods", "iba", "inverse_iba", "integrated_gradients"]
    scan = str(DATA / "chest_cta.nrrd")
    _engine("explain-prediction", scan, "--model", "lung_lesion_slice_classifier", *options, output=folder)
    return folder / "picture.png"


def counterfactual(folder: Path) -> Path:
    """A series in which a consolidation appears."""
    _demo("counterfactual", folder)
    return folder / "xray_12" / "series" / "film_strip.png"


def semantics(folder: Path) -> Path:
    """Which findings support a prediction."""
    _demo("semantics", folder)
    return folder / "semantics" / "nodule-and-cavity" / "picture.png"


def uncertainty(folder: Path) -> Path:
    """A map of a vessel segmentation above its SD over flips."""
    options = ["--target", "component", "--point", AORTA, "--methods", "iba"]
    options += ["--uncertainty", "flips", "--uncertainty-runs", "3"]
    _engine(
        "explain-segmentation", str(DATA / "cta_aorta.nrrd"), "--model", "vessel_segmentation", *options, output=folder
    )
    return folder / "uncertainty.png"


PICTURES: dict[str, Callable[[Path], Path]] = {
    "lesions": lesions,
    "prediction": prediction,
    "counterfactual": counterfactual,
    "semantics": semantics,
    "uncertainty": uncertainty,
}


def main(arguments: list[str] | None = None) -> int:
    """Returns 0 when all were made, 1 when one was not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*PICTURES, "screenshots"]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(known)} (default: all)")
    parser.add_argument("--output", type=Path, default=RESOURCES, help="where to (default: Resources)")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"there is no picture {unknown[0]!r}; there are {', '.join(known)}")
    failed = []
    for name in chosen.names or known:
        print(f"Picture: {name}", flush=True)
        try:
            written = screenshots(chosen.output) if name == "screenshots" else [make(name, chosen.output)]
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"  failed: {error}", flush=True)
            failed.append(name)
            continue
        for path in written:
            print(f"  {path} ({path.stat().st_size / 1000:.0f} kB)", flush=True)
    return 1 if failed else 0


def make(name: str, output: Path) -> Path:
    """Make one picture and return its file."""
    with tempfile.TemporaryDirectory(prefix="xaiengine-pictures-") as folder:
        made = PICTURES[name](Path(folder) / "result")
        output.mkdir(parents=True, exist_ok=True)
        return shrunk(made, output / f"{name}.png")


def screenshots(output: Path) -> list[Path]:
    """The panel with its results, as the tests that use it drive it."""
    folder = output / "Screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**os.environ, "XAI_SCREENSHOTS": str(folder)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(TESTING / "gui" / "test_tasks.py")]
    subprocess.run(command, cwd=ROOT, env=settings, check=True)
    for path in folder.glob("*.png"):
        if path.stem not in SCREENSHOTS:  # of tests alone
            path.unlink()
    return [folder / f"{name}.png" for name in SCREENSHOTS]


def shrunk(source: Path, target: Path) -> Path:
    """A copy that is no wider than a page needs."""
    from PIL import Image

    picture = Image.open(source)
    if picture.width <= WIDEST:
        shutil.copyfile(source, target)
        return target
    size = (WIDEST, round(picture.height * WIDEST / picture.width))
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(target, optimize=True)
    return target


def _demo(name: str, output: Path) -> None:
    subprocess.run([sys.executable, "-m", f"demo.{name}", "--output", str(output)], cwd=TESTING, check=True)


def _engine(task: str, *arguments: str, output: Path) -> None:
    command = [sys.executable, "-m", "xaiengine", task, *arguments, "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main())
