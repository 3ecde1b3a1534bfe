"""A case of a cohort, and names that are folders on every system."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import InputError

_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
MOST_NAMED = 10


@dataclass(frozen=True)
class Case:
    """One scan of a cohort.

    ``inputs`` are files by the task's names for them, ``options`` what differs for this case, ``covariates`` what the
    study knows of it: kept in the table, never given to the task.
    """

    name: str
    inputs: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    covariates: Mapping[str, Any] = field(default_factory=dict)


def folder_name(text: str) -> str:
    """``text`` as the name of a folder that Windows, macOS and Linux accept; accents and other scripts stay.

    >>> folder_name("site 1/Müller: 3"), folder_name("con")
    ('site 1_Müller_ 3', 'con_')
    """
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", str(text))).strip().rstrip(".")
    if _RESERVED.fullmatch(name):
        name += "_"
    return name[:120] or "case"


def check_names(cases: Sequence[Case]) -> None:
    """Refuse cohorts in which two cases would share a folder (some systems ignore case).

    Raises:
        InputError: two names are the same; all such names are listed.
    """
    counts = Counter(folder_name(case.name).casefold() for case in cases)
    double = sorted({case.name for case in cases if counts[folder_name(case.name).casefold()] > 1})
    if double:
        raise InputError(
            f"{len(double)} names stand for more than one case: {listed(double)}.",
            "Give every case a name of its own in the column 'case'.",
        )


def listed(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """The first names, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
