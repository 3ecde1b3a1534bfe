"""Runs one job: from options to ``result.json``, whatever happens on the way."""

from __future__ import annotations

import platform
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..attribution.registry import load_methods
from ..core.device import memory_problem
from ..core.errors import InputError, OptionError, XAIError
from ..core.job import ErrorReport, Job, Result, explain, plain
from ..core.output import OutputFolder, disk_problem
from ..core.progress import Progress
from ..core.torch_problem import torch_problem
from ..core.version import engine_version
from ..models.session import Session
from ..tasks import Context, Outcome, Task, find_task
from ..tasks.task import EnoughKnown, Expected
from .early_checks import check_early

VERSIONED = ("torch", "monai", "captum", "numpy", "scipy")


def run_job(
    job: Job,
    progress: Progress | None = None,
    session: Session | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Result:
    """Do a job and return its result, which also lies in the output folder as ``result.json``.

    Never raises for what a user can cause: the result then has status ``failed`` (or ``cancelled``) and the
    error with its remedy, and the output folder holds no artifact of this run.
    """
    output: OutputFolder | None = None
    context: Context | None = None
    try:
        output = OutputFolder(Path(job.output), _input_files(job))
        for path in job.methods_from:
            load_methods(path, job.trust_model)
        task = find_task(job.task)
        options = task_options(task, job)
        check_early(options, job.device, models=session is None)
        task.check(options)
        context = Context(
            output=output,
            device=_device(job.device),
            seed=job.seed,
            session=session or Session(),
            progress=progress or Progress(),
            log=log,
            trust_model=job.trust_model,
            only_estimate=job.only_estimate,
        )
        started = datetime.now(timezone.utc)
        clock = time.perf_counter()
        with quiet_libraries():
            outcome = _outcome(task, options, context)
        context.progress.check()
        result = Result(
            status="finished",
            task=job.task,
            warnings=context.warnings,
            values=plain(outcome.values),
            artifacts=output.artifacts,
            provenance=_provenance(job, options, context, outcome, started, time.perf_counter() - clock),
        )
        output.publish(result)
        context.progress.finish()
        return result
    except Exception as error:
        return _failure(job, error, output, context)
    except BaseException:  # the user ended the program: nothing half-written stays
        if output is not None:
            output.discard()
        raise


def _outcome(task: Task, options: Any, context: Context) -> Outcome:
    """What the task returns, or, where only that is wanted, what it says that it takes."""
    if context.only_estimate and not task.estimates:
        return Outcome(values=Expected(f"What '{task.title}' takes is not known before it runs.").values())
    try:
        outcome = task.run(options, context)
    except EnoughKnown as enough:
        return Outcome(values=enough.expected.values())
    if context.only_estimate:  # it was done before it knew
        context.output.artifacts.clear()
        return Outcome(values=Expected(f"{task.title} takes little.").values())
    return outcome


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """What libraries say to their developers is not for the users of this program."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", module=r"(monai|torch|captum)\.")
        yield


def task_options(task: Task, job: Job) -> Any:
    """The task's validated options. Raises OptionError with every field that is wrong."""
    content = {**job.inputs, **job.options}
    if job.model:
        content["model"] = job.model
    known = task.Options.model_fields
    if "model" not in known:
        content.pop("model", None)
    try:
        return task.Options.model_validate(content)
    except ValidationError as error:
        raise OptionError(
            f"The options of {task.name} do not fit: {explain(error)}.",
            f"It takes {', '.join(known)}.",
        ) from error


def _device(name: str):
    from ..core.device import choose_device

    return choose_device(name)


def _provenance(
    job: Job, options: Any, context: Context, outcome: Outcome, started: datetime, seconds: float
) -> dict[str, Any]:
    """Everything that is needed to make the result again."""
    content = {
        "task": job.task,
        "job": job.model_dump(mode="json"),
        "options": options.model_dump(mode="json"),
        "seed": job.seed,
        "device": str(context.device),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "versions": {"xaiengine": engine_version(), "python": platform.python_version(), **_versions()},
        **outcome.provenance,
    }
    return plain(content)


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _failure(job: Job, error: Exception, output: OutputFolder | None, context: Context | None) -> Result:
    known = _known(error)
    result = Result(
        status="cancelled" if known.kind == "cancelled" else "failed",
        task=job.task,
        warnings=context.warnings if context else [],
        error=ErrorReport(
            kind=known.kind,
            message=known.message,
            remedy=known.remedy,
            details="" if known is error else "".join(traceback.format_exception(error)),
        ),
    )
    if output is not None:
        output.fail(result)  # where the disk is full or gone, the exit code and the printed error remain
    return result


def _input_files(job: Job) -> list[Path]:
    """Everything that the job names and that is a file: none of it may be overwritten."""
    found = []
    pending = [job.model, *job.inputs.values(), *job.options.values()]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and value and len(value) < 4096 and "\0" not in value:
            try:
                if Path(value).is_file():
                    found.append(Path(value))
            except OSError:
                continue
    return found


def _known(error: Exception) -> XAIError:
    """Unforeseen errors get a message and a remedy too; their traceback goes to the details."""
    if isinstance(error, XAIError):
        return error
    if (problem := torch_problem(error)) is not None:
        return problem
    if (shortage := memory_problem(error)) is not None:
        return shortage
    if isinstance(error, OSError) and (full := disk_problem(error)) is not None:
        return full
    if isinstance(error, FileNotFoundError):
        return InputError(f"A file is missing: {error}.", "Check the path.")
    return XAIError(
        f"Something failed that should not have: {type(error).__name__}: {error}.",
        "Please report it with the details in result.json.",
    )
