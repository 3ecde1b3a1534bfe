"""Train the members of the lesion classifier, one by one; then write their bundle.

    python Testing/training/lesion_classifier/train.py --data FOLDER --member 0 --output WEIGHTS    (and 1, and 2)
    python Testing/training/lesion_classifier/bundle.py --data FOLDER --weights WEIGHTS --output BUNDLE

FOLDER holds TotalSegmentator's test scans (thorax_ct, abdomen_ct_small and their labels, pulmonary_cta). Only slice
labels are used. One thread, fixed seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import NetAdapter, ResNet

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[3] / "SlicerXAI")]
import cohort
from augmentation import random_appearance, random_view
from safetensors.torch import save_file
from slices import LabelledSlice, labeled_slices

PIXEL_MM = 2.0
HU_WINDOW = (-1000.0, 200.0)


@dataclass(frozen=True)
class Stage:
    """A part of the training: views of ``size`` pixels of scans with field of view ``field_mm`` (None: whole)."""

    steps: int
    size: int
    batch: int
    field_mm: float | None
    rate: float


NETWORK: dict[str, Any] = {
    "_target_": "monai.networks.nets.NetAdapter",
    "model": {
        "_target_": "monai.networks.nets.ResNet",
        "block": "bottleneck",
        "layers": [2, 2, 1, 1],
        "block_inplanes": [16, 24, 32, 48],
        "spatial_dims": 2,
        "n_input_channels": 1,
        "conv1_t_size": 5,
        "conv1_t_stride": 1,
        "num_classes": 2,
        "bias_downsample": False,
    },
    "num_classes": 2,
    "dim": 2,
    "pool": ["adaptivemax", {"output_size": 1}],
}
"""Local features (1 x 1 and 3 x 3 convolutions that see about 100 mm), and the strongest response of each anywhere."""
PLANTINGS = {
    "thorax_ct": 20,
    "abdomen_ct": 20,
    "CTChest4": 50,
    "CTChest4 left": 50,
    "LIDC-IDRI-0001": 40,
    "pulmonary_cta": 40,
}
STAGES = (Stage(1000, 64, 64, 140.0, 5e-3), Stage(500, 144, 24, None, 1.5e-3))
POOLS = ("adaptivemax", "adaptiveavg", "adaptivemax")
"""Of the three members of the ensemble, in their order."""


def scaled(hu: torch.Tensor) -> torch.Tensor:
    """HU window to 0..1, clipped: the network's input."""
    low, high = HU_WINDOW
    return ((hu - low) / (high - low)).clamp(0, 1)


def network_definition(member: int) -> dict[str, object]:
    """The architecture of one member of the ensemble, 0..2."""
    return {**NETWORK, "pool": [POOLS[member], {"output_size": 1}]}


def network(member: int) -> torch.nn.Module:
    definition = network_definition(member)
    model = {key: value for key, value in NETWORK["model"].items() if key != "_target_"}
    rest = {key: value for key, value in definition.items() if key not in ("_target_", "model", "pool")}
    return NetAdapter(ResNet(**model), pool=tuple(definition["pool"]), **rest)


def batch_of(slices: list[LabelledSlice], size: int, rng: np.random.Generator) -> torch.Tensor:
    views = torch.stack([random_view(s.image, s.spacing, size, PIXEL_MM, rng) for s in slices])[:, None]
    return scaled(random_appearance(views, rng))


def train_stage(
    model: torch.nn.Module,
    anatomies: list[cohort.Anatomy],
    stage: Stage,
    rng: np.random.Generator,
    after: Callable[[int], None] | None = None,
) -> None:
    groups: list[tuple[list[LabelledSlice], list[LabelledSlice]]] = []
    for anatomy in anatomies:
        plantings = PLANTINGS[anatomy.name] // (1 if stage.field_mm else 3)
        found = labeled_slices(anatomy, plantings, rng, stage.field_mm)
        groups.append(([s for s in found if s.lesion], [s for s in found if not s.lesion]))
        print(f"{anatomy.name}: {len(groups[-1][0])} slices with lesions, {len(groups[-1][1])} without", flush=True)
    share = np.array([len(positive) ** 0.5 for positive, _ in groups])
    share /= share.sum()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.rate, total_steps=stage.steps, pct_start=0.2)
    labels = torch.tensor([i % 2 for i in range(stage.batch)])
    model.train()
    loss_sum, right, start = 0.0, 0.0, time.monotonic()
    for step in range(1, stage.steps + 1):
        picked = []
        for label in labels.tolist():
            pool = groups[rng.choice(len(groups), p=share)][0 if label else 1]
            picked.append(pool[rng.integers(len(pool))])
        images = batch_of(picked, stage.size, rng).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        loss_sum += float(loss.detach())
        right += float((logits.argmax(1) == labels).float().mean())
        if step % 100 == 0:
            left = (time.monotonic() - start) / step * (stage.steps - step)
            print(
                f"step {step}/{stage.steps} loss {loss_sum / 100:.4f} accuracy {right / 100:.3f} left {left:.0f} s",
                flush=True,
            )
            loss_sum = right = 0.0
            if after:
                after(step)
    model.eval()


def anatomies(folder: Path) -> list[cohort.Anatomy]:
    """The patients that are trained on; the whole ones come first."""
    lidc = cohort.lidc().reduced(2).with_found_lungs()
    others = [cohort.thorax_ct(folder), cohort.abdomen_ct(folder), cohort.pulmonary_cta(folder)]
    return [lidc, *cohort.ct_chest4(), *others]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--member", type=int, choices=range(len(POOLS)), required=True)
    parser.add_argument("--output", type=Path, required=True, help="folder of the weights")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(1 + options.member)
    rng = np.random.default_rng(1 + options.member)
    patients = anatomies(options.data)
    model = network(options.member).to(memory_format=torch.channels_last)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"member_{options.member}.safetensors"

    def save(_step: int = 0) -> None:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)

    for stage in STAGES:
        train_stage(model, patients, stage, rng, after=save)
    save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
