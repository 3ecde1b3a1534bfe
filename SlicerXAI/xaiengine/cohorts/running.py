"""Does the work of a cohort, on this machine or on a cluster, and keeps a record of each case as it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import InputError
from ..core.folder_lock import LOCK_NAME, FolderLock
from .plan import Work
from .record import CaseRecord, write_record
from .working import Outcome, RunJob, do_case

LOST_REMEDY = (
    "Look at its scan; give the case more memory (--jobs with a smaller number, or a smaller --memory of the task), "
    "then run the same command with --only-failed."
)

Done = Callable[[Work, CaseRecord], None]
Pool = Callable[[Sequence[Work], RunJob], Iterator[tuple[Work, Outcome, int]]]
"""Does work in any order, and yields it with its outcome and the number of tries."""


@dataclass(frozen=True)
class CohortRun:
    """``records`` in the order of the work; ``cancelled``: the user ended it before all was done."""

    records: tuple[CaseRecord, ...]
    cancelled: bool = False


def run_cohort(work: Sequence[Work], run: RunJob, pool: Pool, done: Done = lambda work, record: None) -> CohortRun:
    """Do what is not kept. A case that fails is a record with its reason; the others go on.

    ``done`` is called for every case as it ends, kept ones first. On Ctrl-C the records so far are returned, and
    the next run continues.
    """
    records: dict[str, CaseRecord] = {}
    for item in work:
        if item.state == "kept" and item.record is not None:
            records[item.case.name] = item.record
            done(item, item.record)
    wanted = [item for item in work if item.state != "kept"]
    cancelled = False
    try:
        for item, outcome, attempts in pool(wanted, run):
            record = _record(item, outcome, attempts)
            write_record(item.folder, record)
            records[item.case.name] = record
            done(item, record)
    except KeyboardInterrupt:
        cancelled = True
    return CohortRun(tuple(records[item.case.name] for item in work if item.case.name in records), cancelled)


def one_after_another(work: Sequence[Work], run: RunJob) -> Iterator[tuple[Work, Outcome, int]]:
    """The pool of a single process: this one."""
    for item in work:
        yield item, do_case(run, item.job.model_dump()), 1


def lost(reason: str, seconds: float = 0.0) -> Outcome:
    """The outcome of a case whose process ended."""
    return Outcome("lost", seconds, {}, reason, LOST_REMEDY)


def _record(item: Work, outcome: Outcome, attempts: int) -> CaseRecord:
    return CaseRecord.model_validate(
        {
            "case": item.case.name,
            "status": outcome.status,
            "digest": item.digest,
            "seconds": round(outcome.seconds, 3),
            "attempts": attempts,
            "reason": outcome.reason,
            "remedy": outcome.remedy,
            "warnings": list(outcome.warnings),
            "values": dict(outcome.values),
            "files": item.files,
        }
    )


@contextlib.contextmanager
def cohort_lock(output: Path, part: tuple[int, int] | None = None) -> Iterator[None]:
    """The output folder belongs to one run within the block; parts of one run share it, each part once.

    Raises:
        InputError: another run has it.
    """
    folder = output / ".parts" / f"{part[0]}-of-{part[1]}" if part else output
    folder.mkdir(parents=True, exist_ok=True)
    if part and (output / LOCK_NAME).exists():
        FolderLock(output).release()  # raises where a run over the whole cohort holds it
    for other in [] if part else sorted((output / ".parts").glob(f"*/{LOCK_NAME}")):
        FolderLock(other.parent).release()
    lock = FolderLock(folder)
    try:
        yield
    finally:
        lock.release()


def check_places(source: Path, output: Path) -> None:
    """Refuse to write results into the folder of the scans: a later run would take them for scans.

    Raises:
        InputError: the output lies inside the source, or is a file.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file, not a folder.", "Name a folder for the results.")
    inside = source.is_dir() and output.resolve().is_relative_to(source.resolve())
    if inside and "derivatives" not in output.resolve().relative_to(source.resolve()).parts:
        raise InputError(
            f"The output {output} lies inside the folder of the scans {source}.", "Choose a folder beside it."
        )


class Pace:
    """How long the rest will take, from the cases that were done."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock, self._start = total, clock, clock()
        self.done = 0

    def step(self) -> float | None:
        """One more case is done; returns the seconds left."""
        self.done += 1
        spent = self._clock() - self._start
        return spent / self.done * (self._total - self.done) if self._total > self.done else 0.0
