"""StyleGAN2's generator written down plainly from the paper, on a state dict of the rosinality format.

One sample after another, each with its own modulated and demodulated kernel, upsampling by inserted zeros and an
explicit filter. Slow; serves as an oracle.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


def random_state(
    size: int = 32, channels: int = 3, latent: int = 12, layers: int = 3, widths: tuple[int, ...] = (16, 16, 8, 4)
) -> dict[str, torch.Tensor]:
    """Random weights under the format's names; ``widths`` for 4, 8, ... size."""
    drawn = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=drawn)

    kernel = (torch.outer(TAPS, TAPS) / 16).float()
    state = {"input.input": normal(1, widths[0], 4, 4)}
    for number in range(1, layers + 1):
        state[f"style.{number}.weight"] = normal(latent, latent) / 0.01
        state[f"style.{number}.bias"] = normal(latent)

    def styled(name: str, before: int, after: int) -> None:
        state[f"{name}.conv.weight"] = normal(1, after, before, 3, 3)
        state[f"{name}.conv.modulation.weight"] = normal(before, latent)
        state[f"{name}.conv.modulation.bias"] = 1 + 0.1 * normal(before)
        state[f"{name}.noise.weight"] = 0.3 * normal(1)
        state[f"{name}.activate.bias"] = 0.2 * normal(after)

    def to_rgb(name: str, before: int) -> None:
        state[f"{name}.conv.weight"] = normal(1, channels, before, 1, 1)
        state[f"{name}.conv.modulation.weight"] = normal(before, latent)
        state[f"{name}.conv.modulation.bias"] = 1 + 0.1 * normal(before)
        state[f"{name}.bias"] = 0.1 * normal(1, channels, 1, 1)

    styled("conv1", widths[0], widths[0])
    to_rgb("to_rgb1", widths[0])
    state["noises.noise_0"] = normal(1, 1, 4, 4)
    for level, (before, after) in enumerate(zip(widths, widths[1:])):
        styled(f"convs.{2 * level}", before, after)
        state[f"convs.{2 * level}.conv.blur.kernel"] = kernel
        styled(f"convs.{2 * level + 1}", after, after)
        to_rgb(f"to_rgbs.{level}", after)
        state[f"to_rgbs.{level}.upsample.kernel"] = kernel
        for place in (2 * level + 1, 2 * level + 2):
            state[f"noises.noise_{place}"] = normal(1, 1, 8 << level, 8 << level)
    assert 4 << (len(widths) - 1) == size
    return state


def mapped(state: dict[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
    """w (n, latent) of noise z."""
    w = z.double() / (z.double().square().mean(1, keepdim=True) + 1e-8).sqrt()
    number = 1
    while f"style.{number}.weight" in state:
        weight, bias = (state[f"style.{number}.{part}"].double() for part in ("weight", "bias"))
        w = _fused(w @ (weight * 0.01 / math.sqrt(weight.shape[1])).T + bias * 0.01)
        number += 1
    return w


def images_of(state: dict[str, torch.Tensor], latents: torch.Tensor, noise: bool = True) -> torch.Tensor:
    """Images (n, C, S, S) of latents W+ (n, layers, latent)."""
    return torch.cat([_image_of({k: v.double() for k, v in state.items()}, one.double(), noise) for one in latents])


def _image_of(state: dict[str, torch.Tensor], latents: torch.Tensor, noise: bool) -> torch.Tensor:
    features = _styled(state, "conv1", state["input.input"], latents[0], 0, noise, False)
    image = _to_rgb(state, "to_rgb1", features, latents[1])
    level = 0
    while f"to_rgbs.{level}.bias" in state:
        first, second = f"convs.{2 * level}", f"convs.{2 * level + 1}"
        features = _styled(state, first, features, latents[2 * level + 1], 2 * level + 1, noise, True)
        features = _styled(state, second, features, latents[2 * level + 2], 2 * level + 2, noise, False)
        above = _to_rgb(state, f"to_rgbs.{level}", features, latents[2 * level + 3])
        image = above + _filtered(_spread(image), (2, 1))
        level += 1
    return image


def _kernel(state: dict[str, torch.Tensor], name: str, w: torch.Tensor, demodulate: bool) -> torch.Tensor:
    weight = state[f"{name}.conv.weight"][0]
    modulation, bias = state[f"{name}.conv.modulation.weight"], state[f"{name}.conv.modulation.bias"]
    style = modulation @ w / math.sqrt(len(w)) + bias
    kernel = weight / math.sqrt(weight[0].numel()) * style[None, :, None, None]
    if demodulate:
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
    return kernel


def _styled(
    state: dict[str, torch.Tensor],
    name: str,
    features: torch.Tensor,
    w: torch.Tensor,
    place: int,
    noise: bool,
    up: bool,
) -> torch.Tensor:
    kernel = _kernel(state, name, w, True)
    if up:
        # a transposed convolution: zeros between the pixels, then a convolution with the turned kernel
        spread = _spread(features)[:, :, :-1, :-1]
        values = functional.conv2d(functional.pad(spread, (2, 2, 2, 2)), kernel.flip((2, 3)))
        values = _filtered(values, (1, 1))
    else:
        values = functional.conv2d(features, kernel, padding=1)
    if noise:
        values = values + state[f"{name}.noise.weight"] * state[f"noises.noise_{place}"]
    return _fused(values + state[f"{name}.activate.bias"][:, None, None])


def _to_rgb(state: dict[str, torch.Tensor], name: str, features: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(features, _kernel(state, name, w, False)) + state[f"{name}.bias"]


def _fused(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values > 0, values, 0.2 * values) * math.sqrt(2)


def _spread(images: torch.Tensor) -> torch.Tensor:
    """A zero after every pixel."""
    n, c, h, w = images.shape
    spread = images.new_zeros(n, c, 2 * h, 2 * w)
    spread[:, :, ::2, ::2] = images
    return spread


def _filtered(images: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
    """The filter 1, 3, 3, 1 in both directions, of sum 4, after zeros on both sides."""
    kernel = torch.outer(TAPS, TAPS) / 16
    padded = functional.pad(images, (*pad, *pad))
    channels = [functional.conv2d(padded[:, c : c + 1], kernel[None, None])[:, 0] for c in range(images.shape[1])]
    return torch.stack(channels, 1)
