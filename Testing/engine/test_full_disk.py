"""A full disk is called by its name, whatever wrote, and what was there before stays."""

import sys
import tempfile
from pathlib import Path

import pytest
import torch
from support import generator_training as small
from xaiengine.attribution.bottleneck.statistics import ReferenceStatistics
from xaiengine.core.errors import ResourceError
from xaiengine.counterfactual.directions.directions import Direction
from xaiengine.counterfactual.directions.store import DirectionSet
from xaiengine.counterfactual.generator.checkpoint import GeneratorDescription, save_generator
from xaiengine.counterfactual.training.checkpoint import STATE_FILE, save_state
from xaiengine.io.tensor_file import write_tensors

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason=f"{sys.platform} has no device that is always full")


@pytest.fixture
def full_disk(monkeypatch):
    """From now on every file that is written whole lies on a device without room."""
    make = tempfile.mkstemp

    def on_full(*arguments, **options):
        handle, name = make(*arguments, **options)
        if not name.endswith((".json", ".csv")):  # small files still fit
            Path(name).unlink()
            Path(name).symlink_to(FULL)
        return handle, name

    return lambda: monkeypatch.setattr(tempfile, "mkstemp", on_full)


def write_direction(path: Path) -> None:
    found = Direction("one", "ridge", "latent", torch.ones(5), 1.0)
    DirectionSet((found,), "a", "b", "probability of opaque", 0.0, 1.0, {}).save(path)


def write_statistics(path: Path) -> None:
    ReferenceStatistics(torch.zeros(3), torch.ones(3), torch.ones(3, dtype=torch.bool), 10, "channel").save(path)


def write_generator(path: Path) -> None:
    made = small.trainer()
    save_generator(path.parent, made.latent_space(), GeneratorDescription(name="small", settings=made.shape))


def write_training(path: Path) -> None:
    save_state(path.parent, small.trainer(), "mark", [])


@pytest.mark.parametrize(
    "write, file",
    [
        (write_direction, "directions.safetensors"),
        (write_statistics, "statistics.safetensors"),
        (write_generator, "generator.safetensors"),
        (write_training, STATE_FILE),
        (lambda path: write_tensors(path, {"a": torch.zeros(9)}, {}), "tensors.safetensors"),
    ],
)
def test_a_full_disk_is_said_and_the_file_before_stays(write, file, tmp_path, full_disk):
    path = tmp_path / file
    write(path)
    before = path.read_bytes()
    full_disk()
    with pytest.raises(ResourceError, match="disk is full"):
        write(path)
    assert path.read_bytes() == before
    assert not [item for item in tmp_path.iterdir() if item.name.startswith(".partial")]
