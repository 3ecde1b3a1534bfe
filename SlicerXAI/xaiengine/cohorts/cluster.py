"""Pools of worker processes: Dask on this machine, on a running scheduler, or through a batch system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import InputError, OptionError, ResourceError
from .plan import Work
from .running import lost
from .working import Outcome, RunJob, do_case

BATCH_SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}
TRIES = 2
"""A case whose worker ends is tried once more."""

AHEAD = 3
"""Cases per worker that are handed over at a time: enough to keep it busy, few enough to keep memory flat."""

CONNECT_SECONDS = 20.0


class DaskPool:
    """Hands cases to the workers of a Dask cluster. ``open_cluster`` gives the client's argument and its end."""

    def __init__(self, open_cluster: Callable[[], Any], say: Callable[[str], None] = lambda text: None) -> None:
        self._open = open_cluster
        self._say = say

    def __call__(self, work: Sequence[Work], run: RunJob) -> Iterator[tuple[Work, Outcome, int]]:
        if not work:
            return
        _need_dask()
        import logging

        import dask
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker

        # A worker that is ended with its case, or at the end, is no news: the case's record says what happened.
        for name in ("distributed.nanny", "distributed.scheduler", "distributed.worker", "distributed.core"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with dask.config.set({"distributed.scheduler.allowed-failures": TRIES - 1}):
            cluster = self._open()
            try:
                client = Client(cluster, timeout=CONNECT_SECONDS, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise ResourceError(
                    f"The scheduler {cluster} does not answer: {error}.",
                    "Check the address, and that 'dask scheduler' runs there.",
                ) from error
            try:
                if client.dashboard_link and isinstance(cluster, str):
                    self._say(f"Dask's dashboard: {client.dashboard_link}")
                pending = iter(enumerate(work))
                known: dict[str, Work] = {}
                completed = as_completed(loop=client.loop)

                def hand_over() -> None:
                    for number, item in pending:
                        future = client.submit(do_case, run, item.job.model_dump(), key=f"case-{number}", pure=False)
                        known[str(future.key)] = item
                        completed.add(future)
                        return

                for _ in range(max(AHEAD * _workers(client), AHEAD)):
                    hand_over()
                for future in completed:
                    item = known.pop(str(future.key))
                    hand_over()
                    try:
                        yield item, future.result(), 1
                    except KilledWorker:
                        yield (
                            item,
                            lost(f"The process ended at each of {TRIES} tries (killed, or out of memory)"),
                            TRIES,
                        )
                    except Exception as error:  # of the transport: what a user can cause is an outcome
                        yield item, lost(f"{type(error).__name__}: {error}"), 1
                    future.release()
            finally:
                with contextlib.suppress(Exception):
                    client.close(timeout=2)
                if hasattr(cluster, "close"):
                    with contextlib.suppress(Exception):
                        cluster.close(timeout=5)


def local_cluster(jobs: int, cards: Sequence[str] = (), memory_gb: float | None = None) -> Any:
    """Worker processes on this machine: ``jobs`` of them, or one for each graphics card."""
    _need_dask()
    import dask
    from distributed import LocalCluster, Nanny, Scheduler, SpecCluster

    threads = str(max(1, (os.cpu_count() or 1) // max(jobs, 1)))
    own = {name: threads for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    limit = "auto" if memory_gb is None else f"{memory_gb}GiB"
    with dask.config.set({"distributed.nanny.pre-spawn-environ": own, "distributed.worker.daemon": False}):
        if not cards:
            return LocalCluster(
                n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None, memory_limit=limit
            )
        workers = {
            number: {
                "cls": Nanny,
                "options": {"nthreads": 1, "env": {**own, "CUDA_VISIBLE_DEVICES": card}, "memory_limit": limit},
            }
            for number, card in enumerate(cards)
        }
        scheduler = {"cls": Scheduler, "options": {"dashboard": False, "port": 0}}
        return SpecCluster(scheduler=scheduler, workers=workers)


def batch_cluster(system: str, configuration: Path, jobs: int) -> Any:
    """Workers that a batch system starts; ``configuration`` is a YAML file of dask-jobqueue's own arguments.

    Raises:
        OptionError: the file holds what dask-jobqueue does not take.
    """
    from yaml import YAMLError, safe_load

    try:
        import dask_jobqueue
    except ImportError as error:
        raise ResourceError(
            "The package dask-jobqueue is not installed.", "Install it: pip install 'slicerxai[cohort]'."
        ) from error
    try:
        arguments = safe_load(configuration.read_text(encoding="utf-8")) or {}
        cluster = getattr(dask_jobqueue, BATCH_SYSTEMS[system])(**arguments)
    except (OSError, YAMLError, TypeError, ValueError) as error:
        raise OptionError(
            f"{configuration} does not describe {system} workers: {error}.",
            "It holds arguments of dask-jobqueue, such as queue, cores, memory, walltime.",
        ) from error
    cluster.scale(jobs=jobs)
    return cluster


def graphics_card_numbers() -> list[str]:
    """The numbers of NVIDIA cards, asked of the driver's own tool: torch is for the workers to import."""
    import shutil
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        answer = subprocess.run(
            [tool, "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [line.strip() for line in answer.stdout.splitlines() if line.strip().isdigit()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else [number for number in found if number in visible.split(",")]


def worker_count(cases: int, memory_needed: float | None, memory_free: int, cores: int) -> int:
    """As many workers as cases, cores and memory (bytes) allow, at least one."""
    fitting = cores if not memory_needed else int(memory_free // memory_needed)
    return max(1, min(cases, cores, fitting))


def part_of(text: str) -> tuple[int, int]:
    """``I/N`` as numbers. Raises InputError for anything else."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and int(second) > 0):
        raise InputError(f"--part is {text!r}; two numbers such as 2/8 were expected.", "Give --part I/N.")
    return int(first), int(second)


def _workers(client: Any) -> int:
    return max(1, len(client.scheduler_info(n_workers=-1).get("workers", {})))


def _need_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            "The package distributed (Dask) is not installed.",
            "Install it: pip install 'slicerxai[cohort]', or do one case after another with --jobs 1.",
        ) from error
