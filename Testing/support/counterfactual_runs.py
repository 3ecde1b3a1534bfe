"""Runs of the counterfactual tasks from files to artifacts, on a generator by formulas."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.counterfactual_standins import SIZE, LinearSpace, image_model, pixels, stored
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry
from xaiengine.counterfactual.generator_context import Setting
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.tasks.explain_counterfactual import run as explaining
from xaiengine.tasks.find_directions import finding

SPACE = LinearSpace(mixed=False)
"""Latents that do not depend on one another: nothing but the disk goes with the answer."""
GRID = Grid.from_directions((SIZE, SIZE, 1), (2.0, 2.0, 2.0), np.diag([-1.0, -1.0, 1.0]))


def use_generator(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[..., Setting]:
    """Put the generator by formulas under whatever name a task asks for, with a cache of its own.

    What is returned puts it there again, described otherwise.
    """
    monkeypatch.setenv("XAIENGINE_CACHE", str(folder / "cache"))

    def use(**described):
        described = {"training": {"domain": {"l1": 0.02, "distance": 1.0}}, **described}
        setting = Setting(stored(SPACE, **described), LatentGeometry.of(SPACE))
        for module in (explaining, finding):
            monkeypatch.setattr(module, "load_setting", lambda name, device: setting)
        return setting

    use()
    return use


def an_image(latent: torch.Tensor | None = None) -> np.ndarray:
    latent = SPACE.mean.clone() if latent is None else latent
    return pixels(SPACE.decode(latent[None])[0])


def write_image(folder, latent: torch.Tensor | None = None) -> str:
    return str(write_volume(folder / "image.nrrd", Volume(an_image(latent), GRID, "image")))


def run(folder, model, task="explain-counterfactual", progress=None, log=lambda text: None, **options):
    options = {"model": "disks", "generator": "disks", **options}
    job = Job(task=task, options=options, output=str(folder / "out"))
    return run_job(job, progress, session=session_with(model), log=log)


def explain(folder, model=None, volume=None, **options):
    volume = volume or write_image(folder)
    options = {"samples": 200, "steps": 20, **options}
    return run(folder, model or image_model(), volume=volume, **options)


def rows_of(result, folder, role) -> list[dict[str, str]]:
    with open(folder / "out" / result.artifact(role).file, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def figures_of(result, folder) -> dict[str, float]:
    return {row["figure"]: float(row["value"]) for row in rows_of(result, folder, "figures") if row["value"]}
