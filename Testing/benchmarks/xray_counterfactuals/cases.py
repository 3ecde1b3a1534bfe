"""Held-out X-rays with planted consolidations, whose extent is measured without the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import planting
import torch
from cohort import read_held_out
from scipy import ndimage
from xaiengine.counterfactual.series.similarity import inside_mean

HELD_OUT = Path(__file__).resolve().parents[2] / "data" / "chest_xray_held_out.npz"
SOFT_TISSUE_PERCENTILE = 70


@dataclass(frozen=True, eq=False)
class Cases:
    """Images (n, 1, I, J) in -1..1; ``clean`` without the planted consolidation; masks (n, I, J) and lung fields."""

    images: torch.Tensor
    clean: torch.Tensor
    planted: torch.Tensor
    lungs: torch.Tensor
    tissue: torch.Tensor

    @property
    def has_lesion(self) -> torch.Tensor:
        return self.planted.flatten(1).any(1)

    def extent(self, images: torch.Tensor, where: torch.Tensor | None = None) -> torch.Tensor:
        """Opacified share (n,) of the lungs (or of masks): how far pixels were pulled toward soft tissue."""
        where = self.lungs if where is None else where
        room = (self.tissue[:, None, None] - self.clean[:, 0]).clamp_min(0.1)
        pulled = ((images[:, 0] - self.clean[:, 0]) / room).clamp(0, 1)
        return inside_mean(pulled, where)


def held_out_cases(count: int) -> Cases:
    cohort = read_held_out(HELD_OUT)
    fields = [planting.lung_fields(image / 255.0) for image in cohort.clean[:count]]
    bright = [
        np.percentile(ndimage.gaussian_filter(image / 255.0, 1.2)[15:50, 27:37], SOFT_TISSUE_PERCENTILE)
        for image in cohort.clean[:count]
    ]

    def turned(values: np.ndarray) -> torch.Tensor:  # pictures are stored by rows, images are (I, J)
        return torch.from_numpy(np.ascontiguousarray(values[:count].transpose(0, 2, 1)))

    return Cases(
        images=turned(cohort.images).float()[:, None] / 127.5 - 1,
        clean=turned(cohort.clean).float()[:, None] / 127.5 - 1,
        planted=turned(cohort.opacity) > 25,
        lungs=torch.from_numpy(np.stack([field.any(0).T for field in fields])),
        tissue=torch.tensor(bright).float() * 2 - 1,
    )
