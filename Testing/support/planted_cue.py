"""A segmentation network whose answer for one structure depends on a distant cue, and scans to show it.

Every scan holds a ball and two dark cubes. If a bright cube lies somewhere, at least 9 voxels from the ball's center,
the ball is the structure; without it there is none. What a right explanation must find is therefore known: the ball,
and of everything else the bright cube.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional
from xaiengine.attribution.registry import find_method
from xaiengine.attribution.runner import run_method
from xaiengine.attribution.window_case import WindowCase
from xaiengine.inference.segmentation_preparation import predict_scan
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.targets.target_choice import TargetRequest, choose_targets

SIZE = 24
BALL_RADIUS = 4.0
CUBE = 4
DISTANCE = 9.0
NETWORK = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": (8, 16, 32),
    "strides": (2, 2),
    "num_res_units": 0,
    "norm": "INSTANCE",
    "act": "relu",
}


@dataclass(frozen=True)
class CueScan:
    """``image`` (I, J, K), and where ball, cue (empty if absent) and decoys lie."""

    image: np.ndarray
    ball: np.ndarray
    cue: np.ndarray
    decoys: np.ndarray


def cue_scan(generator: np.random.Generator, present: bool) -> CueScan:
    image = 0.25 * generator.standard_normal((SIZE,) * 3)
    center = generator.uniform(7, SIZE - 8, 3)
    axes = np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij")
    ball = sum((axis - c) ** 2 for axis, c in zip(axes, center)) <= BALL_RADIUS**2
    image[ball] += 1.0
    taken = np.zeros_like(ball)
    cubes = [_cube(generator, center, taken) for _ in range(3)]
    decoys = cubes[1] | cubes[2]
    image[decoys] -= 2.0
    cue = cubes[0] if present else np.zeros_like(ball)
    image[cue] += 2.0
    return CueScan(image.astype(np.float32), ball, cue, decoys)


def _cube(generator: np.random.Generator, center: np.ndarray, taken: np.ndarray) -> np.ndarray:
    while True:
        start = generator.integers(0, SIZE - CUBE + 1, 3)
        box = tuple(slice(a, a + CUBE) for a in start)
        if np.linalg.norm(start + (CUBE - 1) / 2 - center) >= DISTANCE and not taken[box].any():
            taken[box] = True
            cube = np.zeros_like(taken)
            cube[box] = True
            return cube


def trained_network(steps: int = 350, seed: int = 0) -> nn.Module:
    """About a minute of one thread."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = UNet(**NETWORK)
    optimiser = torch.optim.Adam(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        scans = [cue_scan(generator, bool(n % 2)) for n in range(6)]
        images = torch.from_numpy(np.stack([scan.image for scan in scans]))[:, None]
        labels = torch.from_numpy(np.stack([scan.ball & bool(scan.cue.any()) for scan in scans]))
        logits = network(images)
        probability = logits.softmax(1)[:, 1]
        overlap = 2 * (probability * labels).sum() / (probability.sum() + labels.sum() + 1)
        loss = functional.cross_entropy(logits, labels.long()) + 1 - overlap
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, count: int = 40, seed: int = 999) -> float:
    """The part of new scans whose ball is segmented exactly when the cue is there (more than half of its voxels)."""
    generator, right = np.random.default_rng(seed), 0
    for number in range(count):
        scan = cue_scan(generator, bool(number % 2))
        found = network(torch.from_numpy(scan.image)[None, None])[0].argmax(0).numpy() > 0
        right += (found[scan.ball].mean() > 0.5) == bool(number % 2)
    return right / count


def cue_rank(values: np.ndarray, scan: CueScan) -> int:
    """The rank, from 1, of the cue by mean absolute attribution among 14 places outside the ball: the cue, the decoys
    together, and 12 cubes of the cue's size drawn from the rest. Ties count against the cue."""
    amount = np.abs(values)
    others = np.random.default_rng(5)
    taken = scan.cue | scan.decoys
    center = np.argwhere(scan.ball).mean(0)
    rest = [_cube(others, center, taken) for _ in range(12)]
    decoys = [scan.decoys]
    return 1 + sum(float(amount[place].mean()) >= float(amount[scan.cue].mean()) for place in [*decoys, *rest])


def explaining(network: nn.Module, scan: CueScan, **settings) -> WindowCase:
    """The ball's segmentation by a network, ready for methods."""
    model = ExplainedModel(
        "cue", network, "segmentation", ("background", "ball"), "0", Path("cue"), "test", spatial_dims=3
    )
    volume = Volume(scan.image, Grid(scan.image.shape, np.eye(4)), "scan")
    predicted = predict_scan(volume, model)
    chosen = choose_targets(predicted, TargetRequest(kind="class", classes=("ball",)))
    return WindowCase(predicted, chosen, settings)


def map_of(job: WindowCase, name: str) -> np.ndarray:
    """The map of a method on the voxels of the scan, (I, J, K)."""
    return job.on_input(run_method(job, find_method(name)))[0].sum(0).cpu().numpy()


def random_network(seed: int = 1) -> nn.Module:
    """The same architecture with weights that were never trained: the end of a cascade of randomized layers."""
    torch.manual_seed(seed)
    return UNet(**NETWORK).eval()
