"""Networks that write into their input, answer differently each time, or return more than a prediction."""

import json
import random

import numpy as np
import pytest
import torch
from torch import nn
from xaiengine.app.run import run_job
from xaiengine.core.errors import ModelError
from xaiengine.core.job import Job
from xaiengine.io.volume_files import read_volume
from xaiengine.models import load_model

CODE = """
import random
import torch
from torch import nn


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)
        self.act = nn.ReLU(inplace=True)

    def body(self, x):
        return self.fc(torch.relu(self.conv(x)).amax((2, 3, 4)))


class Clamped(Base):
    def forward(self, x):
        return self.body(x.clamp(0, 1))


class ClampedInPlace(Base):
    def forward(self, x):
        x.clamp_(0, 1)
        return self.body(x)


class First(Base):
    def forward(self, x):
        return self.body(torch.relu(x))


class FirstInPlace(Base):
    def forward(self, x):
        return self.body(self.act(x))


class Masked(Base):
    def forward(self, x):
        return self.body(torch.where(x < 0.2, torch.zeros_like(x), x))


class MaskedInPlace(Base):
    def forward(self, x):
        x[x < 0.2] = 0
        return self.body(x)


class Dropped(Base):
    def forward(self, x):
        return self.fc(nn.functional.dropout(torch.relu(self.conv(x)).amax((2, 3, 4)), 0.5, training=True))


class Noisy(Base):
    def forward(self, x):
        return self.body(x + 0.3 * torch.randn_like(x))


class Shuffled(Base):
    def forward(self, x):
        return self.body(x * random.uniform(0.5, 1.5))


class Alone(Base):
    def forward(self, x):
        return self.body(x.view(1, 1, 16, 16, 16))
"""
namespace: dict = {}
exec(compile(CODE, "networks", "exec"), namespace)
SIZE = 16


@pytest.fixture
def state():
    torch.manual_seed(1)
    return namespace["Base"]().state_dict()


@pytest.fixture
def scan(tmp_path):
    from xaiengine.io.grid import Grid
    from xaiengine.io.volume import Volume
    from xaiengine.io.volume_files import write_volume

    values = np.random.default_rng(0).normal(0, 1, (SIZE,) * 3).astype(np.float32)
    values[6:10, 6:10, 6:10] += 4
    return write_volume(tmp_path / "scan.nrrd", Volume(values, Grid(values.shape, np.eye(4))))


def trusted(folder, name, state, **content):
    """A network of one's own code with its description."""
    path = folder / f"{name}.pth"
    torch.save(state, path)
    (folder / f"{name}.py").write_text(CODE)
    described = {
        "network": {"_target_": name},
        "code": f"{name}.py",
        "spatial_dims": 3,
        "in_channels": 1,
        "input_size": [SIZE] * 3,
        "task": "classification",
        "labels": ["a", "b"],
        **content,
    }
    path.with_suffix(".json").write_text(json.dumps(described))
    return path


def attribution(model, scan, method, out):
    job = Job(
        task="explain-prediction",
        model=str(model),
        inputs={"volume": str(scan)},
        options={"methods": [method], "target": "a"},
        output=str(out),
        trust_model=True,
    )
    result = run_job(job)
    assert result.status == "finished", result.error
    item = next(artifact for artifact in result.artifacts if artifact.kind == "volume")
    return read_volume(out / item.file, allow_channels=True).array


@pytest.mark.parametrize("name", ["Clamped", "First", "Masked"])
@pytest.mark.parametrize("method", ["occlusion", "rise", "integrated_gradients", "gradcam"])
def test_a_network_that_writes_into_its_input_has_the_maps_of_its_twin(name, method, state, scan, tmp_path):
    maps = []
    for twin in (name, f"{name}InPlace"):
        path = trusted(tmp_path, twin, state)
        maps.append(attribution(path, scan, method, tmp_path / twin / method))
    assert np.abs(maps[0] - maps[1]).sum() <= 1e-4 * np.abs(maps[0]).sum()


def test_a_torchscript_program_leaves_the_input_of_its_caller(state, tmp_path):
    network = namespace["ClampedInPlace"]().eval()
    network.load_state_dict(state)
    torch.jit.trace(network, torch.rand(1, 1, SIZE, SIZE, SIZE)).save(tmp_path / "net.ts")
    (tmp_path / "net.json").write_text(json.dumps({"input_size": [SIZE] * 3, "task": "classification"}))
    model = load_model(tmp_path / "net.ts")
    batch = torch.randn(1, 1, SIZE, SIZE, SIZE)
    before = batch.clone()
    model.predict(batch)
    model.network(batch)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("name", ["Dropped", "Noisy", "Shuffled"])
def test_a_random_network_is_refused_or_averaged(name, state, tmp_path):
    with pytest.raises(ModelError, match="Two passes .* differ") as refused:
        load_model(trusted(tmp_path, name, state), trust=True)
    assert '"passes": 16' in refused.value.remedy
    model = load_model(trusted(tmp_path, name, state, passes=16), trust=True)
    assert any("mean of 16 passes" in note for note in model.notes)
    batch = torch.randn(3, 1, SIZE, SIZE, SIZE)
    before = (torch.get_rng_state(), random.getstate())
    first, again = model.predict(batch), model.predict(batch)
    assert torch.equal(first, again)
    assert torch.equal(model.predict(batch[2:]), first[2:])
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    assert not model.capabilities.layers


def test_the_mean_of_passes_is_near_the_mean_of_many(state, tmp_path):
    network = namespace["Noisy"]().eval()
    network.load_state_dict(state)
    batch = torch.randn(1, 1, SIZE, SIZE, SIZE)
    with torch.no_grad():
        many = torch.cat([network(batch) for _ in range(400)])
    mean = load_model(trusted(tmp_path, "Noisy", state, passes=64), trust=True).predict(batch)
    assert bool(((mean - many.mean(0)).abs() <= 5 * many.std(0) / 8).all())


def test_dropout_in_evaluation_is_not_random(tmp_path):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.jit.script(network.eval()).save(tmp_path / "net.ts")
    (tmp_path / "net.json").write_text(json.dumps({"input_size": [SIZE] * 2}))
    assert len(load_model(tmp_path / "net.ts").labels) == 4


def test_a_network_of_one_image_at_a_time_is_called_so(state, scan, tmp_path):
    model = load_model(trusted(tmp_path, "Alone", state), trust=True)
    batch = torch.randn(3, 1, SIZE, SIZE, SIZE)
    twin = namespace["Base"]().eval()
    twin.load_state_dict(state)
    assert not model.capabilities.free_batch
    assert torch.allclose(model.predict(batch), twin.body(batch), atol=1e-5)
    found = attribution(tmp_path / "Alone.pth", scan, "occlusion", tmp_path / "maps")
    assert np.isfinite(found).all() and np.abs(found).max() > 0


class Several(nn.Module):
    """Returns features, attention and a prediction in an order and container of its own."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.fc = nn.Linear(8, 3)
        self.form = form

    def forward(self, batch):
        features = torch.relu(self.conv(batch))
        pooled = features.mean((2, 3))
        scores = self.fc(pooled)
        attention = features.flatten(2).transpose(1, 2) @ features.flatten(2)
        return self.form(pooled, attention[:, :3], scores)


FORMS = {
    "features first": (lambda f, a, s: (f, s), (1,)),
    "attention first": (lambda f, a, s: (a, f, s), (2,)),
    "nested": (lambda f, a, s: (f, (a, s)), (1, 1)),
    "mapping": (lambda f, a, s: {"embedding": f, "cls": s}, ("cls",)),
    "scores first": (lambda f, a, s: (s, f), (0,)),
}


@pytest.mark.parametrize("labels", [["a", "b", "c"], []])
@pytest.mark.parametrize("form", FORMS)
def test_of_several_tensors_the_one_of_as_many_outputs_is_explained(form, labels, tmp_path):
    network = Several(FORMS[form][0]).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, SIZE, SIZE),)), tmp_path / "net.pt2")
    (tmp_path / "net.json").write_text(json.dumps({"labels": labels}))
    model = load_model(tmp_path / "net.pt2")
    batch = torch.rand(1, 1, SIZE, SIZE)
    expected = network.fc(torch.relu(network.conv(batch)).mean((2, 3)))
    assert torch.allclose(model.predict(batch), expected, atol=1e-5)
    assert len(model.labels) == 3 and model.task == "classification"
    where = "".join(f"[{key!r}]" for key in FORMS[form][1])
    assert any(f"Of these {where} is explained" in note for note in model.notes)


def test_the_description_names_the_output(tmp_path):
    network = Several(lambda f, a, s: {"one": s, "two": s * 2}).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, SIZE, SIZE),)), tmp_path / "net.pt2")
    (tmp_path / "net.json").write_text(json.dumps({"output": "two"}))
    batch = torch.rand(1, 1, SIZE, SIZE)
    assert torch.allclose(load_model(tmp_path / "net.pt2").predict(batch), network(batch)["two"], atol=1e-5)
    (tmp_path / "net.json").write_text(json.dumps({"output": "three"}))
    with pytest.raises(ModelError, match="'three'.*'one'"):
        load_model(tmp_path / "net.pt2")
