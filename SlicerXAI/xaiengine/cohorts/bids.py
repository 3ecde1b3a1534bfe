"""BIDS data sets (Brain Imaging Data Structure): their scans, and derivatives that other tools understand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from ..core.errors import InputError
from ..core.job import write_text_atomically
from ..core.version import engine_version
from .case import Case

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.9.0"


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set: it says so in ``dataset_description.json`` and has subjects."""
    return (folder / DESCRIPTION).is_file() and any(folder.glob("sub-*"))


def read_bids(folder: Path, scan: str, say: Callable[[str], None] = lambda text: None) -> list[Case]:
    """The images of every subject and session, with the columns of ``participants.tsv`` as covariates.

    Raises:
        InputError: several kinds of image (suffixes), of which none is chosen by the folder's content.
    """
    found = [
        path
        for path in sorted(folder.glob("sub-*/**/*.nii*"))
        if path.name.endswith((".nii", ".nii.gz")) and "derivatives" not in path.relative_to(folder).parts
    ]
    kinds = sorted({_suffix(path) for path in found})
    if len(kinds) > 1:
        raise InputError(
            f"The BIDS data set holds images of several kinds: {', '.join(kinds)}.",
            "Name the scans in a manifest (CSV with the columns case and volume).",
        )
    people = _participants(folder)
    say(f"BIDS data set: {len(found)} images of the kind {kinds[0] if kinds else '(none)'}.")
    cases = []
    for path in found:
        subject = path.relative_to(folder).parts[0]
        name = path.name.removesuffix(".gz").removesuffix(".nii")
        cases.append(Case(name, {scan: str(path)}, {}, people.get(subject, {})))
    return cases


def write_description(folder: Path) -> None:
    """Make ``folder`` a BIDS derivative of the data set two folders above it."""
    content = {
        "Name": "SlicerXAI explanations",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "SlicerXAI", "Version": engine_version()}],
        "SourceDatasets": [{"URL": "../.."}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomically(folder / DESCRIPTION, json.dumps(content, indent=2) + "\n")


def derivative_folder(folder: Path) -> Path:
    """Where the results of a BIDS data set go by its conventions."""
    return folder / "derivatives" / "slicerxai"


def _suffix(path: Path) -> str:
    return path.name.split(".")[0].rsplit("_", 1)[-1]


def _participants(folder: Path) -> dict[str, dict[str, str]]:
    table = folder / "participants.tsv"
    if not table.is_file():
        return {}
    with open(table, encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return {
        row.get("participant_id", ""): {key: value for key, value in row.items() if key and key != "participant_id"}
        for row in rows
    }
