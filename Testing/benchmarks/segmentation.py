"""Explanations of segmentation models: exactness and cost through sliding windows, and a planted truth.

    python3 Testing/run.py benchmark segmentation [--only PART ...]

Parts: exact, occlusion, captum, tail, planted, large. Times are CPU seconds of one thread, variants in turns in one
process. Each line gives the goal and what was measured here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "SlicerXAI")]

import numpy as np
import torch
from captum.attr import IntegratedGradients
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from scipy.stats import spearmanr
from support.planted_cue import (
    accuracy,
    cue_rank,
    cue_scan,
    explaining,
    map_of,
    random_network,
    trained_network,
)
from torch import nn
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.bottleneck.segmentation_bottleneck import coarsest_layer
from xaiengine.attribution.estimate import estimate
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.gradient import integrated_gradients
from xaiengine.attribution.perturbation import occlusion, positions
from xaiengine.attribution.registry import METHODS
from xaiengine.attribution.runner import run_method
from xaiengine.attribution.window_case import WindowCase
from xaiengine.attribution.window_forward import CachedPrediction, WindowedForward
from xaiengine.core.errors import XAIError
from xaiengine.evaluation.check_names import CHECK_NAMES
from xaiengine.evaluation.evaluating import Evaluator
from xaiengine.evaluation.evaluation_budget import Effort
from xaiengine.evaluation.verdict import verdict_line
from xaiengine.inference.segmentation_preparation import predict_scan
from xaiengine.inference.window_layout import lay_windows
from xaiengine.inference.window_output import WindowNetwork
from xaiengine.inference.windows import WindowedModel
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.models.explained_model import ExplainedModel, Inferer
from xaiengine.network.layers import find_layer, frozen_parameters
from xaiengine.network.tail.tail import Tail
from xaiengine.targets.segmentation_targets import SoftDiceTarget, VoxelTarget
from xaiengine.targets.target_choice import TargetRequest, choose_targets

UNET = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": (8, 16, 32, 64),
    "strides": (2, 2, 2),
    "num_res_units": 1,
    "norm": "INSTANCE",
}


def report(what: str, measured: str, goal: str = "", reached: bool | None = None) -> None:
    verdict = "" if reached is None else ("reached" if reached else "MISSED")
    print(f"{what:<72} {goal and 'goal ' + goal:<16} {measured:<26} {verdict}".rstrip(), flush=True)


def in_turns(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Median CPU seconds of each, run in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for place, work in enumerate(works):
            start = time.process_time()
            work()
            times[place].append(time.process_time() - start)
    return [statistics.median(each) for each in times]


def unet(**changes) -> nn.Module:
    torch.manual_seed(0)
    network = UNet(**{**UNET, **changes}).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


def exact() -> None:
    """Gradients through blended windows against autograd through MONAI's inference."""
    network, image = unet(), torch.randn(1, 1, 40, 36, 44)
    mask = torch.zeros(image.shape[2:], dtype=torch.bool)
    mask[10:24, 8:20, 12:30] = True
    targets = {
        "mean logit": VoxelTarget("logit", mask, 2, index=1),
        "mean probability": VoxelTarget("probability", mask, 2, index=1, score="probability"),
        "soft Dice": SoftDiceTarget("dice", torch.ones_like(mask), 2, index=1, truth=mask),
    }
    for blending in ("constant", "gaussian"):
        inferer = Inferer("sliding_window", roi_size=(24,) * 3, overlap=0.5, blending=blending)
        windows = WindowedModel(network, lay_windows(image.shape[2:], inferer, 3))
        _, found = windows.gradients(image, list(targets.values()))
        leaf = image.clone().requires_grad_()
        output = sliding_window_inference(leaf, (24,) * 3, 1, network, 0.5, blending)
        for (name, target), gradient in zip(targets.items(), found):
            (expected,) = torch.autograd.grad(target.value(output).sum(), leaf, retain_graph=True)
            worst = float((gradient - expected).abs().max() / expected.abs().max())
            report(
                f"windowed gradient, {blending}, {name}: relative difference", f"{worst:.1e}", "<= 1e-5", worst <= 1e-5
            )
    small = torch.zeros_like(mask)
    small[2:6, 2:6, 2:6] = True
    windows = WindowedModel(network, lay_windows(image.shape[2:], inferer, 3))
    windows.gradients(image, [VoxelTarget("corner", small, 2, index=1)])
    report("windows evaluated for a target in one corner", f"{windows.passes.forward} of {windows.layout.count}")


def occluding() -> None:
    """Cached against naive occlusion at an overlap of one half; the network normalizes over each window."""
    network, image = unet(channels=(8, 16, 32), strides=(2, 2)), torch.randn(1, 1, 48, 48, 48)
    inferer = Inferer("sliding_window", roi_size=(16,) * 3, overlap=0.5, blending="gaussian")
    target = VoxelTarget("all", torch.ones(image.shape[2:], dtype=torch.bool), 2, index=1)
    baseline, block, stride = baseline_like(image, "mean"), (6, 6, 6), (14, 14, 14)
    layout = lay_windows(image.shape[2:], inferer, 3)
    found, cached_windows, naive_windows = {}, WindowedModel(network, layout, 4), WindowedModel(network, layout, 4)

    def cached() -> None:
        forward = WindowedForward(network, cached_windows, [target], CachedPrediction(cached_windows, image, [target]))
        found["cached"] = occlusion(forward.of(0), image, baseline, block, stride, batch_size=4).map

    def naive() -> None:
        forward = WindowedForward(network, naive_windows, [target])
        found["naive"] = occlusion(forward, image, baseline, block, stride, batch_size=1).map

    fast, slow = in_turns(1, cached, naive)
    worst = float((found["cached"] - found["naive"]).abs().max())
    blocks = len(positions(image.shape[2:], block, stride))
    report(
        f"cached occlusion of {blocks} blocks, {layout.count} windows: difference",
        f"{worst:.1e}",
        "<= 1e-5",
        worst <= 1e-5,
    )
    passes = naive_windows.passes.forward / cached_windows.passes.forward
    report("cached occlusion: windows evaluated, naive / cached", f"{passes:.1f}", ">= 8", passes >= 8)
    report("cached occlusion: CPU time, naive / cached", f"{slow / fast:.1f}", ">= 8", slow / fast >= 8)


def against_captum() -> None:
    """Integrated gradients on the whole input: the same numbers, and next to nothing beside the passes."""
    network, image, steps = unet(), torch.randn(1, 1, 48, 48, 48), 8
    mask = torch.zeros(image.shape[2:], dtype=torch.bool)
    mask[12:30, 12:30, 12:30] = True
    target = VoxelTarget("logit", mask, 2, index=1)
    windows = WindowedModel(network, lay_windows(image.shape[2:], Inferer("whole"), 3))
    baseline, found = baseline_like(image, "mean"), {}

    def ours() -> None:
        forward = WindowedForward(network, windows, [target])
        found["ours"] = integrated_gradients(forward, image, baseline, steps=steps, batch_size=1).map

    def captums() -> None:
        method = IntegratedGradients(TargetForward(network, target))
        found["captum"] = method.attribute(image, baselines=baseline, n_steps=steps, internal_batch_size=1)

    def bare() -> None:
        for _ in range(steps):
            leaf = image.clone().requires_grad_()
            torch.autograd.grad(target.value(network(leaf)).sum(), leaf)
        with torch.no_grad():
            network(image), network(baseline)

    fast, captum, least = in_turns(5, ours, captums, bare)
    worst = float((found["ours"] - found["captum"]).abs().max() / found["captum"].abs().max())
    report("integrated gradients against captum: relative difference", f"{worst:.1e}", "<= 1e-5", worst <= 1e-5)
    report("integrated gradients: CPU time / bare passes", f"{fast / least:.2f}", "<= 1.05", fast / least <= 1.05)
    report("captum's: CPU time / bare passes", f"{captum / least:.2f}")


def tails() -> None:
    """What a noisy pass costs from the bottom of a U-Net on, against the whole network."""
    network = unet(channels=(16, 32, 64, 128), num_res_units=2)
    image = torch.randn(1, 1, 64, 64, 64)
    layer = coarsest_layer(network, image)
    module = WindowNetwork(network)
    record = Tail(module, f"network.{layer}").record(image)
    z = record.activation + 0.1 * torch.randn_like(record.activation)
    target = find_layer(network, layer)

    def tail() -> None:
        leaf = z.clone().requires_grad_()
        torch.autograd.grad(record.run(leaf).square().mean(), leaf)

    def whole() -> None:
        leaf = z.clone().requires_grad_()
        handle = target.register_forward_hook(lambda units, arguments, output: leaf * 1)
        with frozen_parameters(network):
            torch.autograd.grad(module(image).square().mean(), leaf)
        handle.remove()

    def plain() -> None:  # as published code runs: weights not frozen, gradients flow through the whole network
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        leaf = z.clone().requires_grad_()
        handle = target.register_forward_hook(lambda units, arguments, output: leaf + output * 0)
        module(image).square().mean().backward()
        handle.remove()
        network.zero_grad()
        for parameter in network.parameters():
            parameter.requires_grad_(False)

    fast, slow, slowest = in_turns(5, tail, whole, plain)
    report(
        f"bottleneck at {layer} ({record.mode}): whole network, as published / tail",
        f"{slowest / fast:.2f}",
        ">= 2",
        slowest / fast >= 2,
    )
    report("the same with weights frozen: whole network / tail", f"{slow / fast:.2f}")


def planted() -> None:
    """A network whose segmentation follows a distant cue: the rank of the cue among 14 places, for every method."""
    network = trained_network()
    generator = np.random.default_rng(77)
    scans = [cue_scan(generator, True) for _ in range(6)]
    settings = {
        "samples": 8,
        "occlusion_mm": 4.0,
        "steps": 16,
        "layer_steps": 16,
        "regions": 60,
        "masks": 300,
        "coalitions": 150,
        "permutations": 2,
    }
    jobs = [explaining(network, scan, **settings) for scan in scans]
    untrained = explaining(random_network(), scans[0], **settings)
    report("network: scans segmented as the cue says", f"{accuracy(network):.0%}")
    print(f"{'method':<28} {'cue ranks first':<16} {'mean rank':<10} {'share on cue':<13} {'trained ~ untrained'}")
    first = []
    for name, method in METHODS.items():
        try:
            maps = [map_of(job, name) for job in jobs]
        except XAIError as error:
            print(f"{name:<28} refused: {error.message[:80]}")
            continue
        ranks = [cue_rank(values, scan) for values, scan in zip(maps, scans)]
        shares = [float(np.abs(v[s.cue]).sum() / max(np.abs(v).sum(), 1e-30)) for v, s in zip(maps, scans)]
        try:
            other = map_of(untrained, name)
            likeness = f"{spearmanr(maps[0].ravel(), other.ravel()).statistic:.2f}"
        except XAIError:
            likeness = "-"
        first += [name] if ranks == [1] * len(ranks) else []
        print(
            f"{method.name:<28} {ranks.count(1)}/{len(ranks):<14} {np.mean(ranks):<10.1f} {np.mean(shares):<13.3f} "
            f"{likeness}",
            flush=True,
        )
    wanted = {"integrated_gradients", "occlusion", "iba"}
    report(
        "integrated gradients, occlusion and iba rank the cue first in every scan",
        f"{len(first)} methods do",
        "all three",
        wanted <= set(first),
    )


def evaluated() -> None:
    """The checks of evaluate-explanation on the planted cue, with what a random map and an edge filter reach."""
    network = trained_network()
    scan = cue_scan(np.random.default_rng(77), True)
    effort = Effort(steps=16, orders=5, subsets=60, perturbations=80, draws=2, models=2, seeds=2, tile=4)
    for name in ("integrated_gradients", "occlusion", "hirescam", "iba", "guided_backpropagation"):
        job = explaining(network, scan, samples=8, occlusion_mm=4.0, steps=16)
        values = map_of(job, name)
        truth = (scan.ball | scan.cue)[None]
        found = Evaluator(job, values[None], effort, method=METHODS[name], truth=truth).run(list(CHECK_NAMES))
        print(f"\n{'check':<20} {'value':>8} {'error':>8} {'random':>8} {'edges':>8}  threshold   result")
        for check in found.checks:
            row = check.row()
            numbers = [row[key] for key in ("value", "error", "random map", "edge map")]
            cells = " ".join(f"{'' if number is None else f'{number:.3f}':>8}" for number in numbers)
            print(f"{check.name:<20} {cells}  {row['threshold']:<10} {row['result']}")
        print(verdict_line(METHODS[name].title, found.checks), flush=True)


def large() -> None:
    """256 x 256 x 160 voxels, windows of 96, a target that touches every window: estimate, time taken, memory."""
    import resource

    shape, window = (256, 256, 160), 96
    generator = np.random.default_rng(0)
    image = generator.standard_normal(shape).astype(np.float32)
    network = unet()
    model = ExplainedModel(
        "unet",
        network,
        "segmentation",
        ("background", "structure"),
        "0",
        Path("unet"),
        "test",
        spatial_dims=3,
        inferer=Inferer("sliding_window", roi_size=(window,) * 3, overlap=0.25, blending="gaussian"),
    )
    scan = predict_scan(Volume(image, Grid(shape, np.eye(4)), "large"), model)
    chosen = choose_targets(scan, TargetRequest(kind="class", classes=("structure",)))
    for name, changes in (
        ("integrated_gradients", {"steps": 16}),
        ("hirescam", {}),
        ("gradcam", {}),
        ("iba", {"schedule": "reference"}),
    ):
        job = WindowCase(scan, chosen, changes)
        _ = job.bottleneck_layers if name == "iba" else job.sample
        expected = estimate(job, [METHODS[name]], time.process_time)
        start = time.process_time()
        run_method(job, METHODS[name])
        took = time.process_time() - start
        error = abs(expected.total - took) / took
        report(
            f"large scan, {name}, {len(job.touched)} of {scan.windows.layout.count} windows: estimate, taken",
            f"{expected.total:.0f} s, {took:.0f} s",
            "within 30 %",
            error <= 0.3,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report("large scan: peak memory of the process", f"{peak:.1f} GB", "<= 6 GB", peak <= 6)


PARTS = {
    "exact": exact,
    "occlusion": occluding,
    "captum": against_captum,
    "tail": tails,
    "planted": planted,
    "evaluated": evaluated,
    "large": large,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in chosen.only:
        torch.manual_seed(0)
        PARTS[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
