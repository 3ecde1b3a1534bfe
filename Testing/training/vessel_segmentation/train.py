"""Trains the vessel segmentation network that SlicerXAI ships, and writes its bundle and model card.

    python Testing/training/vessel_segmentation/train.py --scans FOLDER --minutes 15

FOLDER holds the two CTA crops of TotalSegmentator's test data (Apache-2.0): ``aorta_cta.nii.gz`` with
``aorta_cta_aorta.nii.gz``, and ``pulmonary_cta.nii.gz`` with ``pulmonary_cta_artery.nii.gz``. They show one patient.
Its lower part (z index below 56 of the first crop) is held out.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from safetensors.torch import save_file
from torch.nn import functional
from trees import synthetic_scan

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "SlicerXAI" / "Resources" / "Models" / "vessel_segmentation"
NETWORK = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [8, 16, 32, 64],
    "strides": [2, 2, 2],
    "num_res_units": 1,
    "norm": "INSTANCE",
}
WINDOW, SPACING, LOW, HIGH = 48, 1.5, -200.0, 600.0
HELD_OUT_BELOW = 56
BRIGHT = 130.0
"""Unlabeled voxels above this in the real scan may be vessels, heart or bone: they are neither right nor wrong."""


@dataclass(frozen=True)
class RealScan:
    """The patient's CTA (I, J, K) in HU; ``vessels`` (aorta, pulmonary artery) and ``known``, where labels hold."""

    hu: np.ndarray
    vessels: np.ndarray
    known: np.ndarray


def real_scan(folder: Path) -> RealScan:
    import nibabel

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        image = nibabel.load(folder / f"{name}.nii.gz")
        return np.asarray(image.dataobj).astype(np.float32), image.affine

    hu, affine = read("aorta_cta")
    vessels = read("aorta_cta_aorta")[0] > 0
    artery, other = read("pulmonary_cta_artery")
    start = np.round((np.linalg.inv(affine) @ other)[:3, 3]).astype(int)
    size = np.minimum(np.array(artery.shape), np.array(hu.shape) - start)
    box = tuple(slice(a, a + n) for a, n in zip(start, size))
    vessels[box] |= artery[tuple(slice(0, n) for n in size)] > 0
    return RealScan(hu, vessels, vessels | (hu < BRIGHT))


def scaled(hu: np.ndarray) -> torch.Tensor:
    """(1, 1, I, J, K), 0..1 from -200 to 600 HU."""
    return torch.from_numpy((np.clip(hu, LOW, HIGH) - LOW) / (HIGH - LOW)).float()[None, None]


def real_patch(scan: RealScan, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A training patch that holds vessel, flipped at random."""
    voxels = np.argwhere(scan.vessels[:, :, HELD_OUT_BELOW + WINDOW // 2 :]) + (0, 0, HELD_OUT_BELOW + WINDOW // 2)
    center = voxels[generator.integers(len(voxels))] + generator.integers(-16, 17, 3)
    limits = np.array(scan.hu.shape) - WINDOW
    start = np.clip(center - WINDOW // 2, (0, 0, HELD_OUT_BELOW), limits)
    box = tuple(slice(a, a + WINDOW) for a in start)
    flips = tuple(slice(None, None, -1 if generator.random() < 0.5 else 1) for _ in range(3))
    hu = scan.hu[box][flips] * generator.uniform(0.85, 1.15) + generator.uniform(-20, 20)
    return hu, scan.vessels[box][flips], scan.known[box][flips]


def batch(scan: RealScan, generator: np.random.Generator, synthetic: int = 2, real: int = 1):
    parts = [real_patch(scan, generator) for _ in range(real)]
    for _ in range(synthetic):
        drawn = synthetic_scan(WINDOW, generator)
        parts.append((drawn.hu, drawn.vessels, np.ones_like(drawn.vessels)))
    images = torch.cat([scaled(np.ascontiguousarray(hu)) for hu, _, _ in parts])
    masks = [torch.from_numpy(np.stack([np.ascontiguousarray(part[n]) for part in parts])) for n in (1, 2)]
    return images, *masks


def loss_of(logits: torch.Tensor, vessels: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Cross-entropy and soft Dice over the voxels whose label is known."""
    known = known.float()
    entropy = (functional.cross_entropy(logits, vessels.long(), reduction="none") * known).sum() / known.sum()
    probability = logits.softmax(1)[:, 1] * known
    truth = vessels.float() * known
    dice = 2 * (probability * truth).sum() / (probability.sum() + truth.sum() + 1)
    return entropy + 1 - dice


def dice(found: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float:
    found, truth = found & known, truth & known
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


@torch.no_grad()
def predicted(network: torch.nn.Module, hu: np.ndarray) -> np.ndarray:
    output = sliding_window_inference(scaled(hu), (WINDOW,) * 3, 1, network, 0.5, "gaussian")
    return output[0].argmax(0).numpy() > 0


def figures(network: torch.nn.Module, scan: RealScan) -> dict[str, float]:
    """Dice on 12 held-out synthetic scans of 72 voxels, and on the held-out part of the real one."""
    network.eval()
    generator = np.random.default_rng(20_000)
    synthetic = []
    for _ in range(12):
        drawn = synthetic_scan(72, generator)
        synthetic.append(dice(predicted(network, drawn.hu), drawn.vessels, np.ones_like(drawn.vessels)))
    part = (slice(None), slice(None), slice(0, HELD_OUT_BELOW))
    found = predicted(network, scan.hu[part])
    truth, known = scan.vessels[part], scan.known[part]
    return {
        "synthetic_dice_mean": float(np.mean(synthetic)),
        "synthetic_dice_sd": float(np.std(synthetic)),
        "synthetic_dice_least": float(np.min(synthetic)),
        "real_dice_where_labeled": dice(found, truth, known),
        "real_sensitivity": float((found & truth).sum() / truth.sum()),
        "real_found_in_dark_tissue": float((found & known & ~truth).sum() / max(1, (known & ~truth).sum())),
    }


def train(minutes: float, scan: RealScan, seed: int = 0) -> tuple[UNet, int, float]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = UNet(**NETWORK)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-4)
    start, step, recent = time.process_time(), 0, []
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))  # Ctrl+C ends it early, cleanly
    while (spent := (time.process_time() - start) / 60) < minutes and not stop:
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * spent / minutes)))
        network.train()
        images, vessels, known = batch(scan, generator)
        loss = loss_of(network(images), vessels, known)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        recent.append(float(loss))
        step += 1
        if step % 50 == 0:
            print(f"{spent:5.1f} min  step {step}  loss {np.mean(recent[-50:]):.3f}", flush=True)
    return network.eval(), step, spent


def write_bundle(network: UNet, numbers: dict[str, float], steps: int, minutes: float) -> None:
    for folder in ("configs", "models", "docs"):
        (BUNDLE / folder).mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, str(BUNDLE / "models/model.safetensors"))
    write_json(
        "configs/inference.json",
        {
            "network_def": {"_target_": "monai.networks.nets.UNet", **NETWORK},
            "preprocessing": {
                "_target_": "monai.transforms.Compose",
                "transforms": [
                    {"_target_": "LoadImaged", "keys": "image"},
                    {"_target_": "EnsureChannelFirstd", "keys": "image"},
                    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
                    {"_target_": "Spacingd", "keys": "image", "pixdim": [SPACING] * 3, "mode": "bilinear"},
                    {
                        "_target_": "ScaleIntensityRanged",
                        "keys": "image",
                        "a_min": LOW,
                        "a_max": HIGH,
                        "b_min": 0.0,
                        "b_max": 1.0,
                        "clip": True,
                    },
                ],
            },
            "inferer": {
                "_target_": "monai.inferers.SlidingWindowInferer",
                "roi_size": [WINDOW] * 3,
                "sw_batch_size": 1,
                "overlap": 0.5,
                "mode": "gaussian",
            },
        },
    )
    write_json(
        "configs/metadata.json",
        {
            "version": "1.0.0",
            "name": "Vessel segmentation (CTA)",
            "task": "Vessel segmentation",
            "description": "Segments contrast-enhanced vessels; a demonstration of explanations, not for diagnosis.",
            "authors": "SlicerXAI",
            "copyright": "Apache-2.0",
            "monai_version": "1.6.1",
            "pytorch_version": "2.6.0",
            "network_data_format": {
                "inputs": {"image": {"type": "image", "format": "hounsfield", "modality": "CT", "num_channels": 1}},
                "outputs": {
                    "pred": {
                        "type": "image",
                        "format": "segmentation",
                        "num_channels": 2,
                        "channel_def": {"0": "background", "1": "vessel"},
                    }
                },
            },
        },
    )
    write_json(
        "configs/explanation.json",
        {
            "name": "vessel_segmentation",
            "task": "segmentation",
            "labels": ["background", "vessel"],
            "target": "vessel",
            "activation": "softmax",
            "layers": [],
            "notes": [
                "Trained on synthetic vascular trees and one patient's CTA: a demonstration, not for diagnosis."
            ],
        },
    )
    card = (Path(__file__).parent / "model_card.md").read_text(encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    numbers = {**numbers, "steps": steps, "minutes": minutes, "parameters": parameters}
    write_text("docs/README.md", card.format(**numbers))
    write_json("docs/figures.json", numbers)


def write_json(name: str, content: dict) -> None:
    write_text(name, json.dumps(content, indent=2) + "\n")


def write_text(name: str, text: str) -> None:
    with open(BUNDLE / name, "w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15.0, help="CPU minutes of one thread")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scan = real_scan(arguments.scans)
    network, steps, minutes = train(arguments.minutes, scan)
    numbers = figures(network, scan)
    print(json.dumps(numbers, indent=2))
    write_bundle(network, numbers, steps, round(minutes, 1))


if __name__ == "__main__":
    main()
