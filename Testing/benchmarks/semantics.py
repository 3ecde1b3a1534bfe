"""Dissection and semantic attribution: what they cost, what memory they take, whether they name planted causes.

    python Testing/run.py benchmark semantics [--part cost|memory|planted|all] [--images N] [--layers NAME ...]

Cost: DenseNet-121 on images of 224², masks of eight findings; CPU time of one thread for the whole dissection (passes,
thresholds, overlaps, chance, intervals) as a ratio of the bare passes of the whole network over the same images, which
run between its batches. Memory: peak of a process that dissects 100 and 1,000 images. Planted: networks trained on
labels of images with known causes; how often semantic attribution names the cause of held-out scans, and the other
cause once the first is removed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import DenseNet121
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SlicerXAI"), str(ROOT / "Testing")]

from support.planted_findings import (
    FINDINGS,
    finding_batch,
    finding_image,
    flat_grid,
    labels_of,
    model_around,
    trained_network,
    write_cohort,
)
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.attribution.baselines import baseline_like
from xaiengine.core.job import Job
from xaiengine.semantics.dissection.cohort import Cohort, LoadedImage, run_cohort
from xaiengine.semantics.dissection.concept_masks import Concept
from xaiengine.semantics.dissection.dissection import Dissection, dissect_layer
from xaiengine.semantics.dissection.image_list import ImageEntry
from xaiengine.semantics.dissection.store import load_dissection
from xaiengine.semantics.semantic_attribution import METHODS, LayerCase, concept_shares, unit_contributions
from xaiengine.targets.targets import ClassTarget

SIZE = 224
CONCEPTS = 8
LAYERS = ["features.denseblock2", "features.denseblock3", "features.norm5"]
HELD_OUT = 60


def drawn_image(number: int) -> LoadedImage:
    """Texture with blocks of eight kinds of brightness, each in half of the images."""
    generator = np.random.default_rng(number)
    pixels = 10 * gaussian_filter(generator.standard_normal((SIZE, SIZE)), 8)
    pixels += gaussian_filter(generator.standard_normal((SIZE, SIZE)), 1)
    masks = {}
    for concept in range(CONCEPTS):
        if generator.random() < 0.5:
            y, x, side = generator.integers((0, 0, 10), (SIZE - 45, SIZE - 45, 45))
            masks[concept] = np.zeros((SIZE, SIZE), dtype=bool)
            masks[concept][y : y + side, x : x + side] = True
            pixels[masks[concept]] += (concept // 2 + 1) * (-1) ** concept
    return torch.from_numpy(pixels[None, None].astype(np.float32)), [masks]


def dense_network() -> DenseNet121:
    """Random weights, with the statistics of its normalisations fitted to the images."""
    torch.manual_seed(0)
    network = DenseNet121(2, 1, 5).train()
    with torch.no_grad():
        for first in range(0, 32, 8):
            network(torch.cat([drawn_image(number)[0] for number in range(first, first + 8)]))
    return network.eval()


def dissect(network: DenseNet121, layer: str, count: int, between: Callable[[torch.Tensor], None]) -> Dissection:
    """Dissect one layer; ``between`` is called with each batch of eight images."""

    def images() -> Iterator[tuple[ImageEntry, Callable[[], LoadedImage]]]:
        for first in range(0, count, 8):
            loaded = [drawn_image(number) for number in range(first, min(first + 8, count))]
            between(torch.cat([pixels for pixels, _ in loaded]))
            for number, item in enumerate(loaded, start=first):
                yield ImageEntry(f"image {number}", Path(str(number))), lambda item=item: item

    cohort = Cohort()
    for concept in range(CONCEPTS):
        cohort.vocabulary.number(Concept(f"concept {concept}"))
    with tempfile.TemporaryDirectory() as folder:
        run_cohort(images(), model_around(network), [layer], Path(folder), cohort)
        return dissect_layer(cohort, layer, Path(folder), "DenseNet-121", "0" * 64)


def benchmark_cost(count: int, layers: list[str]) -> None:
    network = dense_network()
    print(f"Cost of dissecting a DenseNet-121 layer at {SIZE}² over {count} images, CPU time of one thread:")
    for layer in layers:
        aside = bare = 0.0

        def passes(batch: torch.Tensor) -> None:
            nonlocal aside, bare
            started = time.process_time()
            with torch.inference_mode():
                network(batch)
            bare += time.process_time() - started

        drawing = time.process_time()
        for number in range(0, count, 10):
            drawn_image(number)
        aside = 10 * (time.process_time() - drawing)
        started = time.process_time()
        found = dissect(network, layer, count, passes)
        took = time.process_time() - started - bare - aside
        print(
            f"  {layer} ({found.units} units): {took / bare:.3f} x bare passes ({1000 * bare / count:.0f} ms each), "
            f"error of rank {100 * found.rank_error:.3f} %, {(found.concept_of_unit >= 0).sum()} detectors"
        )


def benchmark_memory() -> None:
    print("Peak memory of a process that dissects DenseNet-121's denseblock3:")
    for count in (100, 1000):
        command = [sys.executable, __file__, "--part", "peak", "--images", str(count)]
        print(
            f"  {count} images: {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"
        )


def print_peak(count: int) -> None:
    import resource

    dissect(dense_network(), "features.denseblock3", count, lambda batch: None)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def benchmark_planted(seeds: int) -> None:
    print(f"Planted causes, {seeds} networks, {HELD_OUT} held-out scans each (share of scans):")
    target = ClassTarget(2, "any finding", "logit", "sigmoid")
    for layer in ("middle", "late"):
        hits = {method: np.zeros(2) for method in METHODS}
        gaps, scores = [], []
        for seed in range(seeds):
            model = model_around(trained_network(seed=seed), learned=True)
            test = finding_batch(np.random.default_rng(700 + seed), 80)
            with torch.no_grad():
                right = (model.network(torch.cat([image.tensor for image in test])) > 0).float()
            scores.append(float((right == torch.tensor([labels_of(image) for image in test])).float().mean()))
            dissection = _dissected(model, layer, seed)
            for scan in range(HELD_OUT):
                _count_hits(model, target, layer, dissection, 1000 * (seed + 1) + scan, hits, gaps)
        total = seeds * HELD_OUT
        for method, (named, moved) in hits.items():
            print(f"  {layer}, {METHODS[method].lower()}: cause named {named / total:.1%}, moved {moved / total:.1%}")
        print(
            f"  {layer}: gap of conductance, median {np.median(gaps):.3%}, largest {max(gaps):.2%}; "
            f"accuracy of the networks {min(scores):.3f} to {max(scores):.3f}"
        )


def _dissected(model, layer: str, seed: int) -> Dissection:
    with tempfile.TemporaryDirectory() as folder:
        images = finding_batch(np.random.default_rng(300 + seed), 100)
        cohort = write_cohort(Path(folder) / "cohort", images, flat_grid((48, 48)))
        job = Job(
            task="dissect",
            model="planted",
            inputs={"images": str(cohort)},
            output=f"{folder}/out",
            options={"layers": [layer], "sheet_units": 0, "keep": False},
        )
        result = run_job(job, session=session_with(model))
        if result.error is not None:
            raise SystemExit(result.error.message)
        return load_dissection(Path(folder) / "out" / "dissection.safetensors")


def _count_hits(model, target, layer: str, dissection: Dissection, seed: int, hits: dict, gaps: list[float]) -> None:
    planted = FINDINGS[seed % 2]

    def strongest(kinds: tuple[str, ...], method: str) -> str:
        inputs = finding_image(np.random.default_rng(seed), kinds).tensor
        case = LayerCase(model, target, layer, inputs, baseline_like(inputs), dissection.mean)
        found = unit_contributions(method, case)
        if method == "conductance":
            gaps.append(found.relative_gap)
        named = concept_shares(found, dissection.concepts, dissection.concept_of_unit)[:-1]
        return max(named, key=lambda bar: bar.contribution).concept if named else ""

    for method, count in hits.items():
        count[0] += strongest((planted,), method) == planted
        first = strongest(FINDINGS, method)
        left = tuple(kind for kind in FINDINGS if kind != first)
        count[1] += len(left) == 1 and strongest(left, method) == left[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("cost", "memory", "planted", "all", "peak"), default="all")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--layers", nargs="+", default=LAYERS)
    parser.add_argument("--networks", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.part == "peak":
        print_peak(chosen.images)
        return 0
    if chosen.part in ("cost", "all"):
        benchmark_cost(chosen.images, chosen.layers)
    if chosen.part in ("memory", "all"):
        benchmark_memory()
    if chosen.part in ("planted", "all"):
        benchmark_planted(chosen.networks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
