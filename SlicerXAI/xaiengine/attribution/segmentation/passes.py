"""Window passes that methods take, counted before they run."""

from __future__ import annotations

import math

from ..bottleneck.settings import BottleneckSettings
from ..perturbation import positions, touches
from .explaining import FIRST_STEPS, Explaining
from .method_list import Method

USUAL_BOTTLENECK_STEPS = 30
USUAL_CHANNELS = 64


def count_passes(job: Explaining, method: Method) -> tuple[int, int]:
    """Forward and backward passes of single windows that a method takes, as far as can be known beforehand."""
    windows, settings, count = len(job.touched), job.settings, len(job.targets)
    split = any(not target.linear for target in job.targets) and windows > job.scan.windows.batch_size
    once = windows * (2 if split else 1)
    if method.name in ("saliency", "input-x-gradient"):
        return once + (windows if method.name == "input-x-gradient" else 0), windows
    if method.name == "integrated-gradients":
        steps = settings.steps or FIRST_STEPS
        return steps * once + windows, steps * windows
    if method.family == "gradient":
        return settings.samples * once * count, settings.samples * windows * count
    if method.family == "modified-gradient":
        return 4 * windows * count, 2 * windows * count
    if method.name == "occlusion":
        return _occlusion_passes(job), 0
    if method.name == "rise":
        return settings.masks * windows, 0
    if method.family == "regions":
        coalitions = settings.regions + 3 if method.name == "feature-ablation" else settings.coalitions + 3
        return coalitions * windows, 0
    if method.name == "score-cam":
        return once + USUAL_CHANNELS * windows, windows
    if method.captum:
        steps = settings.steps or FIRST_STEPS
        return (steps + 3) * windows * count * len(job.layers), steps * windows * count * len(job.layers)
    if method.family == "bottleneck":
        published = BottleneckSettings().steps
        steps = published if settings.schedule == "reference" else USUAL_BOTTLENECK_STEPS
        passes = BottleneckSettings().copies * steps * windows * count
        return passes + 2 * windows, passes
    return once, windows


def _occlusion_passes(job: Explaining) -> int:
    """By hand: the windows that each block and a target touch. Half of it where only a part is refined."""
    block, stride = job.block
    starts = [start for start in positions(job.scan.grid.shape, block, stride) if touches(job.roi, start, block)]
    boxes = (tuple(slice(a, a + n) for a, n in zip(start, block)) for start in starts)
    total = sum(len(job.cached.windows_changed_in(box)) for box in boxes)
    return total if job.settings.coarse_to_fine <= 0 else math.ceil(total * (job.settings.coarse_to_fine + 1 / 16))
