"""Counterfactual images on held-out X-rays with planted consolidations: does the true cause change, and nothing else?

    python3 Testing/run.py benchmark counterfactual [--only PART ...] [--images N] [--generator FOLDER]

Parts: inversion, directions, series, control, cost, duration. The consolidation's extent is measured without the
classifier: how far the lung fields of the lesion-free X-ray have been pulled towards the brightness of soft tissue,
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
from dataclasses import dataclass
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "SlicerXAI"), str(TESTING / "training" / "chest_counterfactual")]

import numpy as np  # noqa: E402
import planting  # noqa: E402
import torch  # noqa: E402
from cohort import read_held_out  # noqa: E402
from scipy import ndimage  # noqa: E402
from xaiengine.counterfactual.directions import Direction, FinderSettings, find  # noqa: E402
from xaiengine.counterfactual.directions_linear import ridge_coefficients  # noqa: E402
from xaiengine.counterfactual.directions_scoring import score_direction  # noqa: E402
from xaiengine.counterfactual.explained_images import ImageAnswer  # noqa: E402
from xaiengine.counterfactual.finding import find_directions, generated_answer  # noqa: E402
from xaiengine.counterfactual.inversion import Inversion, invert  # noqa: E402
from xaiengine.counterfactual.latent_sample import LatentSample, draw_sample  # noqa: E402
from xaiengine.counterfactual.paths import CounterfactualPath, GradientPath  # noqa: E402
from xaiengine.counterfactual.series import (  # noqa: E402
    Along,
    Series,
    make_series,
    reach_of,
    smallest_flip,
    symmetric_shifts,
)
from xaiengine.counterfactual.setting import Setting, load_setting  # noqa: E402
from xaiengine.counterfactual.similarity import inside_mean, similarity_map  # noqa: E402
from xaiengine.faithfulness.similarity import spearman  # noqa: E402
from xaiengine.grid import Grid  # noqa: E402
from xaiengine.job import Job  # noqa: E402
from xaiengine.models.explained_model import ExplainedModel  # noqa: E402
from xaiengine.progress import Progress  # noqa: E402
from xaiengine.run import run_job  # noqa: E402
from xaiengine.session import Session  # noqa: E402
from xaiengine.volume import Volume, write_volume  # noqa: E402

GENERATOR, MODEL = "chest_xray_counterfactual", "chest_xray_consolidation_classifier"
HELD_OUT = TESTING / "data" / "chest_xray_held_out.npz"
REACH, FRAMES, STEPS, SAMPLES = 4.0, 11, 60, 2000
DEFAULT = "logistic"
METHODS = (DEFAULT, "covariance", "gradient", "ridge", "weights", "style", "local", "covariance, all", "plain ridge")
"""Ways of finding a direction; "all" moves the spatial code too."""
LEAST_EXTENT = 0.003
"""Change of the opacified share of the lungs that counts as a change."""
SOFT_TISSUE_PERCENTILE = 70


@dataclass(frozen=True, eq=False)
class Cases:
    """Images (n, 1, I, J) in -1..1; ``clean`` without the planted consolidation; masks (n, I, J) and lung fields."""

    images: torch.Tensor
    clean: torch.Tensor
    planted: torch.Tensor
    lungs: torch.Tensor
    tissue: torch.Tensor

    @property
    def has_lesion(self) -> torch.Tensor:
        return self.planted.flatten(1).any(1)

    def extent(self, images: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """Opacified share (n,) of the lungs (or of masks): how far pixels were pulled towards soft tissue."""
        where = self.lungs if where is None else where
        room = (self.tissue[:, None, None] - self.clean[:, 0]).clamp_min(0.1)
        pulled = ((images[:, 0] - self.clean[:, 0]) / room).clamp(0, 1)
        return inside_mean(pulled, where)


def held_out_cases(count: int) -> Cases:
    cohort = read_held_out(HELD_OUT)
    fields = [planting.lung_fields(image / 255.0) for image in cohort.clean[:count]]
    bright = [np.percentile(ndimage.gaussian_filter(image / 255.0, 1.2)[15:50, 27:37], SOFT_TISSUE_PERCENTILE)
              for image in cohort.clean[:count]]  # fmt: skip

    def turned(values: np.ndarray) -> torch.Tensor:  # pictures are stored by rows, images are (I, J)
        return torch.from_numpy(np.ascontiguousarray(values[:count].transpose(0, 2, 1)))

    return Cases(
        images=turned(cohort.images).float()[:, None] / 127.5 - 1,
        clean=turned(cohort.clean).float()[:, None] / 127.5 - 1,
        planted=turned(cohort.opacity) > 25,
        lungs=torch.from_numpy(np.stack([field.any(0).T for field in fields])),
        tissue=torch.tensor(bright).float() * 2 - 1,
    )


def report(what: str, measured: str, goal: str = "", reached: bool | None = None) -> None:
    verdict = "" if reached is None else ("reached" if reached else "MISSED")
    print(f"{what:<70} {goal and 'goal ' + goal:<14} {measured:<30} {verdict}".rstrip(), flush=True)


@dataclass(eq=False)
class Bench:
    """What the parts share; made when it is first needed."""

    setting: Setting
    model: ExplainedModel
    answer: ImageAnswer
    cases: Cases
    methods: tuple[str, ...] = ()
    _sample: LatentSample | None = None
    _inversion: Inversion | None = None

    @property
    def sample(self) -> LatentSample:
        if self._sample is None:
            leading = self.setting.moving("auto")
            self._sample = draw_sample(self.setting.space, self.answer, SAMPLES, seed=0, leading=leading)
        return self._sample

    def inverted(self, refine: str = "latent", steps: int = STEPS) -> Inversion:
        return invert(
            self.setting.space, self.answer, self.setting.geometry, self.cases.images, steps=steps, refine=refine,
            values_spread=self.sample.spread,
        )  # fmt: skip

    @property
    def inversion(self) -> Inversion:
        if self._inversion is None:
            self._inversion = self.inverted()
        return self._inversion


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
        report(f"{name}: |f(x) - f(G(w))|, median", f"{middle:.4f} (90 %: {tail:.4f})", goal,
               middle <= 0.05 if goal else None)  # fmt: skip
        report(f"{name}: L1 (gray values), SSIM, same side",
               f"{float(found.l1.mean()) * 127.5:.2f}, {float(found.similarity.mean()):.3f}, {float(same):.1%}")
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
            report(f"{method}, {subspace}: AUC, flips up / down, Spearman on generated images",
                   f"{figures['auc']:.2f}, {_part(figures['up'])} / {_part(figures['down'])}, "
                   f"{figures['spearman']:.2f}")  # fmt: skip
    few = LatentSample(fitted.latents[:100], fitted.values[:100])
    settings = FinderSettings(leading=bench.setting.moving("auto"))
    (all_of_them,) = find("covariance", space, bench.answer, geometry, fitted, settings)
    (found,) = find("covariance", space, bench.answer, geometry, few, settings)
    cosine = torch.nn.functional.cosine_similarity(found.vector, all_of_them.vector, 0)
    report("covariance direction: cosine of 100 latents with 1,600", f"{float(cosine):.3f}")


def _part(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def paths(bench: Bench, method: str) -> list[CounterfactualPath]:
    """The way of every image by one method."""
    space, geometry, latents = bench.setting.space, bench.setting.geometry, bench.inversion.latents
    subspace = "all" if method.endswith(", all") else "auto"
    name, leading = method.removesuffix(", all"), bench.setting.moving(subspace)
    if name == "local":
        return [GradientPath(space, latent, bench.answer, geometry, REACH, leading) for latent in latents]
    fitted, _ = bench.sample.divided()
    if name == "plain ridge":
        part = geometry.moving(leading)
        inputs = fitted.latents[:, : part.dimension]
        inputs = inputs - inputs.mean(0)
        values = fitted.values - fitted.values.mean()
        vector = torch.zeros(space.dimension)
        vector[: part.dimension] = part.unit(ridge_coefficients(inputs, values, 1e-3 * float(inputs.var())))
        direction = Direction(name, "ridge", "latent", vector, 0.0, leading=leading)
    else:
        settings = FinderSettings(leading=leading)
        (direction,) = find(name, space, bench.answer, geometry, fitted, settings)
    return [direction.path(space, latent) for latent in latents]


def series_part(bench: Bench) -> None:
    """Eleven frames for every held-out image, by every method; the goals are those of the default."""
    for method in bench.methods:
        start = time.process_time()
        ways = paths(bench, method)
        found = [_one_series(path, bench.answer) for path in ways]
        seconds = (time.process_time() - start) / len(found)
        _report_series(bench, method, found, method == DEFAULT)
        ranks = torch.tensor([_towards(path, bench.answer, shift) for path, (_, shift) in zip(ways, found)])
        report(f"{method}: series towards the flip alone with Spearman >= 0.95",
               f"{float((ranks >= 0.95).float().mean()):.1%} (mean {float(ranks.mean()):.3f})")  # fmt: skip
        report(f"{method}: CPU seconds per series of {FRAMES} frames", f"{seconds:.2f}")


def _one_series(path: CounterfactualPath, answer: ImageAnswer) -> tuple[Series, float | None]:
    along = Along(path, answer, REACH)
    flip = smallest_flip(along, 0.0)
    series = make_series(path, answer, symmetric_shifts(FRAMES, reach_of(flip, along)))
    return series, None if flip is None else flip.shift


def _towards(path: CounterfactualPath, answer: ImageAnswer, flip: float | None) -> float:
    """Spearman of shift and answer from the reconstruction to beyond the flip; to the end of the reach without one."""
    shifts = torch.linspace(0, REACH if flip is None else 1.25 * flip, FRAMES)
    return abs(spearman(shifts.numpy(), answer(path.images(shifts)).numpy()))


def _report_series(bench: Bench, method: str, found: list[tuple[Series, float | None]], goals: bool) -> None:
    """``ends``: the frame on the side to which the answer has to move to turn over."""
    cases, rises = bench.cases, bench.inversion.reconstructed_values <= 0
    flipped = torch.tensor([shift is not None for _, shift in found])
    ranks = torch.tensor([spearman(series.shifts.numpy(), series.values.numpy()) for series, _ in found])
    ends = []
    for number, (series, shift) in enumerate(found):
        towards = shift if shift is not None else (1.0 if rises[number] else -1.0)
        ends.append(series.frames[-1 if towards > 0 else 0])
    ends, bases = torch.stack(ends), torch.stack([series.reconstruction for series, _ in found])
    _report_flips(method, flipped, rises, ranks, goals)
    _report_truth(method, cases, bases, ends, rises, goals)


def _report_flips(
    method: str, flipped: torch.Tensor, rises: torch.Tensor, ranks: torch.Tensor, goals: bool
) -> None:
    rate, steady = float(flipped.float().mean()), float((ranks >= 0.95).float().mean())
    up, down = float(flipped[rises].float().mean()), float(flipped[~rises].float().mean())
    report(f"{method}: flip rate", f"{rate:.1%} (up {up:.0%}, down {down:.0%})", ">= 90 %" if goals else "",
           rate >= 0.9 if goals else None)  # fmt: skip
    report(f"{method}: series with Spearman >= 0.95", f"{steady:.1%} (mean {float(ranks.mean()):.3f})",
           ">= 90 %" if goals else "", steady >= 0.9 if goals else None)  # fmt: skip


def _report_truth(
    method: str, cases: Cases, bases: torch.Tensor, ends: torch.Tensor, rises: torch.Tensor, goals: bool
) -> None:
    """The extent moves the right way; nothing but lungs (and, going down, nothing but the planted place) changes."""
    change = cases.extent(ends) - cases.extent(bases)
    right = torch.where(rises, change > LEAST_EXTENT, change < -LEAST_EXTENT)
    share = float(right.float().mean())
    report(f"{method}: measured extent moves as predicted",
           f"{share:.1%} (up {_mean(change[rises]):+.3f}, down {_mean(change[~rises]):+.3f})",
           ">= 90 %" if goals else "", share >= 0.9 if goals else None)  # fmt: skip
    lesions = ~rises & cases.has_lesion
    inside = (cases.extent(ends, cases.planted) - cases.extent(bases, cases.planted))[lesions]
    report(f"{method}: going down, opacity within the planted place", f"{_mean(inside):+.3f}")
    similarity = similarity_map(ends, bases)
    wide = torch.nn.functional.max_pool2d(cases.planted[:, None].float(), 5, 1, 2)[:, 0] > 0
    outside = inside_mean(similarity, ~wide)
    report(f"{method}: SSIM outside the planted region", f"{_mean(outside):.3f} (worst tenth "
           f"{float(outside.quantile(0.1)):.3f})", ">= 0.9" if goals else "", _mean(outside) >= 0.9 if goals else None)
    beyond = inside_mean(similarity, ~cases.lungs)
    amount = (ends - bases).abs().mean(1)
    in_lungs = (amount * cases.lungs).sum((1, 2)) / amount.sum((1, 2)).clamp_min(1e-9)
    in_place = (amount * wide).sum((1, 2)) / amount.sum((1, 2)).clamp_min(1e-9)
    report(f"{method}: SSIM outside the lungs; part of the change within lungs, within the planted place (down)",
           f"{_mean(beyond):.3f}; {_mean(in_lungs):.2f}, {_mean(in_place[lesions]):.2f}")  # fmt: skip


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")


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
    _report_truth("pixel gradient", cases, cases.images, ends, rises, False)


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
            bench.setting, bench.answer, [DEFAULT], FinderSettings(leading=bench.setting.moving("auto")),
            samples=SAMPLES, seed=repeat, judged=12, reach=REACH, progress=Progress(),
        )  # fmt: skip
        whole.append(time.process_time() - start)
    ratios = [one / other for one, other in zip(whole, bare)]
    ratio = statistics.median(ratios)
    report(f"find-directions of {SAMPLES} latents against bare passes (judging included)",
           f"{ratio:.3f} ({statistics.median(whole):.1f} s / {statistics.median(bare):.1f} s)", "<= 1.1", ratio <= 1.1)


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


PARTS = {"inversion": inversion_part, "directions": directions_part, "series": series_part, "control": control_part,
         "cost": cost_part, "duration": duration_part}  # fmt: skip


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
