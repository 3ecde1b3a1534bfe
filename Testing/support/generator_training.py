"""Small trainings for tests; run as a program, it trains in a folder until it is done or killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from xaiengine.counterfactual.generator.generator import GeneratorSettings
from xaiengine.counterfactual.generator.generator_metrics import RandomFeatures
from xaiengine.counterfactual.training.checkpoint import fingerprint
from xaiengine.counterfactual.training.images import TrainingImages
from xaiengine.counterfactual.training.joint import ScoreTarget
from xaiengine.counterfactual.training.run import TrainingRun
from xaiengine.counterfactual.training.settings import TrainingSettings
from xaiengine.counterfactual.training.training import GeneratorTrainer

SIZE = 32
STEPS = 12


def disks(count: int = 24, seed: int = 0) -> torch.Tensor:
    """Grey images (n, 1, 32, 32) uint8 of a disk at a random place, of random size and brightness."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = []
    for _ in range(count):
        distance = np.hypot(rows - random.uniform(10, 22), columns - random.uniform(10, 22))
        images.append(40 + random.uniform(60, 200) / (1 + np.exp(distance - random.uniform(3, 8))))
    return torch.from_numpy(np.stack(images).astype(np.uint8))[:, None]


def brightness(images: torch.Tensor) -> torch.Tensor:
    """A score that can be differentiated: mean brightness."""
    return 10 * images.mean((1, 2, 3)) + 4


def trainer(kind: str = "joint", steps: int = STEPS, device: str = "cpu", **more: object) -> GeneratorTrainer:
    """``joint`` with an encoder and a score, ``adversarial`` from noise with everything that has a state."""
    torch.set_num_threads(1)
    joint = kind == "joint"
    shape = GeneratorSettings(
        size=SIZE,
        latent_size=6,
        mapping_layers=0 if joint else 2,
        width=4,
        maximum_width=8,
        noise=not joint,
        code_channels=2 if joint else 0,
        code_size=8,
    )
    settings = {
        "steps": steps,
        "batch": 4,
        "encoder": joint,
        "adversarial_from": 0.3 if joint else 0.0,
        "r1_every": 4,
        "path_length_every": 3,
        "augmentation_images": 40.0,
        "average_images": 50.0,
        **more,
    }
    target = ScoreTarget(brightness, -2.0, 2.0) if joint else None
    made = GeneratorTrainer(shape, TrainingSettings(**settings), TrainingImages(disks()), target, device)
    made.augmentation.probability = 0.5
    return made


def run_in(folder: Path, made: GeneratorTrainer, **more: object) -> TrainingRun:
    target = ScoreTarget(brightness, -2.0, 2.0) if made.encoder is not None else None
    held_out = TrainingImages(disks(8, seed=9)).chosen(slice(None))
    return TrainingRun(made, folder, fingerprint(made), held_out, RandomFeatures(1), target, save_every=2, **more)


def main(folder: str, kind: str, killed_at: str) -> None:
    """Train; at step ``killed_at`` the process ends at once, without a chance to tidy up."""
    made = trainer(kind)
    step = made.step

    def step_or_die() -> dict[str, float]:
        if made.step_number == int(killed_at):
            os._exit(9)
        return step()

    made.step = step_or_die
    run = run_in(Path(folder), made)
    run.resume()
    run.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
