"""An explanation: a map in the patient's coordinates with everything needed to judge it and to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..inference.preprocessing import restore
from ..io.grid import Grid
from ..io.volume import Volume


@dataclass(frozen=True, eq=False)
class Explanation:
    """What a method says of one target of one scan.

    ``map`` is (I, J, K) float32 on ``grid``; ``unit`` is that of its values; ``signed`` maps hold evidence against
    the target below 0. ``extras`` are further maps on the same grid (variance, other layers). ``convergence`` are
    the figures that tell how far the map can be trusted, ``notes`` what a reader must know. ``provenance`` holds
    model digest, method, options, seed, device and seconds. ``row`` numbers the target of a segmentation, ``layer``
    is where the map was made (empty: at the input), ``channels`` (C, I, J, K) what each input channel holds of a map
    that is their sum.

    Raises InputError when the map does not fit its grid.
    """

    map: np.ndarray
    grid: Grid
    method: str
    title: str
    target: str
    unit: str = ""
    signed: bool = True
    convergence: Mapping[str, float] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    layer: str = ""
    row: int = 0
    channels: np.ndarray | None = None
    family: str = ""

    def __post_init__(self) -> None:
        for name, values in {"map": self.map, **self.extras}.items():
            if tuple(values.shape) != self.grid.shape:
                raise InputError(f"The {name} has the shape {values.shape}, its grid {self.grid.shape}.")

    @property
    def is_empty(self) -> bool:
        """Whether the map is zero everywhere: the method found nothing, which is said and not scaled up."""
        return not bool(np.any(self.map))

    @property
    def evidence(self) -> np.ndarray:
        """What speaks for the target: the map's positive part."""
        return np.maximum(self.map, 0)

    def on(self, grid: Grid) -> Explanation:
        """The explanation on another grid of the same patient, interpolated linearly, 0 outside its own.

        Values per voxel are scaled with the volume of the voxels, so that sums over a region stay.
        """
        if grid is self.grid:
            return self
        scale = grid.voxel_volume_ml / self.grid.voxel_volume_ml if self.is_amount else 1.0

        def moved(values: np.ndarray) -> np.ndarray:
            return (restore(values, self.grid, grid) * scale).astype(np.float32)

        extras = {name: moved(values) for name, values in self.extras.items()}
        return replace(self, map=moved(self.map), grid=grid, extras=extras, channels=None)

    @property
    def is_amount(self) -> bool:
        """Whether values are amounts per voxel, whose sum over a region means something."""
        return self.unit.endswith("voxel")

    def volume(self, name: str = "") -> Volume:
        return Volume(self.map, self.grid, name or self.title, self.unit)
