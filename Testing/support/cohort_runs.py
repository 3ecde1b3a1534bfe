"""Runs of cases for tests of worker processes: the real one, but for cases whose name says what befalls them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from xaiengine.app.run import run_job
from xaiengine.core.job import Job, Result


def run_or_die(job: Job, session=None) -> Result:
    """The real run; the process of a case called "killed" ends at once, as if the system had ended it."""
    if "killed" in Path(job.output).name:
        os._exit(9)
    return run_job(job, session=session)


def run_slowly(job: Job, session=None) -> Result:
    """The real run after a second."""
    time.sleep(1.0)
    return run_job(job, session=session)


def run_nothing(job: Job, session=None) -> Result:
    """A finished result at once: for what the coordination itself takes."""
    return Result(status="finished", task=job.task, values={"number": len(job.output)})
