"""Speed, memory and quality of the information bottleneck against a plain version of the published one.

    python3 Testing/run.py benchmark bottleneck [--quick] [--only PART ...]

The plain version (Testing/engine/oracles/plain_iba.py) re-runs the whole network 10 x 10 times, as the published
code does. Both run in this process in turns; times are CPU seconds of one thread, so that other work on the
machine matters little. Each line gives the goal and what was measured here.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

TESTING = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTING), str(TESTING.parent / "SlicerXAI")]

import torch
import torch.nn.functional as F
from support.blob_networks import blob_images, narrow_densenet, narrow_resnet, train
from support.oracles.plain_iba import PlainIBA
from torch import Tensor, nn
from xaiengine.attribution.bottleneck.bottleneck import BottleneckMap, BottleneckSettings, explain_rows
from xaiengine.attribution.bottleneck.objectives import CrossEntropy
from xaiengine.attribution.bottleneck.passes import RowNoise
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics, StatisticsAccumulator
from xaiengine.network.layers import find_layer, frozen_parameters
from xaiengine.network.tail.tail import Tail, TailRecord

CPU = torch.device("cpu")
PARTS = ("same", "speed", "joint", "tail", "memory", "converged", "precision")


def report(what: str, measured: str, goal: str = "", reached: bool | None = None) -> None:
    verdict = "" if reached is None else ("reached" if reached else "MISSED")
    print(f"{what:<74} {goal and 'goal ' + goal:<16} {measured:<22} {verdict}".rstrip(), flush=True)


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    gc.collect()
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def in_turns(repeats: int, *works: Callable[[], object]) -> list[float]:
    """Median CPU seconds of each, run in turns."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for place, work in enumerate(works):
            times[place].append(seconds(work)[0])
    return [statistics.median(each) for each in times]


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().sum() / expected.abs().sum())


def densenet121() -> nn.Module:
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    return DenseNet121(spatial_dims=2, in_channels=1, out_channels=3).eval()


def resnet18(axes: int) -> nn.Module:
    from monai.networks.nets import resnet18

    torch.manual_seed(0)
    # MONAI's first stride of 1 makes all later 3D maps eight times larger than in the published network.
    return resnet18(spatial_dims=axes, n_input_channels=1, num_classes=3, conv1_t_stride=2).eval()


def fitted(tail: Tail, images: Tensor) -> ReferenceStatistics:
    accumulator = StatisticsAccumulator()
    for batch in images.split(8):
        accumulator.add(tail.record(batch).activation)
    return accumulator.finish()


class Plain:
    """The published optimization on one image, with the engine's noise of seed 0 and row 0."""

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        reference: ReferenceStatistics,
        target: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.layer, self.reference, self.target = model, layer, reference, target
        self.dtype, self.passes = dtype, 0

    def __call__(self, image: Tensor, steps: int = 10, copies: int = 10) -> Tensor:
        """(C, *cells) bits; weights collect gradients, as the published code lets them."""
        noise, shape = RowNoise(0, [0], CPU), self.reference.mean[None]
        parts = (self.reference.mean, self.reference.std, self.reference.active)
        oracle = PlainIBA(
            self.model,
            find_layer(self.model, self.layer),
            *(part.to(self.dtype) for part in parts),
            lambda step: noise.draw([0], copies, shape)[:, 0].to(self.dtype),
            copies=copies,
            steps=steps,
        )
        targets = torch.full((copies,), self.target)
        bits = oracle.run(image.to(self.dtype), lambda output: F.cross_entropy(output, targets))
        self.passes = oracle.passes * copies
        return bits


def fast(
    tail: Tail, image: Tensor, reference: ReferenceStatistics, settings: BottleneckSettings, target: int | Tensor = 1
) -> BottleneckMap:
    return explain_rows(tail.record(image), reference, CrossEntropy(target), settings)


TRAINED: dict[str, tuple[nn.Module, int, int]] = {}


def trained(name: str) -> tuple[nn.Module, int, int]:
    """(network, image size, axes), trained once in this process."""
    if name not in TRAINED:
        torch.manual_seed(0)
        network, size, axes, steps = {
            "ResNet-18 2D, narrow": (narrow_resnet(2), 64, 2, 120),
            "DenseNet-121 2D, narrow": (narrow_densenet(), 64, 2, 150),
            "ResNet-10 3D, narrow": (narrow_resnet(3, deep=False), 32, 3, 120),
        }[name]
        accuracy = train(network, size, axes, steps)
        print(f"  trained {name}: accuracy {accuracy:.1%} on made-up images", flush=True)
        TRAINED[name] = (network, size, axes)
    return TRAINED[name]


def blob_case(name: str, layer: str, count: int) -> tuple[Tail, ReferenceStatistics, Tensor, Tensor]:
    network, size, axes = trained(name)
    generator = torch.Generator().manual_seed(5)
    reference = fitted(Tail(network, layer), blob_images(160, size, axes, generator)[0])
    images, classes, _ = blob_images(8 * count, size, axes, generator)
    kept = (classes == 2).nonzero().flatten()[:count]
    return Tail(network, layer), reference, images[kept], classes[kept]


def same_map(quick: bool) -> None:
    """Same seed and work, same map."""
    for name, layer in (
        ("ResNet-18 2D, narrow", "layer2"),
        ("DenseNet-121 2D, narrow", "features.transition1"),
        ("ResNet-10 3D, narrow", "layer2"),
    )[: 1 if quick else 3]:
        tail, reference, images, classes = blob_case(name, layer, 1)
        found = fast(tail, images, reference, BottleneckSettings.published(), int(classes[0])).bits[0]
        for dtype in (torch.float32, torch.float64):
            try:
                expected = Plain(tail.model.to(dtype), layer, reference, int(classes[0]), dtype)(images).sum(0).float()
            finally:
                tail.model.float()
            error = relative(found, expected)
            what = f"same seed, same map: {name} {layer}, plain in {str(dtype)[6:]}, relative L1"
            report(what, f"{error:.1e}", "<= 1e-5", error <= 1e-5)


def speed(quick: bool) -> None:
    """Whole maps at equal quality: the published 10 x 10 against 10 steps of 2 mirrored copies."""
    generator = torch.Generator().manual_seed(1)
    model, image = densenet121(), torch.randn(1, 1, 224, 224, generator=generator)
    others = torch.randn(8, 1, 224, 224, generator=generator)
    cases = [
        (model, f"features.transition{n}", image, others, goal, f"DenseNet-121 224^2 transition {n}")
        for n, goal in ((1, 10), (2, 14), (3, 40))
    ][2 if quick else 0 :]
    if not quick:
        volume, volumes = (torch.randn(n, 1, 96, 96, 96, generator=generator) for n in (1, 3))
        cases.append((resnet18(3), "layer2", volume, volumes, 40, "ResNet-18 3D 96^3 layer 2"))
    for network, layer, one, references, goal, name in cases:
        tail = Tail(network, layer)
        reference = fitted(tail, references)
        plain, ours = Plain(network, layer, reference, 1), BottleneckSettings(mode="reference")
        first = seconds(lambda network=network, layer=layer, one=one: Tail(network, layer).record(one).verify())[0]
        maps: dict[str, Tensor] = {}

        def whole(maps=maps, plain=plain, one=one) -> None:
            maps["plain"] = plain(one)

        def map_of_ours(tail=tail, one=one, r=reference, s=ours) -> None:
            fast(tail, one, r, s)

        before, slow, after = (seconds(work)[0] for work in (map_of_ours, whole, map_of_ours))
        quickly = (before + after) / 2
        report(
            f"equal quality: {name}: published {slow:.2f} s, ours {quickly:.2f} s",
            f"{slow / quickly:.1f}x",
            f">= {goal}x",
            slow / quickly >= goal,
        )
        with frozen_parameters(network):
            frozen = seconds(lambda plain=plain, one=one: plain(one, steps=2))[0] * 5
        report("  against the published one with frozen weights (2 of 10 steps, times 5)", f"{frozen / quickly:.1f}x")
        report("  first use: recording and verification against whole passes", f"{first:.2f} s")
        took, exact = seconds(
            lambda tail=tail, one=one, r=reference: fast(tail, one, r, BottleneckSettings.published())
        )
        error = relative(exact.bits[0], maps["plain"].sum(0))
        if goal == 40 and "3D" not in name and not quick:
            exactly = Plain(network.double(), layer, reference, 1, torch.float64)(one).sum(0).float()
            network.float()
            report(
                "  the published method in float32, relative L1 to itself in float64",
                f"{relative(maps['plain'].sum(0), exactly):.1e}",
            )
            report(
                "  ours in float32, relative L1 to the published method in float64",
                f"{relative(exact.bits[0], exactly):.1e}",
                "<= 1e-5",
                relative(exact.bits[0], exactly) <= 1e-5,
            )
        report(
            f"  same work (10 x 10): {took:.2f} s, {slow / took:.1f}x, relative L1 to the published map",
            f"{error:.1e}",
            "<= 1e-5",
            error <= 1e-5,
        )
    tail, reference, images, classes = blob_case("ResNet-18 2D, narrow", "layer2", 4)
    target = classes
    limit = fast(tail, images, reference, BottleneckSettings(mode="reference", copies=64, seed=7), target).bits
    errors = [
        relative(fast(tail, images, reference, s, target).bits, limit)
        for s in (BottleneckSettings.published(), BottleneckSettings(mode="reference"))
    ]
    report("quality: relative L1 to the noise-free 10-step map, published 10 x 10", f"{errors[0]:.3f}")
    report("quality: the same of 10 steps of 2 mirrored copies", f"{errors[1]:.3f}")


def joint(quick: bool) -> None:
    """Many slices in one optimization, each with a mask of its own."""
    count = 16 if quick else 64
    generator = torch.Generator().manual_seed(2)
    model = resnet18(2)
    slices, others = (torch.randn(n, 1, 128, 128, generator=generator) for n in (count, 8))
    tail = Tail(model, "layer2")
    reference = fitted(tail, others)
    plain = Plain(model, "layer2", reference, 1)
    ours = BottleneckSettings(mode="reference")
    slow, together = in_turns(
        1 if quick else 2, lambda: plain(slices[:1]), lambda: fast(tail, slices, reference, ours)
    )
    ratio = slow / (together / count)
    what = f"{count} slices jointly, ResNet-18 128^2 layer 2: {slow:.2f} s and {together / count:.3f} s a slice"
    report(what, f"{ratio:.1f}x", ">= 20x", ratio >= 20)


class BareTail(nn.Module):
    """The layers of MONAI's DenseNet after a transition, called directly."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        names = [name for name, _ in model.features.named_children()]
        self.features = model.features[names.index(layer) + 1 :]
        self.classify = model.class_layers

    def forward(self, z: Tensor) -> Tensor:
        return self.classify(self.features(z))


def tail(quick: bool) -> None:
    """Passes through the layers after the bottleneck against the same layers called directly."""
    model = densenet121()
    image = torch.randn(1, 1, 224, 224)
    for number in (2, 3)[1 if quick else 0 :]:
        layer = f"transition{number}"
        record = Tail(model, f"features.{layer}").record(image)
        bare = BareTail(model, layer)
        z = record.activation.repeat(4, 1, 1, 1).requires_grad_(True)

        def through(run: Callable[[Tensor], Tensor], z=z) -> None:
            torch.autograd.grad(F.cross_entropy(run(z * 1), torch.ones(4, dtype=torch.long)), z)

        with frozen_parameters(model):
            ours, direct = in_turns(
                5 if quick else 9, lambda record=record: through(record.run), lambda bare=bare: through(bare)
            )
        report(
            f"tail pass / bare pass, forward and back, DenseNet-121 {layer}, 4 rows, {ours:.3f} s",
            f"{ours / direct:.3f}",
            "<= 1.10",
            ours / direct <= 1.10,
        )
        spent = _prefix_seconds(record)
        plain = _prefix_plain(model, layer, image)
        report(
            f"prefix replay, DenseNet-121 {layer} (the plain prefix takes {plain:.0f} ms)",
            f"{spent * 1000:.2f} ms",
            "<= 2 ms",
            spent <= 0.002,
        )


def _prefix_seconds(record: TailRecord) -> float:
    """Median CPU time from the call of a tail pass until the layer is reached."""
    reached: list[float] = []
    handle = record.tail.layer.register_forward_hook(lambda *_: reached.append(time.process_time()))
    spent = []
    try:
        with record.tail.ready(), torch.no_grad():  # as the optimization is throughout
            for _ in range(30):
                z = record.activation.clone()
                start = time.process_time()
                record.run(z)
                spent.append(reached[-1] - start)
    finally:
        handle.remove()
    return statistics.median(spent)


def _prefix_plain(model: nn.Module, layer: str, image: Tensor) -> float:
    names = [name for name, _ in model.features.named_children()]
    before = model.features[: names.index(layer) + 1]
    with torch.no_grad():
        return in_turns(3, lambda: before(image))[0] * 1000


def memory(quick: bool) -> None:
    """Peak of resident memory above model, image and statistics, each in a process of its own."""
    for number in (1, 3)[1 if quick else 0 :]:
        peaks = {}
        for kind in ("plain", "fast"):
            command = [sys.executable, str(Path(__file__).resolve()), "--peak", kind, str(number)]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                report("peak memory", f"not measured: {answer.stderr.strip().splitlines()[-1]}")
                return
            peaks[kind] = float(answer.stdout.split()[-1])
        share = peaks["fast"] / peaks["plain"]
        what = f"peak memory, DenseNet-121 224^2 transition {number}: {peaks['plain']:.0f} and {peaks['fast']:.0f} MB"
        report(what, f"{share:.3f}", "<= 0.25", share <= 0.25)


def peak(kind: str, number: int) -> None:
    """In a child process: print the peak in MB."""
    model, layer = densenet121(), f"features.transition{number}"
    image = torch.randn(1, 1, 224, 224)
    shape = {1: (128, 28, 28), 2: (256, 14, 14), 3: (512, 7, 7)}[number]
    reference = ReferenceStatistics(
        torch.zeros(shape), torch.ones(shape), torch.ones(shape, dtype=torch.bool), 1000, "position"
    )
    model(torch.zeros(1, 1, 32, 32))  # what the libraries load at the first pass belongs to neither
    gc.collect()
    before = _resident("VmRSS")
    if kind == "plain":
        Plain(model, layer, reference, 1)(image, steps=2)
    else:
        settings = BottleneckSettings(mode="reference", steps=3, rows_per_pass=2)
        fast(Tail(model, layer), image, reference, settings)
    print(_resident("VmHWM") - before)


def _resident(field: str) -> float:
    """MB of resident memory: now (VmRSS) or at most (VmHWM). getrusage would count the parent's peak as well."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        sys.exit("peak memory is measured on Linux only")
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def converged(quick: bool) -> None:
    """Maps against those of 100 steps of 8 mirrored copies, for images whose class noise does not give."""
    cases = (
        ("ResNet-18 2D, narrow", "layer2"),
        ("DenseNet-121 2D, narrow", "features.transition1"),
        ("ResNet-10 3D, narrow", "layer2"),
        ("ResNet-18 2D, narrow", "layer1"),
    )[: 1 if quick else 4]
    for name, layer in cases:
        tail, reference, images, classes = blob_case(name, layer, 3 if quick else 6)
        record, objective = tail.record(images), CrossEntropy(classes)
        settings = BottleneckSettings(mode="reference", steps=100, copies=8, seed=99)
        long = explain_rows(record, reference, objective, settings)
        kept = long.predicted_from_noise < 0.5
        if not kept.any():
            report(f"converged: {name} {layer}: noise alone gives the class", "left out")
            continue
        errors, passes = {}, {}
        for mode, settings in (("published", BottleneckSettings.published()), ("converged", BottleneckSettings())):
            found = explain_rows(record, reference, objective, settings)
            pairs = zip(found.bits[kept], long.bits[kept])
            errors[mode] = statistics.mean(relative(ours, theirs) for ours, theirs in pairs)
            passes[mode] = float((found.steps[kept] - 1).float().mean()) * settings.copies
        text = f"converged: {name} {layer}, L1 to the 100-step map, published {errors['published']:.3f}"
        goal = errors["published"]
        report(text, f"{errors['converged']:.3f}", f"< {goal:.3f}", errors["converged"] < goal)
        report(
            "  noisy rows through the tail per map",
            f"{passes['converged']:.0f}",
            f"< {passes['published']:.0f}",
            passes["converged"] < passes["published"],
        )


def precision(quick: bool) -> None:
    """Whether bfloat16 is chosen on this processor, by one timed pass."""
    generator = torch.Generator().manual_seed(3)
    model, image = densenet121(), torch.randn(1, 1, 224, 224, generator=generator)
    tail = Tail(model, "features.transition2")
    reference = fitted(tail, torch.randn(4, 1, 224, 224, generator=generator))
    steps = 3 if quick else 10
    settings = {each: BottleneckSettings(mode="reference", steps=steps, autocast=each) for each in ("off", "bfloat16")}
    off, half = in_turns(2, *(lambda s=s: fast(tail, image, reference, s) for s in settings.values()))
    chosen = fast(tail, image, reference, BottleneckSettings(mode="reference", steps=2, autocast="auto")).precision
    report(f"bfloat16 on this processor, DenseNet-121 transition 2 (auto chooses: {chosen})", f"{off / half:.2f}x")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer networks and repeats (about two minutes)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.peak:
        peak(arguments.peak[0], int(arguments.peak[1]))
        return 0
    print(f"torch {torch.__version__}, one thread, CPU seconds; random weights for times, trained for quality")
    works = {
        "same": same_map,
        "speed": speed,
        "joint": joint,
        "tail": tail,
        "memory": memory,
        "converged": converged,
        "precision": precision,
    }
    for name in PARTS:
        if name in arguments.only:
            works[name](arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
