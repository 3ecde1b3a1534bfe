"""Runs of the task dissect on planted findings."""

from __future__ import annotations

import csv
from pathlib import Path

from support.planted_findings import BuiltDetectors, model_around
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.core.job import Job, Result
from xaiengine.models.explained_model import ExplainedModel
from xaiengine.semantics.dissection.dissection import Dissection
from xaiengine.semantics.dissection.store import load_dissection

COUNT = 24


def built(**more) -> ExplainedModel:
    return model_around(BuiltDetectors(), **more)


def dissect(
    output: Path, images: Path, model: ExplainedModel, inputs: dict[str, str] | None = None, **options
) -> Result:
    options = {"draws": 20, "rolls": 8, "sheet_units": 0, **options}
    inputs = {"images": str(images), **(inputs or {})}
    job = Job(task="dissect", model="planted", inputs=inputs, options=options, output=str(output))
    return run_job(job, session=session_with(model))


def finished(output: Path, images: Path, model: ExplainedModel, *arguments, **options) -> tuple[Result, Dissection]:
    result = dissect(output, images, model, *arguments, **options)
    assert result.status == "finished", result.error
    return result, load_dissection(output / "dissection.safetensors")


def table(output: Path, role: str) -> list[dict[str, str]]:
    with open(output / f"{role}.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def labels(dissection: Dissection) -> list[str]:
    return [dissection.concepts[number] if number >= 0 else "" for number in dissection.concept_of_unit]
