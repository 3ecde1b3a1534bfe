"""Which slices are explained: those that the model calls lesion with enough conviction, over enough of the patient.

A lesion is a thing in space: it shows in neighboring slices. A slice counts when it belongs to a run of slices that
each reach the lower probability, whose best slice reaches the upper one, and that together are thick enough. The surer
the best slice, the thinner the run may be: a nodule in a single slice of 3 mm counts where the model is sure of it.
"""

from __future__ import annotations

import numpy as np


def gated_slices(
    probability: np.ndarray, slice_step_mm: float, *, lower: float, upper: float, extent_mm: float
) -> np.ndarray:
    """Numbers of the slices that pass, ascending.

    ``probability`` (n,) of the target for each slice; ``slice_step_mm`` between neighbors. A run of k slices is
    k times that thick. A run whose best slice just reaches ``upper`` has to be ``extent_mm`` thick; towards certainty
    the thickness asked for falls linearly to 0. With ``upper <= lower`` and ``extent_mm`` 0 this is a plain threshold.
    """
    above = probability >= lower
    edges = np.flatnonzero(np.diff(np.r_[False, above, False].astype(np.int8)))
    kept = [
        np.arange(start, end)
        for start, end in zip(edges[::2], edges[1::2])
        if (best := float(probability[start:end].max())) >= upper
        and (end - start) * slice_step_mm >= extent_mm * min(1.0, (1.0 - best) / max(1.0 - upper, 1e-9))
    ]
    return np.concatenate(kept) if kept else np.empty(0, int)
