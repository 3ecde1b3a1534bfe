"""How many cases a machine can do at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..cohorts.cluster import DaskPool, local_cluster, worker_count
from ..cohorts.plan import Work
from ..cohorts.working import RunJob
from ..core.device import free_memory

WORKER_GB = 1.0
"""What a worker holds beside the case: torch, MONAI and the model."""


def jobs_that_fit(work: Sequence[Work], run: RunJob, log: Callable[[str], None] = lambda text: None) -> int:
    """As many workers as cores and free memory allow, by the estimate of the first case (made in a worker)."""
    first = work[0]
    asked = replace(first, job=first.job.model_copy(update={"only_estimate": True, "output": _aside(first)}))
    needed = None
    for _, outcome, _ in DaskPool(lambda: local_cluster(1))([asked], run):
        gigabytes = outcome.values.get("estimated_memory_gb") if outcome.status == "finished" else None
        needed = (float(gigabytes) + WORKER_GB) * 2**30 if gigabytes else None
    count = worker_count(len(work), needed, free_memory(), os.cpu_count() or 1)
    told = f", {needed / 2**30:.1f} GB each" if needed else ""
    log(f"{count} worker{'s' if count > 1 else ''}{told} (choose with --jobs).")
    return count


def _aside(item: Work) -> str:
    import tempfile

    return tempfile.mkdtemp(prefix="estimate-")
