"""One case, done in this process: the function that workers run. Light to import."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.job import Job, Result

if TYPE_CHECKING:
    from ..models.session import Session

RunJob = Callable[..., Result]
"""``run_job`` of the application: (job, session=...) -> Result. Handed in, because it lies in a layer above."""

_sessions: list[Session] = []


@dataclass(frozen=True)
class Outcome:
    """What came of a case; small, because it travels between processes."""

    status: str
    seconds: float
    values: Mapping[str, Any]
    reason: str = ""
    remedy: str = ""
    warnings: tuple[str, ...] = ()


def do_case(run: RunJob, job: Mapping[str, Any]) -> Outcome:
    """Do a job with this process's warm models. Never raises for what a user can cause: the outcome says it."""
    from ..models.session import Session

    if not _sessions:
        _sessions.append(Session())
    start = time.perf_counter()
    result = run(Job.model_validate(dict(job)), session=_sessions[0])
    error = result.error
    return Outcome(
        result.status,
        time.perf_counter() - start,
        result.values,
        error.message if error else "",
        error.remedy if error else "",
        tuple(result.warnings),
    )
