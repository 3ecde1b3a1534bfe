"""Planted lesions in a chest that the shipped classifier never saw: the bottleneck against Grad-CAM and Grad-CAM++.

    python3 Testing/run.py benchmark lesions [--scans 40] [--healthy 20] [--repeats 3] [--output FILE.csv]

Every method explains the same slices of the same scans, with thresholds from the same healthy scans at the layer that
suits it best, and the same refinement and measurement. ``repeatability`` is the SD of the burden when a scan is taken
again: other noise (10 HU) and another seed.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING / "training" / "lesion_classifier"), str(TESTING.parent / "SlicerXAI")]

import cohort
import planting
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.lesions.lungs.lungs import Lungs
from xaiengine.lesions.pipeline import LesionFindings, quantify_scan
from xaiengine.lesions.regions import LungRegions
from xaiengine.lesions.settings import TASK, LesionSettings
from xaiengine.models.catalogue import find_model
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.models.loading import load

MODEL = "lung_lesion_slice_classifier"
BURDENS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75)
NOISE_HU = 10.0
DENSITY = 0.3
"""Share of the training's changes of lung density: this patient's lungs are dense already (median -790 HU)."""


@dataclass(frozen=True)
class Case:
    """One scan to be measured: HU (I, J, K), the true lesions, the lungs, what was planted."""

    hu: np.ndarray
    truth: np.ndarray
    regions: LungRegions
    spacing: tuple[float, float, float]
    kind: str

    @property
    def burden(self) -> float:
        """Percent of the lungs."""
        return 100.0 * float(self.truth.sum()) / float(self.regions.lungs.combined.sum())


@dataclass(frozen=True)
class Measured:
    """What one method found in one case. ``repeats`` are the burdens (%) when the scan is taken again."""

    burden: float
    dice: float
    volume_ml: float
    severity: str
    repeats: tuple[float, ...]
    seconds: float


def cases(lesions: int, healthy: int, anatomy: cohort.Anatomy) -> list[Case]:
    """``lesions`` scans with 0.2 to 75 % burden and ``healthy`` without; mirrored, re-noised, with thin bands."""
    found = []
    for index in range(lesions + healthy):
        rng = np.random.default_rng(20_000 + index)
        hu, lungs = anatomy.hu.astype(np.float32), anatomy.lungs
        for axis in (0, 1):
            if rng.random() < 0.5:
                hu, lungs = np.flip(hu, axis), np.flip(lungs, axis)
        hu, lungs = np.ascontiguousarray(hu), np.ascontiguousarray(lungs)
        hu = planting.add_distractors(hu, lungs, anatomy.spacing, rng, density=DENSITY)
        truth, kind = np.zeros(lungs.shape, bool), "none"
        if index < lesions:
            burden = BURDENS[index % len(BURDENS)]
            kinds = planting.KINDS if burden < 0.2 else ("mixed", "diffuse", "consolidation", "ground_glass")
            kind = kinds[(index // len(BURDENS) + index) % len(kinds)]
            planted = planting.plant(hu, lungs, anatomy.spacing, rng, kind=kind, burden=burden)
            hu, truth = planted.hu, planted.lesions
        hu = hu + rng.normal(0, rng.uniform(0, NOISE_HU), hu.shape)
        found.append(Case(hu.astype(np.int16), truth, _regions(lungs, anatomy.spacing), anatomy.spacing, kind))
    return found


def _regions(lungs: np.ndarray, spacing: tuple[float, float, float]) -> LungRegions:
    grid = Grid.from_directions(lungs.shape, spacing)
    right = np.zeros_like(lungs)
    right[lungs.shape[0] // 2 :] = True
    return LungRegions(Lungs(lungs & ~right, lungs & right, grid), given=True)


def measure(case: Case, model: ExplainedModel, settings: LesionSettings, repeats: int) -> Measured:
    """Measure a case once, then ``repeats - 1`` times more with other noise and seed."""
    start = time.process_time()
    first = _quantify(case, case.hu, model, settings, 0)
    seconds = time.process_time() - start
    again = [first.quantification.total.percent]
    for number in range(1, repeats):
        noise = np.random.default_rng(number).normal(0, NOISE_HU, case.hu.shape)
        hu = (case.hu + noise).astype(np.int16)
        again.append(_quantify(case, hu, model, settings, number).quantification.total.percent)
    found = first.labels > 0
    overlap = 2.0 * (found & case.truth).sum() / max(found.sum() + case.truth.sum(), 1)
    total = first.quantification.total
    return Measured(
        total.percent, float(overlap), total.lesion_ml, first.quantification.severity.label, tuple(again), seconds
    )


def _quantify(
    case: Case, hu: np.ndarray, model: ExplainedModel, settings: LesionSettings, seed: int
) -> LesionFindings:
    volume = Volume(hu, case.regions.lungs.grid, "planted", "HU")
    target = model.label_index(model.target)
    return quantify_scan(volume, model, settings, case.regions, target=target, seed=seed)


def summary(cases: list[Case], found: list[Measured]) -> dict[str, float]:
    """The figures of one method over all cases."""
    truth = np.array([case.burden for case in cases])
    burden = np.array([item.burden for item in found])
    ill = truth > 0
    spread = [np.std(item.repeats, ddof=1) for item in found if len(item.repeats) > 1]
    return {
        "Dice": float(np.mean([item.dice for item, is_ill in zip(found, ill) if is_ill])),
        "burden error (points)": float(np.abs(burden - truth)[ill].mean()),
        "Spearman": float(spearmanr(truth, burden)[0]),
        "healthy: false positive mL": float(
            np.mean([item.volume_ml for item, is_ill in zip(found, ill) if not is_ill])
        ),
        "healthy: called CT-0 (%)": 100.0
        * float(np.mean([item.severity.startswith("CT-0") for item, is_ill in zip(found, ill) if not is_ill])),
        "repeatability SD (points)": float(np.mean(spread)) if spread else float("nan"),
        "CPU s per scan": float(np.mean([item.seconds for item in found])),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=40, help="scans with lesions")
    parser.add_argument("--healthy", type=int, default=20, help="scans without")
    parser.add_argument("--repeats", type=int, default=3, help="times that each scan with lesions is taken")
    parser.add_argument("--methods", nargs="+", default=["model", "grad-cam", "grad-cam++"])
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--output", type=Path, help="every single result, as CSV")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = load(find_model(options.model))
    defaults = model.defaults[TASK]
    every = cases(options.scans, options.healthy, cohort.held_out())
    rows, table = [], {}
    for name in options.methods:
        settings = LesionSettings.model_validate(defaults if name == "model" else {**defaults, "method": name})
        found = []
        for index, case in enumerate(every):
            found.append(measure(case, model, settings, options.repeats if case.truth.any() else 1))
            item = found[-1]
            rows.append((settings.method, index, case.kind, case.burden, item.burden, item.dice, item.volume_ml))
            print(
                f"{settings.method:12} {index + 1:3}/{len(every)} {case.kind:13} true {case.burden:6.2f} % "
                f"found {item.burden:6.2f} %  Dice {item.dice:.2f}  {item.severity}",
                flush=True,
            )
        table[f"{settings.method} ({settings.layer_of(model)})"] = summary(every, found)
    print_table(table)
    if options.output:
        with open(options.output, "w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(("method", "scan", "kind", "true burden (%)", "burden (%)", "Dice", "volume (mL)"))
            writer.writerows(rows)
    return 0


def print_table(table: dict[str, dict[str, float]]) -> None:
    names = list(table)
    width = max(len(figure) for figure in table[names[0]])
    print("\n" + " " * width + "".join(f"{name:>26}" for name in names))
    for figure in table[names[0]]:
        print(f"{figure:{width}}" + "".join(f"{table[name][figure]:26.3f}" for name in names))


if __name__ == "__main__":
    sys.exit(main())
