"""Which values of a scan are drawn black and white: windows of radiology for CT, the middle values for others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.errors import OptionError
from ..io.volume import Volume

MOST_SAMPLES = 400_000


@dataclass(frozen=True)
class GrayWindow:
    """``low`` and ``high`` in the scan's unit; ``name`` is said in the picture, empty for a window by quantiles."""

    low: float
    high: float
    name: str = ""

    @property
    def text(self) -> str:
        level, width = (self.low + self.high) / 2, self.high - self.low
        return f"{self.name} window, level {level:g}, width {width:g} HU" if self.name else ""


LUNG = GrayWindow(-1150.0, 350.0, "lung")
SOFT_TISSUE = GrayWindow(-160.0, 240.0, "soft tissue")
BRAIN = GrayWindow(0.0, 80.0, "brain")
BONE = GrayWindow(-450.0, 1050.0, "bone")
WINDOWS = {"lung": LUNG, "soft_tissue": SOFT_TISSUE, "brain": BRAIN, "bone": BONE}


def gray_window(volume: Volume, name: str = "auto") -> GrayWindow:
    """The window of a name, or for ``auto`` the one that fits what the scan holds.

    A CT (values in HU) with air-filled lungs gets the lung window, a head the brain window, another one that of soft
    tissue; anything else spans from its 1st to its 99.5th percentile. Raises OptionError for an unknown name.
    """
    if name != "auto":
        if name not in WINDOWS:
            raise OptionError(f"There is no window called {name!r}.", f"Choose from auto, {', '.join(WINDOWS)}.")
        return WINDOWS[name]
    values = volume.channels_first()[0].reshape(-1)
    values = values[:: max(1, values.size // MOST_SAMPLES)].astype(np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return GrayWindow(0.0, 1.0)
    if is_ct(volume, values):
        return _ct_window(values)
    low, high = (float(value) for value in np.percentile(values, (1, 99.5)))
    if not high > low:
        low, high = float(values.min()), float(values.max())
    return GrayWindow(low, high if high > low else low + 1.0)


def is_ct(volume: Volume, values: np.ndarray) -> bool:
    """Whether values are Hounsfield units: the file says so, or air and tissue lie where they lie in HU."""
    if volume.unit:
        return volume.unit.upper() in ("HU", "HOUNSFIELD", "HOUNSFIELD UNIT", "[HNSF'U]")
    air = np.mean((values >= -1100) & (values <= -900))
    tissue = np.mean((values > -200) & (values < 200))
    return bool(values.min() < -900 and air > 0.02 and tissue > 0.05 and values.max() > 100)


def _ct_window(values: np.ndarray) -> GrayWindow:
    body = max(1, int(np.count_nonzero((values > -200) & (values < 2000))))
    lung = np.count_nonzero((values > -950) & (values < -600)) / body
    if lung > 0.08:
        return LUNG
    fat = np.count_nonzero((values > -130) & (values < -60)) / body
    gray_matter = np.count_nonzero((values > 10) & (values < 60)) / body
    bone = np.count_nonzero(values > 600) / body
    return BRAIN if gray_matter > 0.4 and fat < 0.08 and bone > 0.04 else SOFT_TISSUE
