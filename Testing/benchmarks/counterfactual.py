"""Counterfactual images on held-out X-rays with planted consolidations: does the true cause change, and nothing else?

    python3 Testing/run.py benchmark counterfactual [--only PART ...] [--images N] [--generator FOLDER]

Parts: inversion, directions, series, control, cost, duration. The consolidation's extent is measured without the
classifier: how far the lung fields of the lesion-free X-ray have been pulled toward the brightness of soft tissue,
which is how consolidations were planted. Times are CPU seconds of one thread unless they say otherwise.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [
    str(TESTING / "benchmarks"),
    str(TESTING),
    str(TESTING.parent / "SlicerXAI"),
    str(TESTING / "training" / "chest_counterfactual"),
]

import numpy as np
import torch
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.core.progress import Progress
from xaiengine.counterfactual.directions.directions import FinderSettings, find
from xaiengine.counterfactual.directions.scoring import score_direction
from xaiengine.counterfactual.generator.latent_sample import LatentSample
from xaiengine.counterfactual.generator_context import load_setting
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.models.session import Session
from xaiengine.tasks.find_directions.finding import find_directions, generated_answer
from xray_counterfactuals.bench import DEFAULT, METHODS, REACH, SAMPLES, STEPS, Bench, report
from xray_counterfactuals.cases import held_out_cases
from xray_counterfactuals.series import report_truth, series_part

GENERATOR, MODEL = "chest_xray_counterfactual", "chest_xray_consolidation_classifier"


def inversion_part(bench: Bench) -> None:
    for refine, steps in (("none", 0), ("latent", STEPS), ("plus", STEPS)):
        start = time.process_time()
        found = bench.inverted(refine, steps)
        seconds = (time.process_time() - start) / len(found.l1)
        gap = (found.values.sigmoid() - found.reconstructed_values.sigmoid()).abs()
        same = ((found.values > 0) == (found.reconstructed_values > 0)).float().mean()
        name = f"encoder, {steps} steps in {refine}" if steps else "encoder alone"
        goal = "<= 0.05" if refine == "latent" else ""
        middle, tail = float(gap.median()), float(gap.quantile(0.9))
        report(
            f"{name}: |f(x) - f(G(w))|, median",
            f"{middle:.4f} (90 %: {tail:.4f})",
            goal,
            middle <= 0.05 if goal else None,
        )
        report(
            f"{name}: L1 (gray values), SSIM, same side",
            f"{float(found.l1.mean()) * 127.5:.2f}, {float(found.similarity.mean()):.3f}, {float(same):.1%}",
        )
        report(f"{name}: CPU seconds per image", f"{seconds:.3f}")


def directions_part(bench: Bench) -> None:
    """Every finder on latents that it was not found on."""
    fitted, held_out = bench.sample.divided()
    space, geometry = bench.setting.space, bench.setting.geometry
    for subspace in ("style", "all"):
        settings = FinderSettings(leading=bench.setting.moving(subspace))
        for method in ("covariance", "logistic", "ridge", "gradient", "weights"):
            (found,) = find(method, space, bench.answer, geometry, fitted, settings)
            figures = score_direction(found, space, bench.answer, geometry, held_out, images=32, reach=REACH)
            report(
                f"{method}, {subspace}: AUC, flips up / down, Spearman on generated images",
                f"{figures['auc']:.2f}, {_part(figures['up'])} / {_part(figures['down'])}, {figures['spearman']:.2f}",
            )
    few = LatentSample(fitted.latents[:100], fitted.values[:100])
    settings = FinderSettings(leading=bench.setting.moving("auto"))
    (all_of_them,) = find("covariance", space, bench.answer, geometry, fitted, settings)
    (found,) = find("covariance", space, bench.answer, geometry, few, settings)
    cosine = torch.nn.functional.cosine_similarity(found.vector, all_of_them.vector, 0)
    report("covariance direction: cosine of 100 latents with 1,600", f"{float(cosine):.3f}")


def _part(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def control_part(bench: Bench) -> None:
    """Without a generator: pixels follow the gradient of the answer until it has turned over."""
    cases = bench.cases
    start = bench.answer(cases.images).detach()
    rises = start <= 0
    sign = torch.where(rises, 1.0, -1.0)[:, None, None, None]
    images = cases.images.clone()
    ends, done = cases.images.clone(), torch.zeros(len(images), dtype=torch.bool)
    for _ in range(80):
        leaf = images.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(bench.answer(leaf).sum(), leaf)
        norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        images = images + 0.25 * sign * gradient / norm
        over = (bench.answer(images) * sign.flatten()) > 0.5
        ends[over & ~done] = images[over & ~done]
        done |= over
    ends[~done] = images[~done]
    report("pixel gradient (no generator): flip rate", f"{float(done.float().mean()):.1%}")
    report_truth("pixel gradient", cases, cases.images, ends, rises, False)


def cost_part(bench: Bench) -> None:
    """Sampling, finding and judging against the bare generator and model passes of as many latents, in turns."""
    space, latents = bench.setting.space, bench.setting.space.sample(SAMPLES, 0)
    network, select = bench.model.network, bench.model.select_output
    whole, bare = [], []
    for repeat in range(3):
        start = time.process_time()
        with torch.no_grad():
            for part in latents.split(64):
                select(network((space.decode(part) + 1) / 2))
        bare.append(time.process_time() - start)
        start = time.process_time()
        find_directions(
            bench.setting,
            bench.answer,
            [DEFAULT],
            FinderSettings(leading=bench.setting.moving("auto")),
            samples=SAMPLES,
            seed=repeat,
            judged=12,
            reach=REACH,
            progress=Progress(),
        )
        whole.append(time.process_time() - start)
    ratios = [one / other for one, other in zip(whole, bare)]
    ratio = statistics.median(ratios)
    report(
        f"find-directions of {SAMPLES} latents against bare passes (judging included)",
        f"{ratio:.3f} ({statistics.median(whole):.1f} s / {statistics.median(bare):.1f} s)",
        "<= 1.1",
        ratio <= 1.1,
    )


def duration_part(bench: Bench) -> None:
    """One series through the task, files and pictures included, after a first one has warmed everything up."""
    torch.set_num_threads(2)
    session = Session()
    grid = Grid.from_directions((64, 64, 1), (1.0, 1.0, 1.0), np.diag([-1.0, -1.0, 1.0]))
    with tempfile.TemporaryDirectory() as folder:
        seconds, work = [], []
        for number in range(4):
            values = ((bench.cases.images[number, 0].numpy() + 1) * 127.5).astype(np.float32)[..., None]
            path = write_volume(Path(folder) / f"{number}.nrrd", Volume(values, grid, "x-ray"))
            options = {"volume": str(path), "model": MODEL, "generator": str(bench.setting.stored.source)}
            start, busy = time.perf_counter(), time.process_time()
            result = run_job(
                Job(task="explain-counterfactual", options=options, output=f"{folder}/{number}"), session=session
            )
            seconds.append(time.perf_counter() - start)
            work.append(time.process_time() - busy)
            if result.error is not None:
                print(result.error)
        with open(Path(folder) / "3" / "figures.csv", encoding="utf-8") as stream:
            figures = {row["figure"]: row["value"] for row in csv.DictReader(stream)}
    torch.set_num_threads(1)
    warm = statistics.median(seconds[1:])
    report("one series of 11 frames through the task, 2 threads, wall seconds, warm", f"{warm:.2f}", "<= 5", warm <= 5)
    report("the same, CPU seconds; first run, wall seconds", f"{statistics.median(work[1:]):.2f}; {seconds[0]:.2f}")
    print(f"  the last one's figures: {figures}")


PARTS = {
    "inversion": inversion_part,
    "directions": directions_part,
    "series": series_part,
    "control": control_part,
    "cost": cost_part,
    "duration": duration_part,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--generator", default=GENERATOR)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    device = torch.device("cpu")
    setting, model = load_setting(chosen.generator, device), Session().model(MODEL, device)
    answer = generated_answer(setting, model, "consolidation", "", None)
    bench = Bench(setting, model, answer, held_out_cases(chosen.images), tuple(chosen.methods))
    for name in chosen.only:
        PARTS[name](bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
