"""What the tasks of counterfactual images start from: generator, model, place of the images, and the target."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..core.errors import ModelError
from ..models.catalogue import model_folders
from ..models.explained_model import ExplainedModel
from .generator.checkpoint import DESCRIPTION, StoredGenerator
from .generator.latent_geometry import LatentGeometry
from .generator.loading import load_generator
from .generator.realism import Domain, own_domain
from .series.slice_replacement import SliceFrame, blank_frame, slice_frame
from .training.joint import SCORE_SCALE

if TYPE_CHECKING:
    from ..io.volume import Volume
    from .scalar_output import Answer

SUBFOLDER = "generator"
DOMAIN_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class Setting:
    """A generator as the tasks use it."""

    stored: StoredGenerator
    geometry: LatentGeometry

    @property
    def space(self):
        return self.stored.space

    @property
    def name(self) -> str:
        return self.stored.description.name or self.stored.source.name

    @property
    def digest(self) -> str:
        return self.stored.digest

    @property
    def window(self) -> tuple[float, float]:
        return self.stored.description.window

    @property
    def plane(self) -> str:
        return self.stored.description.plane or "axial"

    @property
    def pixel(self) -> tuple[float, float] | None:
        spacing = self.stored.description.spacing
        return spacing if min(spacing) > 0 else None

    @property
    def unit(self) -> float:
        """The scan's unit per unit of the generator's images."""
        return (self.window[1] - self.window[0]) / 2

    @property
    def domain(self) -> Domain:
        """As the training measured it on held-out images, else measured on generated ones."""
        known = self.stored.description.training.get("domain")
        if isinstance(known, dict) and {"l1", "distance"} <= known.keys():
            return Domain(float(known["l1"]), float(known["distance"]), "held-out images")
        return own_domain(self.space, self.geometry, self.space.sample(DOMAIN_SAMPLES, seed=1))

    def score_latents(self, model: ExplainedModel, answer: Answer, values: torch.Tensor) -> torch.Tensor | None:
        """What the first latent is for images to which the model gives the moved answers ``values`` (n,).

        None where that latent carries nothing, or the answer of another model or target.
        """
        known = self.stored.description
        if self.space.encoder is None or (known.explained_model, known.target) != (model.digest, answer.name):
            return None
        return (values - known.score_mean) / known.score_deviation / SCORE_SCALE

    def moving(self, subspace: str) -> int:
        """How many latents, from the first on, a direction may move; 0 for all of them."""
        style_only = subspace == "style" or (subspace == "auto" and self.space.settings.code_channels > 0)
        return self.space.settings.latent_size if style_only else 0

    def blank_frame(self) -> SliceFrame:
        """The place of generated images, without a scan."""
        settings = self.space.settings
        return blank_frame(settings.size, settings.channels, self.plane, self.window, self.pixel)

    def frame(self, scan: Volume, index: int | None) -> SliceFrame:
        """The place of one slice of a scan. Raises OptionError or InputError, see :func:`slice_frame`."""
        size = self.space.settings.size
        return slice_frame(scan, plane=self.plane, index=index, size=size, window=self.window, pixel=self.pixel)

    def examples(self) -> torch.Tensor:
        """Two generated images (2, C, S, S)."""
        with torch.no_grad():
            return self.space.decode(self.space.sample(2, seed=0))


def load_setting(name: str, device: torch.device) -> Setting:
    """The generator of a folder or a shipped name on a device. Raises ModelError, see :func:`load_generator`."""
    stored = load_generator(generator_path(name), device)
    return Setting(stored, LatentGeometry.of(stored.space))


def generator_path(name: str) -> Path:
    """The path of a generator given by its path or by the name of a shipped one.

    Raises:
        ModelError: there is none; near names are offered.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path / SUBFOLDER if (path / SUBFOLDER / DESCRIPTION).is_file() else path
    shipped = {
        item.parent.parent.name if item.parent.name == SUBFOLDER else item.parent.name: item.parent
        for folder in model_folders()
        for pattern in (f"*/{DESCRIPTION}", f"*/{SUBFOLDER}/{DESCRIPTION}")
        for item in sorted(folder.glob(pattern))
    }
    if name in shipped:
        return shipped[name]
    near = difflib.get_close_matches(name, shipped, 3, 0.4)
    raise ModelError(
        f"There is no generator {name!r}: no such file or folder, and none of this name is shipped.",
        f"Did you mean {', '.join(near)}?" if near else "Train one with the task train-generator.",
    )


def check_channels(setting: Setting, model: ExplainedModel) -> None:
    """Refuse a model whose images have other channels than the generator's. Raises ModelError."""
    channels = setting.space.settings.channels
    if model.in_channels != channels:
        raise ModelError(
            f"The model {model.name} takes {model.in_channels} channels, the generator {setting.name} makes images of "
            f"{channels}.",
            "Choose a generator that was trained on the model's kind of images.",
        )
