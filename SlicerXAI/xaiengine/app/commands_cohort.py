"""Shell command ``cohort`` and its twin in Python: one task over many scans."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cohorts.bids import derivative_folder, is_bids, write_description
from ..cohorts.cluster import BATCH_SYSTEMS, DaskPool, batch_cluster, graphics_card_numbers, local_cluster, part_of
from ..cohorts.plan import CohortSettings, Work, plan_cohort
from ..cohorts.record import CaseRecord
from ..cohorts.running import Pace, Pool, check_places, cohort_lock, one_after_another, run_cohort
from ..cohorts.sources import find_cases, first_input
from ..core.console import duration, say
from ..core.errors import InputError, OptionError
from ..core.job import Job
from ..tasks import find_task
from .cohort_size import jobs_that_fit
from .describe import option_fields
from .task_arguments import task_argument


@dataclass(frozen=True)
class Cohort:
    """What came of a run over a cohort: a row per case, as in ``cohort.csv``; ``cancelled`` after Ctrl-C."""

    output: Path
    rows: list[dict[str, Any]]
    cancelled: bool = False
    findings: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of cases that are not finished."""
        return [row for row in self.rows if row["status"] != "finished"]


def cohort(
    task: str,
    cases: str | Path,
    output: str | Path,
    *,
    model: str = "",
    jobs: int | None = 1,
    only_failed: bool = False,
    force: bool = False,
    part: tuple[int, int] | None = None,
    scheduler: str = "",
    batch: tuple[str, str | Path] | None = None,
    modality: str = "",
    group: str = "",
    agreement: tuple[str, str] | None = None,
    atlas: str = "",
    device: str = "auto",
    seed: int = 0,
    trust_model: bool = False,
    methods_from: Sequence[str] = (),
    progress: Callable[[Mapping[str, Any]], None] = lambda event: None,
    log: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Cohort:
    """Run one task over every scan of a folder, a manifest, or a BIDS data set.

    Args:
        task: name of a task that takes one scan, such as ``"explain-prediction"``.
        cases: the folder, or a CSV, TSV or JSON manifest with the columns ``case``, the task's inputs and options;
            other columns are covariates.
        output: folder of results; each case has a folder in it. A run into the same folder continues: cases whose
            model, options and input are unchanged are kept.
        jobs: worker processes; 1 works in this process, None takes as many as cores and memory allow. More than one
            needs the package ``distributed``, and a script that calls this under ``if __name__ == "__main__":``.
        only_failed, force: only cases that an earlier run could not finish; all cases again.
        part: (i, n) does every n-th case from the i-th, for array jobs.
        scheduler: address of a running Dask scheduler. ``batch``: ("slurm" | "pbs" | "lsf" | "sge", YAML file).
        group: covariate whose groups are compared. ``agreement``: (value, covariate) to be compared.
        progress: receives ``{"event": "case", "case", "status", "done", "total", "seconds_left"}``.
        options: the task's options, the same for every case.

    Raises:
        InputError, OptionError: what is wrong with the source or the options, before anything runs.
    """
    from ..cohorts.study import write_study

    chosen = find_task(task)
    source, folder = Path(cases).expanduser(), Path(output).expanduser()
    check_places(source, folder)
    found = find_cases(source, chosen.Options, modality=modality, say=log)
    inputs = {item.name for item in option_fields(chosen.Options) if item.role == "input" and item.kind != "model"}
    settings = CohortSettings(
        task=task,
        output=folder,
        model=model,
        inputs={key: value for key, value in options.items() if key in inputs},
        options={key: value for key, value in options.items() if key not in inputs},
        device=device,
        seed=seed,
        trust_model=trust_model,
        methods_from=tuple(methods_from),
    )
    with cohort_lock(folder, part):
        everything = plan_cohort(found, settings, validate=_validate, force=force)
        work = everything if part is None else everything[_checked(part)[0] - 1 :: part[1]]
        if only_failed:
            work = [item for item in work if item.record is not None and item.record.status != "finished"]
        _say_plan(work, log)
        if is_bids(source):
            write_description(folder)
        wanted = sum(item.state != "kept" for item in work)
        pool = _pool(work, jobs, scheduler, batch, log)
        pace = Pace(wanted)

        def done(item: Work, record: CaseRecord) -> None:
            if item.state == "kept":
                return
            left = pace.step()
            event = {"event": "case", "case": record.case, "status": record.status, "done": pace.done}
            progress({**event, "total": wanted, "seconds_left": left, "reason": record.reason})

        ran = run_cohort(work, _run_job(), pool, done)
        records = {record.case: record for record in ran.records}
        for item in everything:
            if item.case.name not in records and item.record is not None and item not in work:
                records[item.case.name] = item.record
        rows, findings = write_study(
            folder, settings, everything, records, group=group, agreement=agreement, atlas=atlas, warn=log
        )
    return Cohort(folder, rows, ran.cancelled, findings)


def _run_job() -> Callable:
    from .run import run_job

    return run_job


def _validate(job: Job) -> None:
    from .early_checks import check_early
    from .run import task_options

    task = find_task(job.task)
    options = task_options(task, job)
    task.check(options)
    check_early(options, job.device)


def _checked(part: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= part[0] <= part[1]:
        raise InputError(f"Part {part[0]} of {part[1]} does not exist.", "Give --part I/N with I from 1 to N.")
    return part


def _say_plan(work: Sequence[Work], log: Callable[[str], None]) -> None:
    words = {"new": "new", "kept": "kept from before", "changed": "changed since, done again", "again": "tried again"}
    counts = {state: sum(item.state == state for item in work) for state in words}
    log(
        f"{len(work)} cases: " + (", ".join(f"{n} {words[state]}" for state, n in counts.items() if n) or "none") + "."
    )


def _pool(
    work: Sequence[Work],
    jobs: int | None,
    scheduler: str,
    batch: tuple[str, str | Path] | None,
    log: Callable[[str], None],
) -> Pool:
    wanted = [item for item in work if item.state != "kept"]
    if scheduler:
        return DaskPool(lambda: scheduler, log)
    if batch:
        return DaskPool(lambda: batch_cluster(batch[0], Path(batch[1]), jobs or len(wanted)), log)
    if jobs == 1 or len(wanted) < 2:
        return one_after_another
    cards = graphics_card_numbers() if work[0].job.device in ("auto", "cuda") else []
    if cards:
        cards = cards[: jobs or len(cards)]
        return DaskPool(lambda: local_cluster(len(cards), cards), log)
    count = min(jobs, len(wanted)) if jobs else jobs_that_fit(wanted, _run_job(), log)
    return one_after_another if count == 1 else DaskPool(lambda: local_cluster(count), log)


def cohort_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine cohort TASK --cases SOURCE --output OUT``: one task over many scans."""
    arguments = list(arguments or [])
    parser = cohort_parser(arguments[0] if arguments and not arguments[0].startswith("-") else "")
    chosen = vars(parser.parse_args(arguments))
    json_progress = chosen.pop("json_progress")
    batch = next(((name, chosen[name]) for name in BATCH_SYSTEMS if chosen.get(name)), None)
    for name in BATCH_SYSTEMS:
        chosen.pop(name)
    chosen["batch"] = batch
    chosen["part"] = part_of(chosen["part"]) if chosen["part"] else None
    from ..cohorts.statistics import agreement_columns

    chosen["agreement"] = agreement_columns(chosen["agreement"]) if chosen["agreement"] else None
    source = Path(chosen["cases"]).expanduser()
    if not chosen["output"]:
        if not (source.is_dir() and is_bids(source)):
            raise OptionError("No output folder was given.", "Give one with --output.")
        chosen["output"] = str(derivative_folder(source))
    done = cohort(**chosen, progress=_as_json if json_progress else _as_line, log=say)
    failed = done.failed
    say(f"{len(done.rows) - len(failed)} of {len(done.rows)} cases are finished. Table: {done.output / 'cohort.csv'}")
    for row in failed[:10]:
        if row["status"] != "not done":
            say(f"  {row['case']}: {row['status']}. {row.get('reason', '')} {row.get('remedy', '')}".rstrip())
    if done.cancelled:
        say("Cancelled. The same command goes on where it stopped.")
        return 130
    return 1 if any(row["status"] in ("failed", "lost") for row in failed) else 0


def _as_line(event: Mapping[str, Any]) -> None:
    left = event["seconds_left"]
    rest = f", about {duration(left)} left" if left else ""
    reason = f": {event['reason']}" if event["reason"] else ""
    say(f"{event['done']}/{event['total']}  {event['case']}  {event['status']}{reason}{rest}")


def _as_json(event: Mapping[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=True), flush=True)


def cohort_parser(task_name: str) -> argparse.ArgumentParser:
    """The flags of ``cohort``, and those of the task for every case."""
    parser = argparse.ArgumentParser(
        prog=f"xaiengine cohort {task_name or 'TASK'}",
        description="Runs one task over many scans: resumable, in parallel, with a table and a page at the end.",
        allow_abbrev=False,
    )
    parser.add_argument("task", help="the task, such as explain-prediction")
    own = parser.add_argument_group("Cohort")
    own.add_argument("--cases", required=True, metavar="SOURCE", help="folder of scans, manifest, or BIDS data set")
    own.add_argument(
        "--output", "-o", default="", metavar="FOLDER", help="where results go (BIDS: derivatives/slicerxai)"
    )
    own.add_argument("--jobs", type=_jobs, default=None, metavar="N", help="worker processes (default: what fits)")
    own.add_argument("--part", default="", metavar="I/N", help="every N-th case from the I-th, for array jobs")
    own.add_argument("--only-failed", action="store_true", help="only cases that an earlier run could not finish")
    own.add_argument("--force", action="store_true", help="all cases again")
    own.add_argument("--modality", default="", help="of DICOM series: CT, MR, CR ...")
    own.add_argument("--scheduler", default="", metavar="ADDRESS", help="a running Dask scheduler, tcp://host:8786")
    for name in BATCH_SYSTEMS:
        own.add_argument(
            f"--{name}", default="", metavar="YAML", help=f"workers that {name.upper()} starts (dask-jobqueue)"
        )
    own.add_argument("--group", default="", metavar="COLUMN", help="covariate whose groups are compared")
    own.add_argument("--agreement", default="", metavar="VALUE=COLUMN", help="value and covariate that are compared")
    own.add_argument(
        "--atlas", default="", metavar="FILE", help="volume in whose space mean and SD of the maps are made"
    )
    own.add_argument("--json-progress", action="store_true", help="print progress as JSON lines on stdout")
    machine = parser.add_argument_group("Machine")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda")
    machine.add_argument("--seed", type=int, default=0, help="same seed, same map")
    machine.add_argument("--trust-model", action="store_true", help="let this model's own code run")
    machine.add_argument("--methods-from", nargs="+", default=[], metavar="FILE", help="Python files with methods")
    if task_name:
        task = find_task(task_name)
        scan = first_input(task.Options)
        group = parser.add_argument_group(f"{task.title}, for every case")
        for item in option_fields(task.Options):
            if item.name != scan:
                settings = task_argument(item, positional=False)
                settings.pop("required", None)
                group.add_argument(item.flag, **settings)
    return parser


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a number of at least 1 was expected")
    return int(text)
