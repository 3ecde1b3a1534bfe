"""Loading a generator from its folder, or from a file of another format."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from pydantic import ValidationError

from ...core.errors import ModelError
from ...core.job import explain
from ...models.files import FolderFiles, ModelFiles
from ...models.formats.weights import read_state
from .checkpoint import (
    _LATENTS,
    _PREFIX,
    _STATISTICS,
    DESCRIPTION,
    ENCODER_FILE,
    FORMAT,
    GENERATOR_FILE,
    REMEDY,
    GeneratorDescription,
    StoredGenerator,
    fill,
)
from .encoder import Encoder
from .generator import Generator
from .latent_space import LatentSpace, LatentStatistics


def load_generator(path: Path | str, device: torch.device | str = "cpu") -> StoredGenerator:
    """The generator in a folder, or in a rosinality-format ``.pt`` file (read without running code).

    Raises:
        ModelError: it is no generator, damaged, or of another shape than it says; a NVIDIA ``.pkl``.
        TrustError: a file that would run code when it is read.
    """
    path = Path(path)
    if path.is_file() and path.name != DESCRIPTION:
        from .import_rosinality import load_foreign

        return load_foreign(path, device)
    folder = path.parent if path.name == DESCRIPTION else path
    if not folder.is_dir():
        raise ModelError(f"There is no generator at {path}.", REMEDY)
    files = FolderFiles(folder)
    if DESCRIPTION not in files:
        raise ModelError(f"{folder.name} is no generator: it has no file {DESCRIPTION}.", REMEDY)
    description = _read_description(files)
    generator, statistics = _read_generator(files, description)
    encoder = _read_encoder(files, description)
    names = [DESCRIPTION, GENERATOR_FILE, *([ENCODER_FILE] if encoder is not None else [])]
    space = LatentSpace(generator, encoder, statistics).to(torch.device(device))
    return StoredGenerator(space, description, files.digest(names), folder)


def _read_description(files: ModelFiles) -> GeneratorDescription:
    try:
        content = json.loads(files.text(DESCRIPTION))
    except ValueError as error:
        raise ModelError(f"{DESCRIPTION} of {files.name} is not JSON: {error}.", "Copy the folder again.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{DESCRIPTION} of {files.name} does not describe a generator of this kind.", REMEDY)
    if content.get("version") != 1:
        raise ModelError(
            f"{files.name} has version {content.get('version')} of the format; this SlicerXAI reads version 1.",
            "Update SlicerXAI.",
        )
    try:
        description = GeneratorDescription.model_validate(content)
    except ValidationError as error:
        raise ModelError(f"{DESCRIPTION} of {files.name}: {explain(error)}.", "Copy the file again.") from error
    low, high = description.window
    if not low < high:
        raise ModelError(f"The window {low:g} to {high:g} of {files.name} is empty.", "Correct it in generator.json.")
    return description


def _read_generator(files: ModelFiles, description: GeneratorDescription) -> tuple[Generator, LatentStatistics]:
    tensors = _checked_tensors(files, GENERATOR_FILE, description)
    generator = Generator(description.settings)
    weights = {key[len(_PREFIX) :]: value for key, value in tensors.items() if key.startswith(_PREFIX)}
    fill(generator, weights, GENERATOR_FILE, files.name)
    size = description.settings.latent_size + torch.Size(description.settings.code_shape).numel()
    found = {key: tensors.get(_LATENTS + key) for key in _STATISTICS}
    if any(value is None or len(value) != size for value in found.values()):
        raise ModelError(f"{GENERATOR_FILE} of {files.name} lacks the spread of its {size} latents.", REMEDY)
    return generator, LatentStatistics(**found)


def _read_encoder(files: ModelFiles, description: GeneratorDescription) -> Encoder | None:
    if description.encoder is None:
        return None
    encoder = Encoder(description.settings, description.encoder.width, description.encoder.maximum_width)
    fill(encoder, _checked_tensors(files, ENCODER_FILE, description), ENCODER_FILE, files.name)
    return encoder


def _checked_tensors(files: ModelFiles, name: str, description: GeneratorDescription) -> dict[str, torch.Tensor]:
    expected = description.sha256.get(name)
    if expected and hashlib.sha256(files.read(name)).hexdigest() != expected:
        raise ModelError(
            f"{name} of {files.name} is not the file that {DESCRIPTION} describes: it was changed or damaged.",
            "Copy the folder again from its origin.",
        )
    tensors = {key: value.float() for key, value in read_state(files, name).items()}
    for key, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"The weight {key} in {name} of {files.name} is not finite.", "Train it again.")
    return tensors
