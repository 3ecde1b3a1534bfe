"""Series of counterfactual images on X-rays whose true finding is known: do answer and finding follow the shift?"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from xaiengine.core.similarity import spearman
from xaiengine.counterfactual.directions.directions import Direction, FinderSettings, find
from xaiengine.counterfactual.directions.linear import ridge_coefficients
from xaiengine.counterfactual.explained_images import ImageAnswer
from xaiengine.counterfactual.explained_score import predictor_features
from xaiengine.counterfactual.generator.generator_metrics import likeness
from xaiengine.counterfactual.series.paths import CounterfactualPath, GradientPath
from xaiengine.counterfactual.series.series import Along, Series, make_series, smallest_flip
from xaiengine.counterfactual.series.similarity import inside_mean, similarity_map
from xaiengine.counterfactual.series.span import Sides, span_of, spread_shifts, usual_shifts
from xaiengine.tasks.find_directions.finding import answers_range

from .bench import DEFAULT, FRAMES, REACH, Bench, report
from .cases import Cases, held_out_cases

LEAST_EXTENT = 0.003
"""Change of the opacified share of the lungs that counts as a change."""
STEADY = 0.95
HELD_OUT_COUNT = 120
NEARBY = 0.1
"""SDs to either side; small shifts must do something too."""


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """The series of one image by its sides, and where the decision threshold is crossed (SDs; None if nowhere)."""

    by_sides: dict[Sides, Series]
    flip: float | None

    def rank(self, sides: Sides) -> float:
        series = self.by_sides[sides]
        return spearman(series.shifts.numpy(), series.values.numpy())


def directed(bench: Bench, method: str) -> tuple[list[CounterfactualPath], float]:
    """The way of every image by one method, and the change of the answer per SD that is expected (0: not known)."""
    space, geometry, latents = bench.setting.space, bench.setting.geometry, bench.inversion.latents
    subspace = "all" if method.endswith(", all") else "auto"
    name, leading = method.removesuffix(", all"), bench.setting.moving(subspace)
    if name == "local":
        return [GradientPath(space, latent, bench.answer, geometry, REACH, leading) for latent in latents], 0.0
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
    return [direction.path(space, latent) for latent in latents], direction.slope


def series_part(bench: Bench) -> None:
    """Eleven frames for every held-out image, by every method; the goals are those of the default."""
    for method in bench.methods:
        start = time.process_time()
        ways, slope = directed(bench, method)
        found = [_series_of(path, bench.answer, slope, answers_range(bench.sample)) for path in ways]
        seconds = (time.process_time() - start) / len(found)
        _report_series(bench, method, found, method == DEFAULT)
        slopes = torch.tensor([_slope_nearby(path, bench.answer) for path in ways])
        report(
            f"{method}: log-odds per SD within {NEARBY} SD of the reconstruction, median",
            f"{float(slopes.median()):.2f} (10 %: {float(slopes.quantile(0.1)):.2f})",
        )
        report(f"{method}: CPU seconds per three series of {FRAMES} frames", f"{seconds:.2f}")


def _slope_nearby(path: CounterfactualPath, answer: ImageAnswer) -> float:
    low, high = answer(path.images(torch.tensor([-NEARBY, NEARBY])))
    return float(high - low) / (2 * NEARBY)


def _series_of(
    path: CounterfactualPath, answer: ImageAnswer, slope: float, values: tuple[float, float]
) -> FoundSeries:
    along = Along(path, answer, REACH)
    flip = smallest_flip(along, 0.0)
    usual = usual_shifts(along(0.0), slope, values)
    choices: tuple[Sides, ...] = ("both", "symmetric", "toward")
    series = {
        sides: make_series(path, answer, spread_shifts(FRAMES, *span_of(sides, flip, along, usual)))
        for sides in choices
    }
    return FoundSeries(series, None if flip is None else flip.shift)


def _report_series(bench: Bench, method: str, found: list[FoundSeries], goals: bool) -> None:
    """``ends``: the frame on the side to which the answer has to move to turn over."""
    cases, rises = bench.cases, bench.inversion.reconstructed_values <= 0
    ends = []
    for number, item in enumerate(found):
        toward = item.flip if item.flip is not None else (1.0 if rises[number] else -1.0)
        ends.append(item.by_sides["symmetric"].frames[-1 if toward > 0 else 0])
    ends, bases = torch.stack(ends), torch.stack([item.by_sides["symmetric"].reconstruction for item in found])
    _report_flips(method, torch.tensor([item.flip is not None for item in found]), rises, goals)
    _report_ranks(method, found, goals)
    report_truth(method, cases, bases, ends, rises, goals)
    if goals:
        _report_likeness(method, bench, ends)


def _report_likeness(method: str, bench: Bench, ends: torch.Tensor) -> None:
    """Fréchet distance and precision of counterfactuals against all real X-rays of the class that they now show.

    An X-ray's own counterfactual shows the other class, so none is compared with the X-ray that it comes from.
    """
    features, real = predictor_features(bench.answer.predictor), held_out_cases(HELD_OUT_COUNT).images
    shows, is_real = bench.answer(ends) > 0, bench.answer(real) > 0
    for name, side in (("clear", False), ("consolidation", True)):
        group, made = real[is_real == side], ends[shows == side]
        found, floor = likeness(features, group, made), likeness(features, group[::2], group[1::2])
        report(
            f"{method}: {len(made)} counterfactuals {name} against {len(group)} X-rays: Fréchet, precision",
            f"{found.frechet:.3f}, {found.precision:.2f} (halves of the X-rays {floor.frechet:.3f}, "
            f"{floor.precision:.2f})",
        )


def _report_ranks(method: str, found: list[FoundSeries], goals: bool) -> None:
    """Of the series as they are made by default (both), as far to either side, and toward the flip alone."""
    for sides in found[0].by_sides:
        ranks = torch.tensor([item.rank(sides) for item in found])
        steady, goal = float((ranks >= STEADY).float().mean()), goals and sides == "both"
        report(
            f"{method}, {sides}: series with Spearman >= 0.95",
            f"{steady:.1%} (mean {float(ranks.mean()):.3f})",
            ">= 90 %" if goal else "",
            steady >= 0.9 if goal else None,
        )


def _report_flips(method: str, flipped: torch.Tensor, rises: torch.Tensor, goals: bool) -> None:
    rate = float(flipped.float().mean())
    up, down = float(flipped[rises].float().mean()), float(flipped[~rises].float().mean())
    report(
        f"{method}: flip rate",
        f"{rate:.1%} (up {up:.0%}, down {down:.0%})",
        ">= 90 %" if goals else "",
        rate >= 0.9 if goals else None,
    )


def report_truth(
    method: str, cases: Cases, bases: torch.Tensor, ends: torch.Tensor, rises: torch.Tensor, goals: bool
) -> None:
    """The extent moves the right way; nothing but lungs (and, going down, nothing but the planted place) changes."""
    change = cases.extent(ends) - cases.extent(bases)
    right = torch.where(rises, change > LEAST_EXTENT, change < -LEAST_EXTENT)
    share = float(right.float().mean())
    report(
        f"{method}: measured extent moves as predicted",
        f"{share:.1%} (up {_mean(change[rises]):+.3f}, down {_mean(change[~rises]):+.3f})",
        ">= 90 %" if goals else "",
        share >= 0.9 if goals else None,
    )
    lesions = ~rises & cases.has_lesion
    inside = (cases.extent(ends, cases.planted) - cases.extent(bases, cases.planted))[lesions]
    report(f"{method}: going down, opacity within the planted place", f"{_mean(inside):+.3f}")
    similarity = similarity_map(ends, bases)
    wide = torch.nn.functional.max_pool2d(cases.planted[:, None].float(), 5, 1, 2)[:, 0] > 0
    outside = inside_mean(similarity, ~wide)
    report(
        f"{method}: SSIM outside the planted region",
        f"{_mean(outside):.3f} (worst tenth {float(outside.quantile(0.1)):.3f})",
        ">= 0.9" if goals else "",
        _mean(outside) >= 0.9 if goals else None,
    )
    beyond = inside_mean(similarity, ~cases.lungs)
    amount = (ends - bases).abs().mean(1)
    in_lungs = (amount * cases.lungs).sum((1, 2)) / amount.sum((1, 2)).clamp_min(1e-9)
    in_place = (amount * wide).sum((1, 2)) / amount.sum((1, 2)).clamp_min(1e-9)
    report(
        f"{method}: SSIM outside the lungs; part of the change within lungs, within the planted place (down)",
        f"{_mean(beyond):.3f}; {_mean(in_lungs):.2f}, {_mean(in_place[lesions]):.2f}",
    )


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")
