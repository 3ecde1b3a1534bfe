"""Benchmark: what a graphics card gains, whether its maps are the CPU's, and whether memory is as estimated.

    python3 Testing/run.py benchmark gpu [--device cuda] [--small]

Prints, within eight minutes on one card: seconds on the CPU and on the device and their ratio, side by side in one
process; the same against captum on the device where captum has the method; peak memory of the device; the relative L1
difference of the maps. ``--device cpu --small`` tries the script itself where there is no card.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import xaiengine as xai
from captum.attr import IntegratedGradients
from captum.attr import Occlusion as CaptumOcclusion
from monai.networks.nets import DenseNet121, UNet, resnet18
from torch import nn
from torch.nn import functional
from xaiengine.network.layers import evaluation_mode

ROW = "| {:<46} | {:>9} | {:>9} | {:>8} | {:>9} | {:>9} |"


@dataclass(frozen=True)
class Case:
    """One network, scan and question; ``captum`` does the same on a tensor, ``random`` methods draw noise."""

    name: str
    network: Callable[[], nn.Module]
    shape: tuple[int, ...]
    options: dict
    wrapped: dict
    captum: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None
    random: bool = False


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny networks and scans")
    chosen = parser.parse_args(argv)
    warnings.simplefilter("ignore", xai.ExplanationWarning)  # random weights and no reference statistics
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device on this machine; '--device cpu --small' tries the script itself.")
        return 2
    if torch.cuda.is_available():
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads")
    print(ROW.format("method, network, input", "CPU s", "device s", "ratio", "captum s", "L1 diff"))
    print("|" + "|".join("-" * width for width in (48, 11, 11, 10, 11, 11)) + "|")
    worst = 0.0
    for case in cases(chosen.small):
        worst = max(worst, measured(case, chosen.device))
    training(chosen.device, chosen.small)
    print(f"\nLargest difference of a method that draws no noise: {worst:.1e} (relative L1)")
    return 0 if worst < 1e-2 else 1


def cases(small: bool) -> list[Case]:
    flat, deep = ((48, 48), (24, 24, 24)) if small else ((224, 224), (96, 96, 96))
    window = (16, 16, 16) if small else (64, 64, 64)

    def dense() -> nn.Module:
        return DenseNet121(spatial_dims=2, in_channels=1, out_channels=2)

    def volume() -> nn.Module:
        return resnet18(spatial_dims=3, n_input_channels=1, num_classes=2)

    def segmenter() -> nn.Module:
        return UNet(3, 1, 2, channels=(8, 16, 32), strides=(2, 2), norm="instance")

    labels = {"task": "classification", "labels": ["no", "yes"]}
    wanted = {"target": "yes", "baseline": "zero"}
    pieces = {"task": "segmentation", "labels": ["rest", "organ"], "window": window}
    schedule = {"schedule": "reference"}
    bits = {"methods": "iba", **schedule, **wanted}
    return [
        Case("bottleneck, DenseNet-121, 2D", dense, flat, bits, labels, random=True),
        Case("bottleneck, ResNet-18, 3D", volume, deep, bits, labels, random=True),
        Case(
            "integrated gradients 64 steps, DenseNet-121, 2D",
            dense,
            flat,
            {"methods": "integrated_gradients", "steps": 64, **wanted},
            labels,
            _captum_integrated,
        ),
        Case(
            "integrated gradients 32 steps, ResNet-18, 3D",
            volume,
            deep,
            {"methods": "integrated_gradients", "steps": 32, **wanted},
            labels,
            lambda network, tensor: _captum_integrated(network, tensor, 32),
        ),
        Case(
            "occlusion, ResNet-18, 3D",
            volume,
            deep,
            {"methods": "occlusion", "occlusion_mm": deep[0] / 8, **wanted},
            labels,
            lambda network, tensor: _captum_occlusion(network, tensor, deep[0] // 8),
        ),
        Case("Grad-CAM, ResNet-18, 3D", volume, deep, {"methods": "gradcam", **wanted}, labels),
        Case(
            "integrated gradients 16 steps, UNet, 3D windows",
            segmenter,
            deep,
            {"methods": "integrated_gradients", "steps": 16, "target": "organ", "baseline": "zero"},
            pieces,
        ),
        Case(
            "bottleneck, UNet, 3D windows",
            segmenter,
            deep,
            {"methods": "iba", "target": "organ", **schedule},
            pieces,
            random=True,
        ),
    ]


def measured(case: Case, device: str) -> float:
    """Print a row; returns the difference of the maps, 0 for methods that draw noise on the device itself."""
    torch.manual_seed(0)
    network = case.network().eval()
    scan = picture(case.shape)
    seconds, maps = {}, {}
    for place in ("cpu", device):
        model = xai.wrap(copy.deepcopy(network), **case.wrapped).to(torch.device(place))
        xai.explain(model, scan, **case.options)  # kernels are chosen and compiled in the first run
        wait(place)
        if place.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        found = xai.explain(model, scan, **case.options)
        wait(place)
        seconds[place] = time.perf_counter() - start
        maps[place] = next(iter(found.values())).map
    difference = np.abs(maps[device] - maps["cpu"]).sum() / max(np.abs(maps["cpu"]).sum(), 1e-30)
    peak = f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GB" if device.startswith("cuda") else ""
    theirs = captum_seconds(case, network, scan, device)
    ratio = seconds["cpu"] / seconds[device]
    print(
        ROW.format(
            case.name + peak,
            f"{seconds['cpu']:.2f}",
            f"{seconds[device]:.2f}",
            f"{ratio:.1f}x",
            theirs,
            f"{difference:.1e}",
        ),
        flush=True,
    )
    return 0.0 if case.random else float(difference)


def captum_seconds(case: Case, network: nn.Module, scan: np.ndarray, device: str) -> str:
    if case.captum is None:
        return ""
    tensor = torch.from_numpy(scan.reshape(1, 1, *case.shape)).to(device)
    network = copy.deepcopy(network).to(device)
    with evaluation_mode(network):
        case.captum(network, tensor)
        wait(device)
        start = time.perf_counter()
        case.captum(network, tensor)
        wait(device)
    return f"{time.perf_counter() - start:.2f}"


def _captum_integrated(network: nn.Module, tensor: torch.Tensor, steps: int = 64) -> torch.Tensor:
    return IntegratedGradients(network).attribute(tensor, target=1, n_steps=steps, internal_batch_size=8)


def _captum_occlusion(network: nn.Module, tensor: torch.Tensor, block: int) -> torch.Tensor:
    shape = (1, *[block] * (tensor.ndim - 2))
    return CaptumOcclusion(network).attribute(tensor, shape, strides=shape, target=1, perturbations_per_eval=8)


def picture(shape: tuple[int, ...]) -> np.ndarray:
    """Smooth noise (shape) float32."""
    noise = torch.randn(1, 1, *[max(4, size // 8) for size in shape], generator=torch.Generator().manual_seed(0))
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    return functional.interpolate(noise, size=shape, mode=mode)[0, 0].numpy()


def training(device: str, small: bool) -> None:
    """Steps of a generator's joint training: images per second on both."""
    from support.generator_training import trainer

    steps = 3 if small else 30
    rates = {}
    for place in ("cpu", device):
        made = trainer("joint", steps=steps, device=place)
        made.step()
        wait(place)
        start = time.perf_counter()
        for _ in range(steps):
            made.step()
        wait(place)
        rates[place] = (time.perf_counter() - start) / steps
    ratio = rates["cpu"] / rates[device]
    row = ("training step of a generator", f"{rates['cpu']:.3f}", f"{rates[device]:.3f}", f"{ratio:.1f}x", "", "")
    print(ROW.format(*row))


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
