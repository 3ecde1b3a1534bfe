"""Training images in memory, and their order: the same for the same seed, whenever a training is resumed."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch


class TrainingImages:
    """Images (N, C, S, S): uint8 (0..255 stands for -1..1), or float16 in [-1, 1]."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    @property
    def channels(self) -> int:
        return int(self.images.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels."""
        return hashlib.sha256(self.images.contiguous().numpy().tobytes()).hexdigest()

    def chosen(self, numbers: np.ndarray | slice) -> torch.Tensor:
        """Images by number, float32 in [-1, 1]."""
        found = self.images[numbers if isinstance(numbers, slice) else torch.from_numpy(numbers)]
        return found.float() / 127.5 - 1 if found.dtype == torch.uint8 else found.float()

    def batch(self, step: int, size: int, seed: int) -> torch.Tensor:
        """The images of a step: each is seen once in every epoch, in an order drawn for the epoch."""
        first = step * size
        numbers = [self._at(position, seed) for position in range(first, first + size)]
        return self.chosen(np.array(numbers))

    def _at(self, position: int, seed: int) -> int:
        epoch, place = divmod(position, len(self.images))
        return int(_order(seed, epoch, len(self.images))[place])


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)
