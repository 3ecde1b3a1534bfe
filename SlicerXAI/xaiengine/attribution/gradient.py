"""Attributions from gradients with respect to the input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .forward import Attribution, Forward, completeness_error

COMPLETENESS_WANTED = 0.01
FIRST_STEPS = 16


def saliency(forward: Forward, inputs: torch.Tensor) -> Attribution:
    """The signed gradient (Simonyan 2014, who show its absolute value)."""
    return Attribution(forward.gradient(inputs), unit="change per input unit")


def input_x_gradient(forward: Forward, inputs: torch.Tensor, baseline: torch.Tensor) -> Attribution:
    """(x - baseline) · gradient; a zero baseline gives the published form."""
    values, gradient = forward.value_and_gradient(inputs)
    attribution = (inputs - baseline) * gradient
    difference = values - forward.values(baseline, len(baseline))
    return Attribution(attribution, convergence={"completeness_error": completeness_error(attribution, difference)})


def integrated_gradients(
    forward: Forward,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    *,
    steps: int | None = None,
    max_steps: int = 256,
    batch_size: int = 8,
) -> Attribution:
    """(x - b) · ∫ gradient along the straight path from the baseline b (Sundararajan 2017), by Gauss-Legendre.

    With ``steps`` None the number of steps doubles until Σ map differs from f(x) - f(b) by less than 1 %, or
    ``max_steps`` are reached, which is then said in the notes. ``batch_size`` rows run at a time.
    """
    difference = forward.values(inputs, batch_size) - forward.values(baseline, batch_size)
    count = steps or min(FIRST_STEPS, max_steps)
    while True:
        attribution = (inputs - baseline) * _path_gradient(forward, inputs, baseline, count, batch_size)
        error = completeness_error(attribution, difference)
        if steps or error < COMPLETENESS_WANTED or count >= max_steps:
            break
        count = min(2 * count, max_steps)
    notes: tuple[str, ...] = ()
    if error >= COMPLETENESS_WANTED:
        notes = (
            f"Integrated gradients: the map's sum misses the change of the prediction by {error:.1%} after "
            f"{count} steps (below 1 % was wanted). More steps or another baseline may help.",
        )
    return Attribution(attribution, convergence={"completeness_error": error, "steps": count}, notes=notes)


def expected_gradients(
    forward: Forward, inputs: torch.Tensor, examples: torch.Tensor, *, steps: int = 8, batch_size: int = 8
) -> Attribution:
    """Integrated gradients of one sample (1, C, spatial...), averaged over examples (E, C, spatial...) as baselines.

    The published method draws pairs of example and place on the path; here each example has ``steps`` places of its
    own (Gauss-Legendre). The map adds up to f(x) minus the examples' mean value, but for the reported error.
    """
    total = torch.zeros_like(inputs)
    for example in examples.split(1):
        total += (inputs - example) * _path_gradient(forward, inputs, example, steps, batch_size)
    attribution = total / len(examples)
    difference = forward.values(inputs, 1) - forward.values(examples, batch_size).mean()
    return Attribution(
        attribution,
        convergence={
            "completeness_error": completeness_error(attribution, difference),
            "steps": steps,
            "reference_examples": len(examples),
        },
    )


def _path_gradient(
    forward: Forward, inputs: torch.Tensor, baseline: torch.Tensor, steps: int, batch_size: int
) -> torch.Tensor:
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    nodes, weights = (nodes + 1) / 2, weights / 2
    total = torch.zeros_like(inputs)
    for rows, chunk in _node_chunks(len(inputs), steps, batch_size):
        share = torch.as_tensor(nodes[chunk], dtype=inputs.dtype, device=inputs.device)
        weight = torch.as_tensor(weights[chunk], dtype=inputs.dtype, device=inputs.device)
        ones = [1] * (inputs.ndim - 1)
        start, step = baseline[rows], inputs[rows] - baseline[rows]
        points = start[None] + share.reshape(-1, 1, *ones) * step[None]
        gradient = forward.gradient(points.flatten(0, 1)).reshape(points.shape)
        total[rows] += torch.einsum("k,kn...->n...", weight, gradient)
    return total


def _node_chunks(samples: int, steps: int, batch_size: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of (samples, nodes) with at most ``batch_size`` rows."""
    rows = min(samples, batch_size)
    nodes = max(1, batch_size // rows)
    for row in range(0, samples, rows):
        for node in range(0, steps, nodes):
            yield slice(row, row + rows), slice(node, node + nodes)


def smooth_gradient(
    forward: Forward,
    inputs: torch.Tensor,
    *,
    samples: int = 32,
    noise: float = 0.1,
    seed: int = 0,
    batch_size: int = 8,
    kind: str = "smoothgrad",
) -> Attribution:
    """Gradients averaged over noisy copies of the input (Smilkov 2017), with their variance (Adebayo 2018).

    ``noise`` is the SD of the noise as a part of each sample's range. ``kind`` is smoothgrad (mean), smoothgrad_sq
    (mean of squares) or vargrad (variance); the variance map and the standard error of the mean come with each.
    """
    generator = torch.Generator(device=inputs.device).manual_seed(seed)
    flat = inputs.flatten(1)
    spread = (flat.amax(1) - flat.amin(1)).reshape(-1, *[1] * (inputs.ndim - 1)) * noise
    first, second = torch.zeros_like(inputs), torch.zeros_like(inputs)
    for _, chunk in _node_chunks(len(inputs), samples, batch_size * len(inputs)):
        copies = len(range(*chunk.indices(samples)))
        for rows in torch.arange(len(inputs)).split(max(1, batch_size // copies)):
            shape = (copies, len(rows), *inputs.shape[1:])
            drawn = torch.randn(shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
            points = drawn.mul_(spread[rows][None]).add_(inputs[rows][None])
            gradient = forward.gradient(points.flatten(0, 1)).reshape(shape)
            first[rows] += gradient.sum(0)
            second[rows] += gradient.square_().sum(0)
    mean, mean_square = first / samples, second / samples
    variance = (mean_square - mean.square()).clamp_min(0) * samples / max(1, samples - 1)
    chosen = {"smoothgrad": mean, "smoothgrad_sq": mean_square, "vargrad": variance}[kind]
    error = (variance / samples).sqrt().mean() / mean.abs().mean().clamp_min(1e-20)
    return Attribution(
        chosen,
        unit="change per input unit" if kind == "smoothgrad" else "squared change per input unit",
        convergence={"samples": samples, "relative_standard_error": float(error)},
        extras={"variance": variance},
    )


def gradient_shap(
    forward: Forward,
    inputs: torch.Tensor,
    baselines: torch.Tensor,
    *,
    samples: int = 32,
    noise: float = 0.0,
    seed: int = 0,
    batch_size: int = 8,
) -> Attribution:
    """Expected gradients (Lundberg 2017, Erion 2021): random points on paths from random baselines (B, C, spatial...).

    The completeness error is against the mean over the drawn baselines.
    """
    generator = torch.Generator(device="cpu").manual_seed(seed)
    ones = [1] * (inputs.ndim - 1)
    total, square = torch.zeros_like(inputs), torch.zeros_like(inputs)
    drawn_counts = torch.zeros(len(baselines), device=inputs.device)
    for sample in range(len(inputs)):
        for start in range(0, samples, batch_size):
            count = min(batch_size, samples - start)
            chosen = torch.randint(len(baselines), (count,), generator=generator)
            share = _stratified(start, count, samples, generator).reshape(-1, *ones).to(inputs)
            drawn = torch.randn((count, *inputs.shape[1:]), generator=generator).to(inputs)
            start_points = baselines[chosen.to(baselines.device)]
            moved = inputs[sample] + noise * drawn
            step = moved - start_points
            piece = step * forward.gradient(start_points + share * step)
            total[sample] += piece.sum(0)
            square[sample] += piece.square().sum(0)
            drawn_counts += torch.bincount(chosen, minlength=len(baselines)).to(inputs.device)
    mean = total / samples
    variance = (square / samples - mean.square()).clamp_min(0)
    reference = (forward.values(baselines, batch_size) * drawn_counts).sum() / drawn_counts.sum()
    difference = forward.values(inputs, batch_size) - reference
    return Attribution(
        mean,
        convergence={"completeness_error": completeness_error(mean, difference), "samples": samples},
        extras={"variance": variance},
    )


def _stratified(start: int, count: int, total: int, generator: torch.Generator) -> torch.Tensor:
    """Points of 0..1, one in each of ``total`` equal strata: less noise than independent draws."""
    return (torch.arange(start, start + count) + torch.rand(count, generator=generator)) / total
