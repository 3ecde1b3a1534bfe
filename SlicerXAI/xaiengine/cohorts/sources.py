"""Finds the cases of a cohort: a folder of scans, a manifest (CSV, TSV, JSON), or a BIDS data set."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.errors import InputError
from ..core.options import TaskOptions
from ..io.formats.file_names import PICTURES, format_suffix, volume_name
from .bids import is_bids, read_bids
from .case import Case, check_names, folder_name, listed

VOLUMES = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
LABELS = ("_seg", "_mask", "_label", "_labels", "-label", "-mask")
"""Ends of names of label maps: they lie beside scans and are none."""


def find_cases(
    source: Path, options: type[TaskOptions], *, modality: str = "", say: Callable[[str], None] = lambda text: None
) -> list[Case]:
    """The cases of a folder, a manifest or a BIDS data set, sorted by name.

    ``options`` are the task's: its inputs and options may be columns of a manifest. ``modality`` chooses among the
    DICOM series of a folder (CT, MR, CR ...). ``say`` receives what was left out or assumed.

    Raises:
        InputError: no such source, no cases, several kinds of images, names that stand for two cases, or files that
            are not there (all of them are named).
    """
    source = Path(source).expanduser()
    scan = first_input(options)
    if source.is_file():
        cases = read_manifest(source, options, say)
    elif source.is_dir() and is_bids(source):
        cases = read_bids(source, scan, say)
    elif source.is_dir():
        cases = _in_folder(source, scan, modality, say)
    else:
        raise InputError(f"There is no folder or file {source}.", "Check the path given with --cases.")
    if not cases:
        raise InputError(f"{source} holds no cases.", "Give a folder with scans, or a manifest with one row per scan.")
    check_names(cases)
    _check_files(cases, options)
    return sorted(cases, key=lambda case: case.name)


def first_input(options: type[TaskOptions]) -> str:
    """The name of the task's scan: its first required input that is no model."""
    for name, spec in options.model_fields.items():
        extra: Any = spec.json_schema_extra or {}
        if extra.get("role") == "input" and extra.get("kind") in ("volume", "file") and spec.is_required():
            return name
    raise InputError(
        "This task does not take one scan, so it cannot run over a cohort.",
        "Choose a task that explains or measures a scan, such as explain-prediction.",
    )


def read_manifest(
    path: Path, options: type[TaskOptions], say: Callable[[str], None] = lambda text: None
) -> list[Case]:
    """Cases of a CSV, TSV or JSON file: a row (or object) each.

    Columns with the names of the task's inputs and options are given to it, files counting from the manifest's
    folder; ``case`` names the case (default: the scan's file); every other column is a covariate. A column that has an
    option's name but holds what the option does not take, such as a radiologist's "score", is a covariate too. In
    JSON, options may also stand in an object ``options``, covariates in ``covariates``; unknown options are refused.

    Raises:
        InputError: it cannot be read, lacks the scan's column, or holds unknown options.
    """
    rows = _rows(path)
    scan = first_input(options)
    if rows and not any(scan in row for row in rows):
        columns = listed(sorted({str(key) for row in rows for key in row}))
        raise InputError(
            f"{path.name} has no column '{scan}'; it has {columns}.",
            f"Name the column with the scans '{scan}', and, if you like, one with names 'case'.",
        )
    empty = [number for number, row in enumerate(rows, start=1) if not row.get(scan)]
    if empty:
        raise InputError(
            f"{path.name}: row {listed(map(str, empty))} has no scan.",
            f"Fill the column '{scan}', or delete the rows.",
        )
    given = _options_among({key for row in rows for key in row}, rows, options)
    if given:
        say(f"Columns used as options of the task: {', '.join(sorted(given))}.")
    cases = [_case(row, path, options, scan, given) for row in rows]
    kept = sorted({key for case in cases for key in case.covariates})
    if kept:
        say(f"Columns kept as covariates: {', '.join(kept)}.")
    return cases


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            content = json.loads(text)
            content = content.get("cases") if isinstance(content, dict) else content
            if not isinstance(content, list) or not all(isinstance(item, dict) for item in content):
                raise ValueError("a list of objects, one for each case, was expected")
            return content
        if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise ValueError("its name ends in neither .csv nor .tsv nor .json")
        delimiter = "\t" if path.suffix.lower() == ".tsv" or "\t" in text.split("\n", 1)[0] else ","
        if delimiter == "," and text.split("\n", 1)[0].count(";") > text.split("\n", 1)[0].count(","):
            delimiter = ";"  # what spreadsheets write where the comma is a decimal mark
        rows = list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"The manifest {path.name} cannot be read: {error}.", "Save it as CSV, TSV or JSON in UTF-8."
        ) from error
    return [{str(key).strip(): (value or "").strip() for key, value in row.items() if key} for row in rows]


def _is_file_input(name: str, options: type[TaskOptions]) -> bool:
    extra: Any = options.model_fields[name].json_schema_extra or {}
    return extra.get("role") == "input" and extra.get("kind") not in ("model", "value")


def _options_among(columns: set[str], rows: list[dict[str, Any]], options: type[TaskOptions]) -> set[str]:
    """Columns that are options: they have an option's name, and every value fits it."""
    return {
        name
        for name in columns & set(options.model_fields)
        if not _is_file_input(name, options)
        and all(_fits(name, row[name], options) for row in rows if row.get(name) not in ("", None))
    }


def _fits(name: str, value: Any, options: type[TaskOptions]) -> bool:
    try:
        options.model_validate({name: _value(name, value, options)})
    except ValidationError as error:
        return all(item["loc"][:1] != (name,) for item in error.errors())
    return True


def _value(name: str, value: Any, options: type[TaskOptions]) -> Any:
    """What a table's cell says for an option: several values are separated by semicolons."""
    several = "list" in str(options.model_fields[name].annotation) and isinstance(value, str)
    return [item.strip() for item in value.split(";")] if several else value


def _case(
    row: Mapping[str, Any], manifest: Path, options: type[TaskOptions], scan: str, option_columns: set[str]
) -> Case:
    given = {key: value for key, value in row.items() if key not in ("case", "options", "covariates")}
    nested = dict(row.get("options") or {})
    unknown = sorted(set(nested) - set(options.model_fields))
    if unknown:
        raise InputError(
            f"{manifest.name}: the task has no option {listed(unknown)}.", "'xaiengine TASK --help' lists them."
        )
    files = {key for key in given if key in options.model_fields and _is_file_input(key, options)}
    filled = {key: value for key, value in given.items() if value not in ("", None)}
    inputs = {key: _placed(value, manifest.resolve().parent) for key, value in filled.items() if key in files}
    own = {key: _value(key, value, options) for key, value in filled.items() if key in option_columns} | nested
    covariates = {key: value for key, value in given.items() if key not in files | option_columns}
    covariates.update(row.get("covariates") or {})
    first = inputs[scan][0] if isinstance(inputs[scan], list) else inputs[scan]
    return Case(str(row.get("case") or volume_name(Path(first))), inputs, own, covariates)


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_placed(item, folder) for item in value]
    path = Path(str(value)).expanduser()
    return str(path if path.is_absolute() else folder / path)


def _in_folder(folder: Path, scan: str, modality: str, say: Callable[[str], None]) -> list[Case]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not _hidden(path, folder)]
    volumes = [path for path in files if format_suffix(path) in VOLUMES]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    scans = [path for path in (*volumes, *pictures) if not volume_name(path).lower().endswith(LABELS)]
    if len(scans) < len(volumes) + len(pictures):
        say(f"{len(volumes) + len(pictures) - len(scans)} label maps were left out ({', '.join(LABELS)}).")
    others = [path for path in files if path not in set(volumes) | set(pictures)]
    series = _series(others, modality, say)
    kinds = {"volumes": len(volumes), "pictures": len(pictures), "DICOM series": len(series)}
    mixed = [f"{count} {kind}" for kind, count in kinds.items() if count]
    if len(mixed) > 1:
        raise InputError(
            f"{folder} holds images of several kinds: {', '.join(mixed)}.",
            "Give one folder for each kind, or a manifest that names the scans.",
        )
    named = [(str(path.relative_to(folder).parent / volume_name(path)), path, "") for path in scans]
    named += [(str(files[0].parent.relative_to(folder)), files[0].parent, uid) for uid, files in series]
    return [
        Case(name, {scan: str(path)}, {"series": uid} if uid else {})
        for name, path, uid in _distinct(named, folder.resolve().name)
    ]


def _distinct(named: list[tuple[str, Path, str]], folder: str) -> Iterator[tuple[str, Path, str]]:
    """Names for people: the file's where it is the only one of that name, else with its folder, or a number."""
    short = Counter(Path(name).name.casefold() for name, _, _ in named)
    seen: Counter[str] = Counter()
    for name, path, uid in named:
        own = Path(name).name if short[Path(name).name.casefold()] == 1 else name
        own = folder_name(folder if own in (".", "") else own)
        seen[own.casefold()] += 1
        repeated = seen[own.casefold()]
        yield (own if repeated == 1 else f"{own} {repeated}"), path, uid


def _series(files: list[Path], modality: str, say: Callable[[str], None]) -> list[tuple[str, list[Path]]]:
    if not files:
        return []
    from ..io.formats.dicom_files import is_dicom, read_dicom, series_in, text

    found = series_in(path for path in files if is_dicom(path))
    kinds = {uid: text(read_dicom(paths[0], pixels=False), "Modality") for uid, paths in found.items()}
    if modality:
        found = {uid: paths for uid, paths in found.items() if kinds[uid].upper() == modality.upper()}
    elif len(set(kinds.values())) > 1:
        counts = ", ".join(f"{count} {kind or 'of none'}" for kind, count in Counter(kinds.values()).items())
        raise InputError(f"The DICOM series are of several modalities: {counts}.", "Choose one with --modality.")
    left_out = len(kinds) - len(found)
    if left_out:
        say(f"{left_out} series of other modalities than {modality} were left out.")
    per_folder = Counter(paths[0].parent for paths in found.values())
    return [(uid if per_folder[paths[0].parent] > 1 else "", paths) for uid, paths in found.items()]


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _check_files(cases: list[Case], options: type[TaskOptions]) -> None:
    missing = [
        f"{case.name}: {value}"
        for case in cases
        for given in case.inputs.values()
        for value in (given if isinstance(given, list) else [given])
        if not Path(value).exists()
    ]
    if missing:
        raise InputError(
            f"{len(missing)} files are not there: {listed(missing)}.",
            "Correct the paths; relative ones count from the manifest's folder.",
        )
