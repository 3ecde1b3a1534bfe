"""Every attribution method on planted truth, and what it costs against captum, torch-cam and MONAI.

    python Testing/run.py benchmark attribution [--task classifier|regressor|both] [--scans N] [--part truth|cost|all]

Truth: small networks are trained on scans with two known causes each; for every method the table gives how well its
map points at them (effective heat ratio, average precision, both causes found), how sharp it is (the share of the
image that holds 90 % of it), what the model does when voxels are shown or hidden in the map's order (insertion minus
deletion, and its gain over random maps), and the sanity check (rank correlation with the map of the same network with
random weights: high is bad). Cost: CPU time of one thread, implementations interleaved in one process, as ratios of
the bare passes through the network.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SlicerXAI"), str(Path(__file__).resolve().parent)]

from planted.networks import BURDEN_SCALE, quality, train
from planted.scans import PlantedScan, planted_batch, stacked
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.bottleneck.information import own_statistics
from xaiengine.attribution.cam import cam_maps
from xaiengine.attribution.feature_maps import explainable
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.gradient import integrated_gradients, smooth_gradient
from xaiengine.attribution.perturbation import occlusion
from xaiengine.attribution.registry import METHODS, AttributionMethod
from xaiengine.attribution.whole_case import WholeCase
from xaiengine.core.errors import XAIError
from xaiengine.core.similarity import spearman
from xaiengine.evaluation.controls import edge_map, random_map
from xaiengine.evaluation.curves import GameSetting, deletion, gaps_of_random_maps, insertion
from xaiengine.evaluation.localization import found_causes, localization
from xaiengine.evaluation.randomization import layers_with_parameters, randomize
from xaiengine.targets.targets import ClassTarget, RegressionTarget, Target

LAYERS = ("layer1", "layer2", "layer3")
SIZE = 64
CURVE_STEPS = 24
SANITY_SCANS = 4


@dataclass
class Figures:
    """One method's numbers, a value per scan."""

    ehr: list[float] = field(default_factory=list)
    precision: list[float] = field(default_factory=list)
    pointing: list[float] = field(default_factory=list)
    causes: list[int] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    gain: list[float] = field(default_factory=list)
    sanity: float = float("nan")
    seconds: float = 0.0
    refused: str = ""


def evidence(values: torch.Tensor, method: AttributionMethod | None) -> np.ndarray:
    """What a map shows for the target: sizes of plain gradients, positive parts of signed maps, others as they are."""
    summed = values.abs().sum(1) if method is not None and method.per_input_unit else values.sum(1).clamp_min(0)
    return summed.numpy()


def make_case(network: nn.Module, target: Target, inputs: torch.Tensor, statistics: dict) -> WholeCase:
    return WholeCase(
        network,
        target,
        inputs,
        baseline_like(inputs),
        (1.0,) * (inputs.ndim - 2),
        LAYERS,
        LAYERS,
        statistics.__getitem__,
        batch_size=16,
    )


def area_of(values: np.ndarray, part: float = 0.9) -> float:
    """The share of the voxels that hold a part of a map's sum."""
    ordered = np.sort(values.clip(0), axis=None)[::-1].astype(float)
    return float((ordered.cumsum() < part * ordered.sum()).mean())


def benchmark_truth(task: str, scan_count: int, names: list[str]) -> None:
    started = time.process_time()
    network = train(task)
    generator = np.random.default_rng(77)
    held_out = planted_batch(100, SIZE, 2, generator)
    label = "accuracy" if task == "classifier" else "R²"
    print(
        f"\n{task}: held-out {label} {quality(task, network, held_out):.3f}, trained in "
        f"{time.process_time() - started:.0f} CPU s"
    )
    scans = planted_batch(scan_count, SIZE, 2, generator, 2)
    inputs = stacked(scans)
    target: Target = ClassTarget(1) if task == "classifier" else RegressionTarget(0, "burden")
    # Bits count what is beyond a healthy scan: with lesions among the references, noise itself would show lesions.
    references = stacked([scan for scan in held_out if not scan.positive])
    statistics = {layer: own_statistics(network, layer, references) for layer in LAYERS}
    case = make_case(network, target, inputs, statistics)
    random_cases = [random_case(network, target, inputs[:SANITY_SCANS], references, seed) for seed in (5, 6)]
    games = curves_of(task, network, inputs)
    random_gaps = [gaps_of_random_maps(game, random_map((SIZE, SIZE), 5, SIZE / 21), 4, 11) for game in games]
    results: dict[str, Figures] = {}
    with explainable(network), explainable(random_cases[0].network), explainable(random_cases[1].network):
        for name in names:
            results[name] = measure(METHODS[name], case, random_cases, scans, games, random_gaps)
    for name, maps in controls(inputs).items():
        figures = Figures()
        score(figures, maps, scans, games, random_gaps)
        results[name] = figures
    report(task, results)


def random_case(
    network: nn.Module, target: Target, inputs: torch.Tensor, references: torch.Tensor, seed: int
) -> WholeCase:
    """The same question to the network with random weights."""
    twin = copy.deepcopy(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in layers_with_parameters(twin):
            randomize(twin.get_submodule(name))
    statistics = {layer: own_statistics(twin, layer, references) for layer in LAYERS}
    return make_case(twin, target, inputs, statistics)


def curves_of(task: str, network: nn.Module, inputs: torch.Tensor) -> list[GameSetting]:
    """A game per scan: the class probability, or the regression output on a scale from baseline to scan."""
    target = ClassTarget(1, score="probability") if task == "classifier" else RegressionTarget(0)
    forward = TargetForward(network, target)
    baseline = baseline_like(inputs)
    return [
        GameSetting(forward, inputs[row : row + 1], baseline[row : row + 1], task == "regressor", CURVE_STEPS, 25)
        for row in range(len(inputs))
    ]


def measure(
    method: AttributionMethod,
    case: WholeCase,
    random_cases: list[WholeCase],
    scans: list[PlantedScan],
    games: list,
    random_gaps: list,
) -> Figures:
    figures = Figures()
    started = time.process_time()
    try:
        maps = evidence(method.run(case).map, method)
    except XAIError as error:
        figures.refused = str(error)
        return figures
    figures.seconds = (time.process_time() - started) / len(scans)
    score(figures, maps, scans, games, random_gaps)
    figures.sanity = abs(float(np.mean([_rank_correlation(method, maps, twin) for twin in random_cases])))
    return figures


def _rank_correlation(method: AttributionMethod, maps: np.ndarray, twin: WholeCase) -> float:
    """Signed, so that chance correlations of a few smooth maps cancel and only systematic likeness stays."""
    try:
        randomized = evidence(method.run(twin).map, method)
    except XAIError:
        return 0.0
    return float(np.mean([spearman(first, second) for first, second in zip(maps, randomized)]))


def score(figures: Figures, maps: np.ndarray, scans: list[PlantedScan], games: list, random_gaps: list) -> None:
    for values, scan, game, gaps in zip(maps, scans, games, random_gaps):
        found = localization(values, scan.truth)
        figures.ehr.append(found.effective_heat_ratio)
        figures.precision.append(found.average_precision)
        figures.pointing.append(found.pointing)
        figures.causes.append(found_causes(values, list(scan.causes)))
        figures.area.append(area_of(values))
        gap = insertion(game, values).area - deletion(game, values).area
        figures.gap.append(gap)
        figures.gain.append(gap - float(np.mean(gaps)))


def controls(inputs: torch.Tensor) -> dict[str, np.ndarray]:
    images = inputs[:, 0].numpy()
    return {
        "control: edges": np.stack([edge_map(image) for image in images]),
        "control: random": np.stack(
            [random_map(image.shape, seed, len(image) / 21) for seed, image in enumerate(images)]
        ),
    }


def report(task: str, results: dict[str, Figures]) -> None:
    print(
        f"{'method':30s} {'EHR':>6s} {'AP':>6s} {'point':>6s} {'both':>6s} {'area90':>7s} "
        f"{'ins-del':>8s} {'gain ± se':>14s} {'sanity':>7s} {'s/scan':>7s}"
    )
    order = sorted(results, key=lambda name: -np.mean(results[name].ehr or [-1]))
    for name in order:
        item = results[name]
        if item.refused:
            print(f"{name:30s} refused: {item.refused[:90]}")
            continue
        error = np.std(item.gain, ddof=1) / np.sqrt(len(item.gain))
        marked = "" if not item.sanity >= 0.2 else " !"
        print(
            f"{name:30s} {np.mean(item.ehr):6.3f} {np.mean(item.precision):6.3f} {np.mean(item.pointing):6.2f} "
            f"{np.mean(np.array(item.causes) == 2):6.2f} {np.mean(item.area):7.3f} {np.mean(item.gap):8.3f} "
            f"{np.mean(item.gain):7.3f} ± {error:.3f} {item.sanity:7.2f} {item.seconds:7.2f}{marked}"
        )
    scored = {name: item for name, item in results.items() if item.ehr}
    print(_winners("First", scored))
    print(_winners("First of those below 0.2 in sanity", {n: i for n, i in scored.items() if i.sanity < 0.2}))
    print(
        "both: share of scans in which both causes were found; area90: share of the image that holds 90 % of the "
        "map; sanity: |mean Spearman| with random networks' maps (!: 0.2 or more)"
    )


def _winners(title: str, scored: dict[str, Figures]) -> str:
    best = {
        "EHR": max(scored, key=lambda name: np.mean(scored[name].ehr)),
        "insertion minus deletion": max(scored, key=lambda name: np.mean(scored[name].gap)),
        "average precision": max(scored, key=lambda name: np.mean(scored[name].precision)),
    }
    return f"{title}: {', '.join(f'{key} {name}' for key, name in best.items())}."


def interleaved(works: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, list[float]]:
    """The CPU seconds of each piece of work per round, taken in turns; the first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            started = time.process_time()
            work()
            if turn:
                times[name].append(time.process_time() - started)
    return times


def benchmark_cost(rounds: int) -> None:
    """Ratios to the bare passes; the network is the untrained planted one in 3D, 32³."""
    from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency
    from monai.visualize import OcclusionSensitivity
    from planted.networks import PlantedNetwork
    from torchcam.methods import GradCAM

    torch.manual_seed(0)
    network = PlantedNetwork(3, 2, width=24).eval()
    inputs = torch.randn(1, 1, 32, 32, 32)
    baseline = torch.zeros_like(inputs)
    target = ClassTarget(1)
    forward = TargetForward(network, target)

    def bare_gradients(batch: int, times: int) -> None:
        for _ in range(times):
            rows = inputs.repeat(batch, 1, 1, 1, 1).requires_grad_()
            torch.autograd.grad(network(rows)[:, 1].sum(), rows)

    def bare_passes(batch: int, times: int) -> None:
        rows = inputs.repeat(batch, 1, 1, 1, 1)
        with torch.no_grad():
            for _ in range(times):
                network(rows)

    def bare_path(batch: int, times: int) -> None:
        """The gradients of the path, and the two passes at its ends that completeness takes."""
        bare_gradients(batch, times)
        bare_passes(1, 2)

    with explainable(network):
        integrated, tunnel = IntegratedGradients(network), NoiseTunnel(Saliency(network))
        show(
            "integrated gradients with completeness, 16 steps, 4 at once",
            interleaved(
                {
                    "bare": lambda: bare_path(4, 4),
                    "ours": lambda: integrated_gradients(forward, inputs, baseline, steps=16, batch_size=4),
                    "captum": lambda: integrated.attribute(
                        inputs, baseline, target=1, n_steps=16, internal_batch_size=4, return_convergence_delta=True
                    ),
                },
                rounds,
            ),
        )
        show(
            "SmoothGrad, 16 samples, 4 at once",
            interleaved(
                {
                    "bare": lambda: bare_gradients(4, 4),
                    "ours (with variance)": lambda: smooth_gradient(forward, inputs, samples=16, batch_size=4),
                    "captum": lambda: tunnel.attribute(
                        inputs, nt_samples=16, nt_samples_batch_size=4, target=1, abs=False
                    ),
                },
                rounds,
            ),
        )
        occluder = Occlusion(network)
        monai = OcclusionSensitivity(network, mask_size=8, n_batch=8, overlap=0.0, verbose=False)
        show(
            "occlusion, 64 blocks of 8³, 8 at once",
            interleaved(
                {
                    "bare": lambda: bare_passes(8, 8),
                    "ours": lambda: occlusion(forward, inputs, baseline, (8, 8, 8)),
                    "captum": lambda: occluder.attribute(
                        inputs, (1, 8, 8, 8), strides=(1, 8, 8, 8), target=1, perturbations_per_eval=8
                    ),
                    "MONAI": lambda: monai(inputs),
                },
                rounds,
            ),
        )
        layers = {name: network.get_submodule(name) for name in LAYERS}
        several = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam")

        def one_torchcam() -> None:
            with GradCAM(network, "layer3") as extractor:
                extractor(1, network(inputs.requires_grad_()))

        show(
            "CAMs: five methods at three layers from one pass",
            interleaved(
                {
                    "one Grad-CAM of layer1 alone": lambda: cam_maps(
                        network, {"layer1": layers["layer1"]}, inputs, target
                    ),
                    "ours, all": lambda: cam_maps(network, layers, inputs, target, several),
                    "torch-cam, one Grad-CAM of layer3": one_torchcam,
                },
                rounds,
            ),
        )
    coarse_to_fine()


def show(title: str, seconds: dict[str, list[float]]) -> None:
    """Ratios to the first piece of work: the median over the rounds, each against its own round."""
    first = next(iter(seconds))
    parts = [f"{name} {np.median(np.array(found) / np.array(seconds[first])):.2f}x" for name, found in seconds.items()]
    print(f"{title}: {', '.join(parts)} ({first} {np.median(seconds[first]):.3f} CPU s)", flush=True)


def coarse_to_fine() -> None:
    """The same best blocks from fewer passes, on the trained classifier."""
    network = train("classifier")
    forward = TargetForward(network, ClassTarget(1))
    scans = planted_batch(6, 64, 2, np.random.default_rng(3), 2)
    inputs = stacked(scans)
    baseline = baseline_like(inputs)
    with explainable(network):
        full = occlusion(forward, inputs, baseline, (4, 4), batch_size=16)
        quick = occlusion(forward, inputs, baseline, (4, 4), coarse_to_fine=0.25, batch_size=16)
    shared = []
    for first, second in zip(full.map[:, 0], quick.map[:, 0]):
        best = [set(values.flatten().topk(4 * 16).indices.tolist()) for values in (first, second)]
        shared.append(len(best[0] & best[1]) / len(best[0]))
    ratio = full.convergence["blocks"] / quick.convergence["blocks"]
    found = [
        np.mean([found_causes(values.numpy(), list(scan.causes)) for values, scan in zip(maps.map[:, 0], scans)])
        for maps in (quick, full)
    ]
    print(
        f"coarse to fine occlusion: {ratio:.1f}x fewer passes, {np.mean(shared):.0%} of the top four blocks shared, "
        f"found causes {found[0]:.2f} of 2 (full: {found[1]:.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=["classifier", "regressor", "both"], default="both")
    parser.add_argument("--part", choices=["truth", "cost", "all"], default="all")
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--methods", default="", help="names separated by commas; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in arguments.methods.split(",") if name] or list(METHODS)
    print(f"Burden of one regression unit: {BURDEN_SCALE:g} % of the image.")
    if arguments.part != "cost":
        for task in ("classifier", "regressor"):
            if arguments.task in (task, "both"):
                benchmark_truth(task, arguments.scans, names)
    if arguments.part != "truth":
        print("\nCost (CPU time, interleaved, median of the rounds)")
        benchmark_cost(arguments.rounds)


if __name__ == "__main__":
    main()
