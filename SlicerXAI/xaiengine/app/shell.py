"""The command line. Light to import: torch is loaded only when there is work for it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from .. import __version__
from ..attribution.registry import load_methods
from ..core.console import ConsoleProgress, say
from ..core.errors import XAIError
from ..core.job import Job, Result, read_job
from ..core.progress import Progress
from ..tasks import TASKS, Task, find_task
from .describe import describe, option_fields
from .task_arguments import task_argument

# Commands about models and results rather than about scans: "command": "module:function(arguments) -> exit code".
MODEL_COMMANDS = {
    "cohort": "commands_cohort:cohort_command",
    "similar": "commands_similar:similar_command",
    "inspect": "commands_models:inspect_command",
    "describe-model": "commands_models:describe_model_command",
    "cache": "commands_models:cache_command",
    "report": "commands_results:report_command",
    "picture": "commands_results:picture_command",
    "export-dicom": "commands_results:export_dicom_command",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 when the work is done, 1 when it failed, 2 for a wrong call, 130 when it was cancelled."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        return _dispatch(arguments)
    except XAIError as error:
        say(f"Error: {error.message}")
        if error.remedy:
            say(f"  {error.remedy}")
        return 1
    except KeyboardInterrupt:
        say("Cancelled.")
        return 130


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in MODEL_COMMANDS:
        module, _, function = MODEL_COMMANDS[arguments[0]].partition(":")
        return getattr(import_module(f".{module}", __package__), function)(arguments[1:])
    if arguments and arguments[0] in TASKS:
        return _run_task(find_task(arguments[0]), arguments[1:])
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command == "run":
        return _run(read_job(chosen.job), chosen.json_progress)
    if chosen.command == "serve":
        from .serve import serve

        serve()
        return 0
    if chosen.command == "describe":
        print(json.dumps(describe(), indent=2, ensure_ascii=False))
        return 0
    if chosen.command == "xml":
        from .cli_xml import cli_xml

        print(cli_xml(find_task(chosen.task), __version__), end="")
        return 0
    parser.print_help()
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xaiengine", description="Explains deep-learning models on medical scans.")
    parser.add_argument("--version", action="version", version=f"xaiengine {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser("run", help="do the job that a job.json describes")
    run.add_argument("job", type=Path)
    run.add_argument("--json-progress", action="store_true", help="print progress as JSON lines on stdout")
    commands.add_parser("serve", help="stay and take jobs as JSON lines on stdin")
    commands.add_parser("describe", help="print every task with its options as JSON")
    xml = commands.add_parser("xml", help="print the description of a task for Slicer's CLI modules")
    xml.add_argument("task", choices=sorted(TASKS))
    for name in TASKS:
        commands.add_parser(name, help=find_task(name).title, add_help=False)
    for name, text in (
        ("cohort", "run one task over many scans, in parallel, with a table and a page at the end"),
        ("similar", "find the cases of a cohort that are most like a scan"),
        ("inspect", "say what a model is: inputs, outputs, layers, capabilities"),
        ("describe-model", "write the small JSON file that goes with plain weights"),
        ("cache", "show or empty the cache of converted models"),
        ("report", "write one HTML page about a result"),
        ("picture", "draw the maps of a result again, for print or as vector graphics"),
        ("export-dicom", "write maps, segments and measurements of a result as DICOM"),
    ):
        commands.add_parser(name, help=text, add_help=False)
    return parser


def task_parser(task: Task) -> argparse.ArgumentParser:
    """The flags of one task; its first required input may also be given by position."""
    parser = argparse.ArgumentParser(
        prog=f"xaiengine {task.name}",
        description=task.description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    groups: dict[str, Any] = {}
    first = True
    for field in option_fields(task.Options):
        group = groups.setdefault(field.group, parser.add_argument_group(field.group))
        positional = first and field.role == "input" and field.required and field.kind != "model"
        first = first and not positional
        settings = task_argument(field, positional)
        group.add_argument(*([field.name] if positional else [field.flag]), **settings)
        for former in (name for name, today in task.Options.former_names.items() if today == field.name):
            hidden = {**settings, "help": argparse.SUPPRESS, "dest": field.name}
            group.add_argument("--" + former.replace("_", "-"), **hidden)
    machine = parser.add_argument_group("Machine and results")
    machine.add_argument("--output", "-o", required=True, metavar="FOLDER", help="where the results go")
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    machine.add_argument("--seed", type=int, default=0, help="same seed, same map")
    machine.add_argument("--trust-model", action="store_true", help="let this model's own code run")
    machine.add_argument(
        "--methods-from",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files that register methods; they run only with --trust-model",
    )
    machine.add_argument("--json-progress", action="store_true", help="print progress as JSON lines on stdout")
    machine.add_argument("--report", action="store_true", help="write report.html beside the results")
    machine.add_argument("--dicom", action="store_true", help="write maps and segments as DICOM too")
    return parser


def _run_task(task: Task, arguments: list[str]) -> int:
    task = _with_own_methods(task, arguments)
    chosen = vars(task_parser(task).parse_args(arguments))
    after = [name for name in ("report", "dicom") if chosen.pop(name)]
    if "dicom" in after:
        from ..dicom_out.export import need_highdicom

        need_highdicom()  # before the work, not after it
    keys = ("output", "device", "seed", "trust_model", "methods_from", "json_progress")
    own = {key: chosen.pop(key) for key in keys}
    json_progress = own.pop("json_progress")
    job = Job(task=task.name, model=chosen.pop("model", ""), options=chosen, **own)
    code = _run(job, json_progress)
    if code == 0 and after:
        from .commands_results import export_dicom_command, report_command

        commands = {"report": report_command, "dicom": export_dicom_command}
        return max(commands[name]([job.output]) for name in after)
    return code


def _with_own_methods(task: Task, arguments: list[str]) -> Task:
    """The task with the options of methods that the user's own files register."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--methods-from", nargs="+", default=[])
    early.add_argument("--trust-model", action="store_true")
    known, _ = early.parse_known_args(arguments)
    if not known.methods_from:
        return task
    for path in known.methods_from:
        load_methods(path, known.trust_model)
    return find_task(task.name)


def _run(job: Job, json_progress: bool) -> int:
    from .run import run_job
    from .serve import progress_line

    if json_progress:
        result = run_job(job, Progress(lambda event: print(progress_line(event), flush=True)), log=say)
        print(json.dumps({"event": "finished", "status": result.status}), flush=True)
    else:
        console = ConsoleProgress()
        try:
            result = run_job(job, Progress(console), log=console.log)
        finally:
            console.close()
    _report(result, job)
    return {"finished": 0, "cancelled": 130}.get(result.status, 1)


def _report(result: Result, job: Job) -> None:
    if result.error is not None:
        say(f"Error: {result.error.message}")
        if result.error.remedy:
            say(f"  {result.error.remedy}")
        if result.error.details:
            say(result.error.details)
        return
    for name, value in result.values.items():
        say(f"{name} = {value:.6g}" if isinstance(value, float) else f"{name} = {value}")
    say(f"Results are in {job.output}:")
    for artifact in result.artifacts:
        say(f"  {artifact.file}  ({artifact.name})")
