"""What belongs to the lungs but holds no air: vessels, masses at the pleura, consolidations."""

from __future__ import annotations

import numpy as np

from .morphology import closed
from .sides import LEFT, RIGHT
from .thorax import ChestAir
from .working_copy import WorkingCopy

VESSEL_CLOSING_MM = 12.0


def complete_lungs(copy: WorkingCopy, air: ChestAir, sides: np.ndarray) -> np.ndarray:
    """``sides`` (I, J, K) uint8 (1 right, 2 left) of the aerated lung, grown over what it surrounds."""
    complete = sides.copy()
    for side in (RIGHT, LEFT):
        grown = closed(sides == side, VESSEL_CLOSING_MM, copy.spacing)
        complete[grown & (complete == 0) & air.body & ~air.airways] = side
    return complete
