"""Directions kept in a file, tied to the model and the generator that they belong to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...core.cache_folder import cache_folder
from ...core.errors import InputError
from ...io.tensor_file import write_tensors
from .directions import Direction

FORMAT = "slicerxai directions 1"
FILE_NAME = "directions.safetensors"


@dataclass(frozen=True, eq=False)
class DirectionSet:
    """Directions of one target of one model in one generator.

    ``values_mean`` and ``values_spread`` are mean and SD of the moved answers over the sampled latents.
    ``settings`` say how the directions were found.
    """

    directions: tuple[Direction, ...]
    model_digest: str
    generator_digest: str
    target: str
    values_mean: float
    values_spread: float
    settings: dict[str, Any]

    @property
    def values_range(self) -> tuple[float, float] | None:
        """Between which moved answers 98 % of the sampled images lie; None in files that do not say it."""
        found = self.settings.get("values_range")
        return None if found is None else (float(found[0]), float(found[1]))

    def save(self, path: Path) -> None:
        """Write as safetensors, whole or not at all; what is said of the directions is JSON in the file's header."""
        tensors = {f"direction_{number}": item.vector.float() for number, item in enumerate(self.directions)}
        write_tensors(path, tensors, {"format": FORMAT, "directions": json.dumps(self.described())})

    def described(self) -> dict[str, Any]:
        """Everything but the vectors, as JSON values."""
        return {
            "model": self.model_digest,
            "generator": self.generator_digest,
            "target": self.target,
            "values_mean": self.values_mean,
            "values_spread": self.values_spread,
            "settings": self.settings,
            "directions": [
                {
                    "name": item.name,
                    "method": item.method,
                    "space": item.space,
                    "slope": item.slope,
                    "intercept": item.intercept,
                    "sizes": list(item.sizes),
                    "leading": item.leading,
                    "figures": item.figures,
                }
                for item in self.directions
            ],
        }

    @classmethod
    def load(cls, path: Path) -> DirectionSet:
        """Read what :meth:`save` wrote. Raises InputError for any other file."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError("the header does not say that it holds directions")
                content = json.loads(metadata["directions"])
                vectors = [file.get_tensor(f"direction_{number}") for number in range(len(content["directions"]))]
            return cls._from(content, vectors)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} cannot be read as directions: {error}.", "Make it with the task find-directions."
            ) from error

    @classmethod
    def _from(cls, content: dict[str, Any], vectors: list[torch.Tensor]) -> DirectionSet:
        directions = tuple(
            Direction(
                item["name"],
                item["method"],
                item["space"],
                vector,
                float(item["slope"]),
                float(item["intercept"]),
                tuple(item["sizes"]),
                int(item["leading"]),
                item["figures"],
            )
            for item, vector in zip(content["directions"], vectors)
        )
        return cls(
            directions,
            content["model"],
            content["generator"],
            content["target"],
            float(content["values_mean"]),
            float(content["values_spread"]),
            content["settings"],
        )

    def check(self, model_digest: str, generator_digest: str, target: str, name: str = "The directions") -> None:
        """Refuse directions of another model, generator or target.

        Raises:
            InputError: naming which of them it is.
        """
        remedy = "Find directions for this model and generator with the task find-directions."
        for what, own, wanted in (
            ("model", self.model_digest, model_digest),
            ("generator", self.generator_digest, generator_digest),
        ):
            if own != wanted:
                raise InputError(
                    f"{name} belong to another {what} (SHA-256 {own[:12]}..., here {wanted[:12]}...).", remedy
                )
        if self.target != target:
            raise InputError(f"{name} are for the {self.target}, not for the {target}.", remedy)

    def chosen(self, wanted: str) -> Direction:
        """The direction of a name, number or method; the first if empty. Raises InputError naming those there are."""
        if not wanted:
            return self.directions[0]
        if wanted.isdigit() and int(wanted) < len(self.directions):
            return self.directions[int(wanted)]
        for item in self.directions:
            if wanted in (item.name, item.method):
                return item
        known = ", ".join(f"{number} {item.name}" for number, item in enumerate(self.directions))
        raise InputError(f"There is no direction {wanted!r}.", f"There are: {known}.")


def kept_path(model_digest: str, generator_digest: str, target: str, method: str, samples: int, seed: int) -> Path:
    """The file in the user's cache for directions found in this way, whether it exists or not."""
    words = "".join(letter if letter.isalnum() else "_" for letter in f"{target}-{method}")
    name = f"{model_digest[:16]}-{generator_digest[:16]}-{words}-{samples}-{seed}.safetensors"
    return cache_folder() / "directions" / name
