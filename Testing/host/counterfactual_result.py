"""Writes scans and the results of explaining a slice of each, by a generator and a model that are formulas.

    python -m host.counterfactual_result FOLDER

A process of its own, as the engine always is: torch is not loaded beside MRML.
"""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from monai.transforms import EnsureChannelFirst, Orientation, ScaleIntensityRange
from support.counterfactual_standins import WINDOW, LinearSpace, image_model, stored
from support.prediction_models import session_with
from torch import nn
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry
from xaiengine.counterfactual.generator_context import Setting
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.tasks.explain_counterfactual import run as explaining

from host.scan_geometries import IJK_TO_RAS

SHAPE = (40, 36, 20)
FRAMES = 5


class BrightestPart(nn.Module):
    """Takes slices of any size and orientation."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(images, 16)
        return (pooled.flatten(1).logsumexp(1) - 4.5)[:, None] * 30


def steps() -> list:
    return [EnsureChannelFirst(), Orientation("LPS"), ScaleIntensityRange(*WINDOW, -1.0, 1.0)]


def write_result(folder: Path, geometry: str) -> None:
    """``CT.nrrd`` and the result of explaining its middle axial slice, in a folder named after the geometry."""
    space = LinearSpace(mixed=False)
    described = stored(space, training={"domain": {"l1": 0.05, "distance": 1.0}})
    setting = Setting(described, LatentGeometry.of(space))
    grid = Grid(SHAPE, IJK_TO_RAS[geometry])
    index = SHAPE[grid.index_axis(2)] // 2
    frame = setting.frame(Volume(np.full(SHAPE, 40.0, np.float32), grid, "CT"), index)
    scan = frame.replaced(frame.on_slice(space.decode(space.mean[None])[0]))
    path = write_volume(folder / geometry / "CT.nrrd", scan)
    options = {
        "volume": str(path),
        "model": "m",
        "generator": "g",
        "slice": str(index),
        "frames": FRAMES,
        "steps": 2,
        "method": "local",
        "reach": 3.0,
        "domain_limit": 1e6,
    }
    job = Job(task="explain-counterfactual", options=options, output=str(folder / geometry / "result"))
    with patch.object(explaining, "load_setting", lambda name, device: setting):
        result = run_job(job, session=session_with(image_model(BrightestPart(), preprocessing=steps)))
    if result.error is not None:
        raise SystemExit(f"{geometry}: {result.error.message}\n{result.error.details}")


def main() -> int:
    torch.set_num_threads(1)
    for geometry in IJK_TO_RAS:
        write_result(Path(sys.argv[1]), geometry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
