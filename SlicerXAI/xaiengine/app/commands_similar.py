"""Shell command ``similar`` and its twin in Python: which cases of a cohort are most like a scan."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..cohorts.similar import SimilarCase, cohort_index, scan_features, similar_to
from ..core.console import say
from ..core.errors import InputError
from ..core.number_text import significant


def similar_cases(
    study: str | Path,
    scan: str | Path,
    *,
    count: int = 5,
    layer: str = "",
    result: str | Path | None = None,
    trust_model: bool = False,
    log: Callable[[str], None] = lambda text: None,
) -> list[SimilarCase]:
    """The cases of a cohort that are most like a scan, nearest first, by the model that the cohort was run with.

    Args:
        study: the cohort's output folder. An index is kept in it and brought up to date.
        scan: a file or folder, as the cohort's task takes it.
        layer: whose responses are compared; the first that the model recommends if empty.
        result: the scan's own result folder, where its map is to be compared too (share in each region).

    Raises:
        InputError: no finished cases, or a scan that the model cannot take.
    """
    from ..cohorts.similar import finished_cases
    from ..core.job import read_result
    from ..inference.scan_reading import read_for_model
    from ..models import find_model, load_model

    folder = Path(study)
    cases = finished_cases(folder)
    if not cases:
        raise InputError(f"{folder} holds no finished cases of a cohort.", "Give the output folder of a cohort.")
    job = read_result(cases[0][0]).provenance["job"]
    model = load_model(find_model(job["model"]), trust=trust_model)
    chosen = layer or (model.layers[0] if model.layers else "")
    if not chosen:
        raise InputError(
            f"The model {model.name} recommends no layer.", "Name one with --layer; 'xaiengine inspect' lists them."
        )

    def read(job: dict[str, Any]):
        given = {**job["inputs"], **job["options"]}
        return read_for_model(model, given["volume"], given.get("channels") or (), given.get("series") or "")

    index = cohort_index(folder, model, chosen, read, lambda case: log(f"  {case}"))
    features = scan_features(model, chosen, read({"inputs": {"volume": str(scan)}, "options": {}}))
    return similar_to(folder, index, features, count, None if result is None else Path(result))


def similar_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine similar STUDY SCAN``: the cases of a cohort that are most like a scan."""
    parser = argparse.ArgumentParser(prog="xaiengine similar", description=similar_command.__doc__)
    parser.add_argument("study", metavar="STUDY", help="output folder of a cohort")
    parser.add_argument("scan", metavar="SCAN", help="the scan that similar cases are wanted for")
    parser.add_argument("--count", type=int, default=5, metavar="N", help="how many (default: 5)")
    parser.add_argument("--layer", default="", help="whose responses are compared (default: the model's first)")
    parser.add_argument("--result", metavar="FOLDER", help="the scan's own result: its map's regions are compared too")
    parser.add_argument("--trust-model", action="store_true", help="let this model's own code run")
    chosen = parser.parse_args(arguments)
    found = similar_cases(**vars(chosen), log=say)
    for item in found:
        where = "" if item.profile is None else f", map {significant(100 * item.profile)} % elsewhere"
        told = ", ".join(f"{key} {_short(value)}" for key, value in list(item.values.items())[:3])
        say(f"{item.case}  {significant(item.distance)} SD{where}  {told}")
    return 0


def _short(value: Any) -> str:
    return significant(value) if isinstance(value, float) else str(value)
