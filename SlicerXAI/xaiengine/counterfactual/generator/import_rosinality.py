"""Generators of the rosinality format: the ``.pt`` files of a widespread PyTorch version of StyleGAN2.

Their networks are mathematically those of :mod:`generator` with noise and without a spatial code; only the names
differ. Nothing of the file is run: it is read with ``weights_only``.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from ...core.errors import ModelError, TrustError
from ...models.files import LARGEST_WEIGHTS, SingleFile
from ...models.formats.weights import read_checkpoint
from .checkpoint import REMEDY, GeneratorDescription, StoredGenerator, fill
from .generator import Generator, GeneratorSettings
from .latent_space import LatentSpace

CONVERT = (
    "Convert it with convert_weight.py of github.com/rosinality/stylegan2-pytorch in an environment that trusts the "
    "file, and give the .pt file that it writes."
)
_WEIGHTS = ("g_ema", "g")
_LAYER = {
    "conv.weight": "conv.weight",
    "conv.modulation.weight": "conv.style.weight",
    "conv.modulation.bias": "conv.style.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",
}
_KERNELS = re.compile(r"(?:^|\.)(?:blur|upsample)\.kernel$")


def load_foreign(path: Path, device: torch.device | str = "cpu") -> StoredGenerator:
    """The generator in a rosinality-format file.

    Raises:
        ModelError: another kind of file (NVIDIA's ``.pkl`` among them), or a network of another shape.
        TrustError: the file would run code when it is read.
    """
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise TrustError(
            f"{path.name} is a pickle, as NVIDIA's StyleGAN2 writes them: reading it would run the code inside it.",
            CONVERT,
        )
    if path.suffix.lower() not in (".pt", ".pth"):
        raise ModelError(f"{path.name} is no generator in a known format.", REMEDY)
    content = SingleFile(path).read(path.name, LARGEST_WEIGHTS)
    checkpoint = read_checkpoint(content, path.name, {"argparse Namespace": argparse.Namespace})
    state = _generator_state(checkpoint, path.name)
    settings = settings_of(state, path.name)
    generator = Generator(settings)
    fill(generator, renamed(state), path.name, path.name)
    mean = checkpoint.get("latent_avg") if isinstance(checkpoint, Mapping) else None
    with torch.no_grad():
        if isinstance(mean, torch.Tensor) and mean.numel() == settings.latent_size:
            generator.mean_w.copy_(mean.flatten().float())
    description = GeneratorDescription(
        name=path.stem,
        settings=settings,
        notes=["Read from a rosinality-format file; its license is that of its origin."],
    )
    space = LatentSpace(generator).to(torch.device(device))
    if not bool(generator.mean_w.any()):
        generator.mean_w.copy_(space.mean)
    return StoredGenerator(space, description, hashlib.sha256(content).hexdigest(), path)


def _generator_state(checkpoint: Any, name: str) -> dict[str, torch.Tensor]:
    state = None
    if isinstance(checkpoint, Mapping):
        state = next((checkpoint[key] for key in _WEIGHTS if isinstance(checkpoint.get(key), Mapping)), None)
    if state is None or "input.input" not in state or "style.1.weight" not in state:
        raise ModelError(f"{name} holds no generator of the rosinality format (g_ema with input.input).", REMEDY)
    return {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}


def settings_of(state: Mapping[str, torch.Tensor], name: str) -> GeneratorSettings:
    """The shape of the generator that these weights belong to. Raises ModelError if it is none of ours."""
    blocks = 1 + len({key.split(".")[1] for key in state if key.startswith("to_rgbs.")})
    last = f"convs.{2 * blocks - 3}.conv.weight" if blocks > 1 else "conv1.conv.weight"
    try:
        return GeneratorSettings(
            size=2 ** (blocks + 1),
            channels=state["to_rgb1.conv.weight"].shape[1],
            latent_size=state["style.1.weight"].shape[0],
            mapping_layers=len([key for key in state if re.fullmatch(r"style\.\d+\.weight", key)]),
            width=state[last].shape[1],
            maximum_width=state["input.input"].shape[1],
        )
    except (KeyError, IndexError, ValidationError) as error:
        raise ModelError(
            f"The generator in {name} is not of a shape that SlicerXAI knows: {str(error).splitlines()[0]}.", REMEDY
        ) from error


def renamed(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights under our names; smoothing kernels, which are fixed, are checked by the caller's shapes alone."""
    found: dict[str, torch.Tensor] = {"mean_w": torch.zeros(state["style.1.weight"].shape[0])}
    for key, value in state.items():
        if _KERNELS.search(key):
            _check_kernel(key, value)
            continue
        name = _our_name(key)
        value = value.float()
        if name.endswith("conv.weight"):
            value = value[0]
        elif name.startswith("images.") and name.endswith(".bias") and "style" not in name:
            value = value.flatten()
        found[name] = value
    return found


def _check_kernel(key: str, kernel: torch.Tensor) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    expected = torch.outer(taps, taps) / 16
    if kernel.shape != expected.shape or not torch.allclose(kernel.float(), expected, atol=1e-5):
        raise ModelError(f"{key}: only generators with the smoothing filter 1, 3, 3, 1 can be read.", REMEDY)


def _our_name(key: str) -> str:
    if key == "input.input":
        return "constant"
    if match := re.fullmatch(r"style\.(\d+)\.(weight|bias)", key):
        return f"mapping_network.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d+)", key):
        return f"noise_{match[1]}"
    for pattern, ours, offset in (
        (r"conv1\.()(.*)", "styled", 0),
        (r"convs\.(\d+)\.(.*)", "styled", 1),
        (r"to_rgb1\.()(.*)", "images", 0),
        (r"to_rgbs\.(\d+)\.(.*)", "images", 1),
    ):
        if (match := re.fullmatch(pattern, key)) and match[2] in _LAYER:
            return f"{ours}.{int(match[1] or 0) + offset}.{_LAYER[match[2]]}"
    return key
