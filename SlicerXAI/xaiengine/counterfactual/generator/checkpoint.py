"""A generator on disk: ``generator.json`` (what it is) beside its weights as safetensors.

    generator.json          settings, modality, intensity window, spacing, license, training figures, digests
    generator.safetensors   the generator (moving average of the weights) and the spread of its latents
    encoder.safetensors     the encoder, where one was trained

Weights may be stored as float16; they are used as float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from torch import nn

from ...core.errors import ModelError
from ...core.job import write_text_atomically
from ...io.tensor_file import write_tensors
from .generator import GeneratorSettings
from .latent_space import LatentSpace

DESCRIPTION = "generator.json"
GENERATOR_FILE = "generator.safetensors"
ENCODER_FILE = "encoder.safetensors"
FORMAT = "slicerxai-generator"
REMEDY = "Give a folder that the task train-generator wrote, or a rosinality-format .pt file."
_STATISTICS = ("mean", "factors", "residual")
_LATENTS = "latents."
_PREFIX = "network."


class EncoderShape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int = Field(24, ge=1, le=1024)
    maximum_width: int = Field(96, ge=1, le=4096)


class GeneratorDescription(BaseModel):
    """What a generator makes, and where it comes from.

    ``window``: the image values, in ``units``, that the generator's -1 and 1 stand for. ``spacing``: mm of a pixel
    along i and j, (0, 0) if images of any spacing were resampled to the size. ``plane``: the slices of volumes that it
    was trained on; empty for plain images. Images are in the engine's order: i to the right of a picture, j down.

    ``explained_model`` and ``target``: digest and answer that the first latent carries, where generator and encoder
    were trained with them; ``score_mean`` and ``score_deviation`` standardise the moved answer.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    format: Literal["slicerxai-generator"] = FORMAT
    version: Literal[1] = 1
    name: str
    settings: GeneratorSettings
    encoder: EncoderShape | None = None
    modality: str = ""
    window: tuple[float, float] = (0.0, 255.0)
    units: str = ""
    spacing: tuple[float, float] = (0.0, 0.0)
    plane: Literal["", "axial", "coronal", "sagittal"] = ""
    explained_model: str = ""
    target: str = ""
    score_mean: float = 0.0
    score_deviation: float = Field(1.0, gt=0)
    license: str = Field("", validation_alias=AliasChoices("license", "licence"))
    notes: list[str] = Field(default_factory=list)
    training: dict[str, Any] = Field(default_factory=dict)
    sha256: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class StoredGenerator:
    """A generator that was loaded: its latent space, its description, and the SHA-256 over its files."""

    space: LatentSpace
    description: GeneratorDescription
    digest: str
    source: Path

    def values_of(self, images: torch.Tensor) -> torch.Tensor:
        """Image values in the scan's units from images in [-1, 1]; beyond the range they are clipped."""
        low, high = self.description.window
        return low + (high - low) * (images.clamp(-1, 1) + 1) / 2

    def images_of(self, values: torch.Tensor) -> torch.Tensor:
        """Images in [-1, 1] from image values in the scan's units, clipped to the window."""
        low, high = self.description.window
        return ((values.float() - low) / (high - low)).clamp(0, 1) * 2 - 1


def save_generator(
    folder: Path, space: LatentSpace, description: GeneratorDescription, precision: torch.dtype = torch.float32
) -> GeneratorDescription:
    """Write the folder; the description, which makes it valid, comes last. Returns the description with digests.

    Raises:
        ResourceError: the disk is full or the folder cannot be written.
    """
    generator = {_PREFIX + key: value for key, value in space.generator.state_dict().items()}
    statistics = {_LATENTS + key: getattr(space.statistics, key) for key in _STATISTICS}
    files = {GENERATOR_FILE: {**generator, **statistics}}
    shape = None
    if space.encoder is not None:
        files[ENCODER_FILE] = space.encoder.state_dict()
        shape = EncoderShape(width=space.encoder.width, maximum_width=space.encoder.maximum_width)
    folder.mkdir(parents=True, exist_ok=True)
    digests = {name: _write_tensors(folder / name, tensors, precision) for name, tensors in files.items()}
    updated = description.model_copy(update={"settings": space.settings, "encoder": shape, "sha256": digests})
    text = json.dumps(updated.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    write_text_atomically(folder / DESCRIPTION, text)
    return updated


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], precision: torch.dtype) -> str:
    return write_tensors(path, {key: value.to(precision) for key, value in tensors.items()}, {"format": FORMAT})


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor], name: str, source: str) -> None:
    """Put weights into a network of the same shape. Raises ModelError naming the first that does not fit."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    wrong = [key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)]
    if wrong:
        first = wrong[0]
        raise ModelError(
            f"{name} of {source} does not fit the settings in {DESCRIPTION}: {first} has shape "
            f"{found.get(first, 'none')}, expected {wanted.get(first, 'none')} ({len(wrong)} such weights).",
            "The files belong to different generators: copy the folder again.",
        )
    network.load_state_dict(dict(weights))
