"""What a run over a cohort is to do: one job per case, and which of them are done already."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..core.errors import InputError, OptionError, XAIError
from ..core.job import RESULT_NAME, Job
from .case import Case, folder_name, listed
from .fingerprint import Fingerprints
from .record import CaseRecord, read_record

State = Literal["new", "kept", "changed", "again"]


@dataclass(frozen=True)
class CohortSettings:
    """What is the same for every case: the task, its model and options, and where results go."""

    task: str
    output: Path
    model: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    trust_model: bool = False
    methods_from: tuple[str, ...] = ()

    def job(self, case: Case) -> Job:
        """The job of one case; what the case itself says comes before what all share."""
        options = {**self.options, **case.options}
        model = str(options.pop("model", "") or self.model)
        return Job(
            task=self.task,
            model=model,
            inputs={**self.inputs, **case.inputs},
            options=options,
            device=self.device,
            seed=self.seed,
            trust_model=self.trust_model,
            methods_from=list(self.methods_from),
            output=str(self.folder(case)),
        )

    def folder(self, case: Case) -> Path:
        """The case's own folder."""
        return Path(self.output) / folder_name(case.name)


@dataclass(frozen=True)
class Work:
    """A case with its job, its digest, and why it is to be done (or kept)."""

    case: Case
    job: Job
    digest: str
    state: State
    record: CaseRecord | None
    files: dict[str, list[Any]]

    @property
    def folder(self) -> Path:
        return Path(self.job.output)


def plan_cohort(
    cases: Sequence[Case],
    settings: CohortSettings,
    *,
    validate: Callable[[Job], None] = lambda job: None,
    only_failed: bool = False,
    force: bool = False,
    part: tuple[int, int] | None = None,
) -> list[Work]:
    """One piece of work per case, in the order of the cases.

    A case whose result stands, made for the same digest of model, options and inputs, is kept; one whose digest has
    changed is done again. ``only_failed``: nothing but cases that an earlier run could not finish. ``part``: (i, n)
    takes every n-th case from the i-th (1..n), so that n parts have every case once.

    Raises:
        OptionError: options that do not fit; all cases' complaints in one error.
        InputError: the part is not one of 1..n.
    """
    if part is not None:
        number, count = part
        if not 1 <= number <= count:
            raise InputError(f"Part {number} of {count} does not exist.", "Give --part I/N with I from 1 to N.")
        cases = list(cases)[number - 1 :: count]
    jobs = [settings.job(case) for case in cases]
    _check_options(cases, jobs, validate)
    prints = Fingerprints()
    work = []
    for case, job in zip(cases, jobs):
        record = read_record(Path(job.output))
        prints.known = dict(record.files) if record else {}
        digest = prints.of(job)
        files = {path: known for path, known in prints.known.items() if _belongs(path, job)}
        work.append(Work(case, job, digest, _state(record, digest, job, force), record, files))
    if only_failed:
        work = [item for item in work if item.record is not None and item.record.status != "finished"]
    return work


def _belongs(path: str, job: Job) -> bool:
    given = [value for item in job.inputs.values() for value in (item if isinstance(item, list) else [item])]
    return any(Path(path).is_relative_to(Path(str(value)).resolve()) for value in given)


def _state(record: CaseRecord | None, digest: str, job: Job, force: bool) -> State:
    if record is None:
        return "new"
    if force or record.status != "finished" or not (Path(job.output) / RESULT_NAME).is_file():
        return "again"
    return "kept" if record.digest == digest else "changed"


def _check_options(cases: Sequence[Case], jobs: Sequence[Job], validate: Callable[[Job], None]) -> None:
    wrong: dict[str, list[str]] = {}
    checked: set[str] = set()
    remedy = ""
    for case, job in zip(cases, jobs):
        key = json.dumps([job.model, sorted(job.inputs), job.options], sort_keys=True, default=str)
        if key in checked:
            continue
        checked.add(key)
        try:
            validate(job)
        except XAIError as error:
            wrong.setdefault(error.message, []).append(case.name)
            remedy = remedy or error.remedy
    if wrong:
        complaints = " ".join(
            message if len(jobs) == len(names) or len(checked) == 1 else f"{listed(names, 3)}: {message}"
            for message, names in wrong.items()
        )
        raise OptionError(complaints, remedy)
