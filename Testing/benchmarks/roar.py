"""ROAR: remove what a method calls important, train again, and see what the network can still learn.

    python Testing/run.py benchmark roar [--methods iba,integrated_gradients] [--fractions 0.02,0.05,0.1] [--scans N]

Hooker et al., NeurIPS 2019. A classifier is trained on planted scans; in every training and test scan the voxels
that a method ranks first are replaced by the scan's mean, and a fresh network is trained on what is left. The better
the method, the lower the accuracy. A random map and an edge filter are the controls.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SlicerXAI"), str(Path(__file__).resolve().parent)]

from planted.networks import PlantedNetwork, train
from planted.scans import planted_batch, stacked
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.bottleneck.information import own_statistics
from xaiengine.attribution.feature_maps import explainable
from xaiengine.attribution.registry import METHODS
from xaiengine.attribution.whole_case import WholeCase
from xaiengine.evaluation.controls import edge_map, random_map
from xaiengine.targets.targets import ClassTarget

LAYERS = ("layer1", "layer2", "layer3")
DEFAULT_METHODS = "iba,inverse_iba,integrated_gradients,gradcam"


def maps_of(name: str, network: torch.nn.Module, inputs: torch.Tensor, statistics: dict) -> torch.Tensor:
    """What each voxel (N, spatial...) says for a lesion, by a method or a control."""
    if name == "random":
        return torch.stack([torch.as_tensor(random_map((64, 64), seed, 3.0)) for seed in range(len(inputs))])
    if name == "edges":
        return torch.stack([torch.as_tensor(edge_map(image.numpy())) for image in inputs[:, 0]])
    parts = []
    for rows in inputs.split(16):
        case = WholeCase(
            network,
            ClassTarget(1),
            rows,
            baseline_like(rows),
            (1.0, 1.0),
            LAYERS,
            LAYERS,
            statistics.__getitem__,
            batch_size=16,
        )
        with explainable(network):
            found = METHODS[name].run(case).map
        parts.append(found.abs().sum(1) if METHODS[name].per_input_unit else found.sum(1))
    return torch.cat(parts)


def removed(inputs: torch.Tensor, maps: torch.Tensor, fraction: float) -> torch.Tensor:
    """The scans with their highest voxels replaced by the scan's mean."""
    count = round(fraction * maps[0].numel())
    places = maps.flatten(1).topk(count, dim=1).indices
    flat = inputs.flatten(1).clone()
    flat.scatter_(1, places, flat.mean(1, keepdim=True).expand_as(places))
    return flat.reshape(inputs.shape)


def retrained_accuracy(
    inputs: torch.Tensor, labels: torch.Tensor, held_out: torch.Tensor, truth: torch.Tensor, steps: int, seed: int
) -> float:
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = PlantedNetwork(2, 2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(inputs), (24,), generator=generator)
        loss = functional.cross_entropy(network(inputs[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return float((network(held_out).argmax(1) == truth).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=DEFAULT_METHODS)
    parser.add_argument("--fractions", default="0.02,0.05,0.1")
    parser.add_argument("--scans", type=int, default=400)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--first-steps", type=int, default=250, help="training of the explained network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fractions = [float(part) for part in arguments.fractions.split(",")]
    network = train("classifier", steps=arguments.first_steps)
    scans = planted_batch(arguments.scans, 64, 2, np.random.default_rng(21))
    inputs, labels = stacked(scans), torch.tensor([int(scan.positive) for scan in scans])
    half = 2 * len(inputs) // 3
    statistics = {layer: own_statistics(network, layer, inputs[:100]) for layer in LAYERS}
    print(f"{'method':22s} " + " ".join(f"{fraction:>7.0%}" for fraction in fractions))
    for name in ["random", "edges", *arguments.methods.split(",")]:
        started = time.process_time()
        maps = maps_of(name, network, inputs, statistics)
        found = []
        for fraction in fractions:
            left = removed(inputs, maps, fraction)
            found.append(
                retrained_accuracy(left[:half], labels[:half], left[half:], labels[half:], arguments.steps, 1)
            )
        cells = " ".join(f"{accuracy:7.3f}" for accuracy in found)
        print(f"{name:22s} {cells}   ({time.process_time() - started:.0f} CPU s)", flush=True)
    print("Accuracy after training on what is left; lower means that the method found what matters.")


if __name__ == "__main__":
    main()
