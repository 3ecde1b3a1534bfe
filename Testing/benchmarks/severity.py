"""Maps of a severity score against two truths on real chest X-rays: the model's own effect, and the radiologist.

    python Testing/run.py benchmark severity --data FILE [--xrays FILE] [--methods a,b] [--small]

A small regressor of the sum of six zones' scores is trained on the other folds, for each fold by patient. What it
makes of each zone is measured by itself: Shapley values over the six zones, with healthy zones of other patients,
fitted into place, for those that are left out. Every method's map is summed in the zones, too, and held against that
effect (is the map right about the model?) and against the radiologist's scores (is the model right about the patient,
and does the map show it?). Controls know nothing of the model; "the effect itself" is a perfect map, "random weights"
the same methods on an untrained twin. "within": mean Spearman over the zones of an image. "centered": correlation
without the means of images and of zones. In brackets 95 % intervals over patients.

FILE of --data: X-rays with scores of zones (docs/severity.md says which, and what their licence allows). FILE of
--xrays: 8,500 unlabeled chest X-rays, in which planted haze teaches the network first.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SlicerXAI"), str(Path(__file__).resolve().parent)]

from xaiengine.attribution.registry import METHODS, find_methods
from xray_severity.cases import ZONES, Cases, read_cases
from xray_severity.effects import mean_effect, shapley_effect, single_effect
from xray_severity.maps import LEFT_OUT, Sums, controls, maps_of_methods, with_random_weights
from xray_severity.network import clear_xrays, new_network, predicted, train_on_haze, tune
from xray_severity.scoring import agreement, centered_r

HEALTHY = 8
"""Healthy X-rays of the training that serve as reference: those with the lowest scores."""
RANDOM_WEIGHTS = ("integrated_gradients", "gradcam", "occlusion", "iba", "inverse_iba", "reference_shapley")
EFFECT, ALONE, MEAN = "Shapley, healthy donors", "one zone alone, healthy donors", "Shapley, mean healthy X-ray"


def main() -> None:
    arguments = _parser().parse_args()
    torch.set_num_threads(1)
    cases = read_cases(arguments.data)
    if arguments.small:
        cases = _few(cases, 12)
    names = (
        [method.name for method in find_methods(arguments.methods.split(","))]
        if arguments.methods
        else [name for name in METHODS if name not in LEFT_OUT]
    )
    started = time.process_time()
    steps = (8, 8) if arguments.small else (arguments.first_steps, arguments.steps)
    first = None
    if arguments.xrays:
        print("Planted haze: training", flush=True)
        first = train_on_haze(clear_xrays(arguments.xrays, 40 if arguments.small else 2500), steps[0])
    points = np.zeros(len(cases))
    effects = {name: np.zeros((len(cases), ZONES)) for name in (EFFECT, ALONE, MEAN)}
    tables: dict[str, np.ndarray] = {}
    seconds: dict[str, list[float]] = {}
    refused: dict[str, str] = {}
    for fold in np.unique(cases.folds):
        rows = np.flatnonzero(cases.folds == fold)
        training, held_out = cases.part(cases.folds != fold), cases.part(rows)
        network = copy.deepcopy(first) if first is not None else new_network()
        tune(network, training, steps=steps[1], seed=int(fold), rate=2e-3 if first is not None else 4e-3)

        def values(images: np.ndarray, network: torch.nn.Module = network) -> np.ndarray:
            return predicted(network, images)

        points[rows] = values(held_out.images)
        healthy = training.images[np.argsort(training.totals, kind="stable")[:HEALTHY]]
        effects[EFFECT][rows] = shapley_effect(values, held_out, training)
        effects[ALONE][rows] = single_effect(values, held_out, training)
        effects[MEAN][rows] = mean_effect(values, held_out, healthy)
        report = print if arguments.verbose else lambda text: None
        found = maps_of_methods(network, held_out, healthy, names, report)
        chosen = [name for name in RANDOM_WEIGHTS if name in names]
        twin = maps_of_methods(with_random_weights(network), held_out, healthy, chosen, report, plain=True)
        known = Sums(controls(held_out, training)).sums
        parts = {**found.sums, **{f"random weights: {name}": item for name, item in twin.sums.items()}, **known}
        for name, item in parts.items():
            tables.setdefault(name, np.zeros((len(cases), ZONES)))[rows] = item
        for name, item in found.seconds.items():
            seconds.setdefault(name, []).append(item)
        refused |= found.refused
        print(f"Fold {fold}: {len(rows)} X-rays explained, {time.process_time() - started:.0f} CPU s", flush=True)
    tables["perfect map: the effect itself"] = effects[EFFECT]
    tables["radiologist 1"], tables["radiologist 2"] = cases.scores.astype(float), cases.second.astype(float)
    _report_model(cases, points, effects)
    _report_maps(cases, effects, tables, seconds)
    for name, reason in refused.items():
        print(f"{name} refused: {reason[:120]}")
    if arguments.keep:
        np.savez(arguments.keep, points=points, effect=effects[EFFECT], **tables)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="X-rays with scores of six zones (.npz)")
    parser.add_argument("--xrays", type=Path, help="unlabeled chest X-rays for the first training (.npz)")
    parser.add_argument("--methods", default="", help="methods by name, separated by commas; all of them if empty")
    parser.add_argument("--steps", type=int, default=500, help="of the training on the X-rays with scores")
    parser.add_argument("--first-steps", type=int, default=900, help="of the training on planted haze")
    parser.add_argument("--small", action="store_true", help="twelve X-rays and a network that has hardly learned")
    parser.add_argument("--verbose", action="store_true", help="print each method's time")
    parser.add_argument("--keep", type=Path, help="write the sums of all maps in the zones (.npz)")
    return parser


def _few(cases: Cases, most: int) -> Cases:
    """The same number of X-rays of each fold, the healthiest among them, so that every zone has a donor."""
    order = np.argsort(cases.totals, kind="stable")
    folds = np.unique(cases.folds)
    chosen = [order[cases.folds[order] == fold][: most // len(folds)] for fold in folds]
    return cases.part(np.sort(np.concatenate(chosen)))


def _report_model(cases: Cases, points: np.ndarray, effects: dict[str, np.ndarray]) -> None:
    errors = np.abs(points - cases.totals)
    spread = np.abs(cases.totals - cases.totals.mean()).mean()
    print(
        f"\nThe model on {len(cases)} held-out X-rays of {len(np.unique(cases.patients))} patients: r "
        f"{np.corrcoef(points, cases.totals)[0, 1]:.2f}, mean error {errors.mean():.2f} of 18 points (the mean alone: "
        f"{spread:.2f}; the second radiologist: {np.abs(cases.second.sum(1) - cases.totals).mean():.2f})"
    )
    print(f"\n{'the model knows':40s} {'within image (95 %)':>20s} {'centered r (95 %)':>20s}")
    for name, effect in effects.items():
        print(f"{name:40s} {agreement(effect, cases.scores, cases.patients)}")
    others = [f"{centered_r(effects[EFFECT], effects[name]):.2f} ({name})" for name in (ALONE, MEAN)]
    print(f"Centered r of the first effect with the others: {', '.join(others)}")


def _report_maps(
    cases: Cases,
    effects: dict[str, np.ndarray],
    tables: dict[str, np.ndarray],
    seconds: dict[str, list[float]],
) -> None:
    heads = (
        f"{'--- against the effect in the model ---':>41s}",
        f"{'mean X-ray':>11s}",
        f"{'--- the radiologist ---':>41s}",
    )
    print(f"\n{'':52s} {' '.join(heads)}")
    print(f"{'map':52s} {'within image (95 %)':>20s} {'centered r (95 %)':>20s} {'centered':>11s}", end="")
    print(f" {'within image (95 %)':>20s} {'centered r (95 %)':>20s} {'CPU s':>7s}")
    effect = effects[EFFECT]
    for name in sorted(tables, key=lambda name: -centered_r(tables[name], effect)):
        model = agreement(tables[name], effect, cases.patients)
        patient = agreement(tables[name], cases.scores, cases.patients)
        other = centered_r(tables[name], effects[MEAN])
        cost = f"{np.mean(seconds[name]):7.2f}" if name in seconds else ""
        print(f"{name:52s} {model} {other:11.2f} {patient} {cost}")


if __name__ == "__main__":
    main()
