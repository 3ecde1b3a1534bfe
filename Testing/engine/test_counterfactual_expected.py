"""What directions and counterfactual series take is said before: what is counted is what the model is then shown."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from monai.transforms import EnsureChannelFirst, ScaleIntensity, ScaleIntensityRange
from support.counterfactual_runs import explain, run, use_generator, write_image
from support.counterfactual_standins import DirectAnswer, DiskBrightness, LinearSpace, image_model
from support.prediction_models import session_with
from xaiengine.app.run import run_job
from xaiengine.core.job import Job
from xaiengine.core.progress import Progress
from xaiengine.core.tensor_memory import TensorMemory
from xaiengine.counterfactual.directions.directions import FinderSettings
from xaiengine.counterfactual.expected_work import Batch, Work, directions_work, fitting_operations, in_batches
from xaiengine.counterfactual.generator.generator import Generator, GeneratorSettings
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry
from xaiengine.counterfactual.generator.latent_space import LatentSpace
from xaiengine.counterfactual.generator_context import Setting
from xaiengine.tasks.counterfactual_cost import PassCost, fitting_seconds, measure_cost
from xaiengine.tasks.explain_counterfactual import writing
from xaiengine.tasks.find_directions.finding import find_directions

BATCH = 64


@pytest.fixture
def generator(monkeypatch, tmp_path):
    """Without the pictures, for which the model is not asked."""
    for name in ("draw_film_strip", "write_animation"):
        monkeypatch.setattr(writing, name, lambda path, *_, **__: path.write_bytes(b""))
    return use_generator(monkeypatch, tmp_path)


class Watch:
    """Counts what a network is shown, and what of it has already been shown when the estimate is said."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.shown = self.back = 0
        self.sentence, self.before, self.back_before = "", 0, 0
        network.register_forward_hook(self._forward)
        network.register_full_backward_hook(self._backward)

    def _forward(self, _module, inputs, _output):
        self.shown += len(inputs[0])

    def _backward(self, _module, _inputs, outputs):
        self.back += len(outputs[0])

    def log(self, text: str) -> None:
        if "generated images are shown" in text:
            self.sentence, self.before, self.back_before = text, self.shown, self.back

    @property
    def said(self) -> tuple[int, int]:
        images, gradients = re.search(r"About (\d+) generated.*?(?:, (\d+) of them|:)", self.sentence).groups()
        return int(images), int(gradients or 0)

    @property
    def done(self) -> tuple[int, int]:
        return self.shown - self.before, self.back - self.back_before


def watched(**more) -> tuple[object, Watch]:
    model = image_model(**more)
    return model, Watch(model.network)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": 7, "frames": 5},
        {"steps": 0},
        {"refine": "plus"},
        {"refine": "none"},
        {"sides": "toward", "reach": 2.0},
        {"method": "covariance", "samples": 130},
        {"method": "gradient"},
        {"method": "local", "reach": 3.0},
    ],
    ids=str,
)
def test_of_a_series_whose_answer_turns_over_once(tmp_path, generator, options):
    model, watch = watched()
    result = explain(tmp_path, model, log=watch.log, **options)
    assert abs(result.values["flip_shift"]) > 0
    assert watch.said == watch.done


def test_of_a_series_with_directions_that_are_known(tmp_path, generator):
    explain(tmp_path)
    model, watch = watched()
    explain(tmp_path, model, log=watch.log)
    assert watch.said == watch.done and watch.done[0] < 100


@pytest.mark.parametrize("options", [{}, {"decision": 2.0}], ids=str)
def test_of_a_value_with_and_without_decision(tmp_path, generator, options):
    model, watch = watched(task="regression")
    explain(tmp_path, model, log=watch.log, **options)
    assert watch.said == watch.done


def test_of_a_black_box_whose_reconstruction_does_without_it(tmp_path, generator):
    steps = lambda: [EnsureChannelFirst(), ScaleIntensityRange(0, 255, -1, 1), ScaleIntensity(0.0, 1.0)]  # noqa: E731
    model, watch = watched(network=DiskBrightness(gain=20.0, constant=-8.0), preprocessing=steps)
    result = explain(tmp_path, model, log=watch.log)
    assert result.provenance["inversion"]["answer_in_loss"] is False
    assert watch.said == watch.done and watch.back == 0


def test_a_wanted_value_that_the_surrogate_finds_takes_no_more_than_was_said(tmp_path, generator):
    model, watch = watched()
    explain(tmp_path, model, log=watch.log, wanted=0.3)
    (said, gradients), (done, back) = watch.said, watch.done
    assert gradients == back and 0 <= said - done <= 25 + 6  # the grid and the halvings it did without


@pytest.mark.parametrize("samples", [50, 64, 150])
@pytest.mark.parametrize("methods", [["logistic"], ["covariance", "ridge"], ["gradient"]], ids=",".join)
def test_of_finding_directions(tmp_path, generator, samples, methods):
    """It is said when two batches are through, so that it costs no passes of its own."""
    model, watch = watched()
    options = {"methods": methods, "samples": samples, "judged": 7, "gradients": 90}
    result = run(tmp_path, model, task="find-directions", log=watch.log, **options)
    assert result.status == "finished", result.error
    images, gradients = watch.said
    assert watch.done == (images - min(samples, 2 * BATCH), gradients)


class MeanBrightness(torch.nn.Module):
    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * 10


@pytest.mark.parametrize("code", [0, 2])
def test_of_the_channel_search_and_of_pairs_that_share_their_code(code):
    torch.manual_seed(0)
    settings = GeneratorSettings(
        size=32,
        latent_size=8,
        mapping_layers=0 if code else 1,
        width=4,
        maximum_width=6,
        noise=False,
        code_channels=code,
        code_size=8,
    )
    space = LatentSpace(Generator(settings))
    setting = Setting(SimpleNamespace(space=space, digest="2" * 64), LatentGeometry.of(space))
    answer = DirectAnswer(MeanBrightness())
    answer.predictor.model.digest = "1" * 64
    network = MeanBrightness()
    shown = []
    answer.predictor.outputs = lambda images: shown.append(len(images)) or network(images)
    searched = FinderSettings(count=2, leading=setting.moving("auto"), style_images=3)
    options = {"samples": 61, "judged": 5}
    find_directions(setting, answer, ["style", "weights"], searched, seed=0, reach=2.0, progress=Progress(), **options)
    assert directions_work(["style", "weights"], space, searched, **options).images == sum(shown)


def test_only_the_estimate_is_made_where_only_that_is_wanted(tmp_path, generator):
    inputs = {"explain-counterfactual": {"volume": write_image(tmp_path)}, "find-directions": {}}
    for task, given in inputs.items():
        model, watch = watched()
        job = Job(
            task=task,
            options={"model": "disks", "generator": "disks", "samples": 5000, **given},
            only_estimate=True,
            output=str(tmp_path / task),
        )
        result = run_job(job, session=session_with(model), log=watch.log)
        assert result.status == "finished", result.error
        assert result.values["estimate"] == watch.sentence and "5" in watch.sentence
        assert result.values["estimated_seconds"] > 0 and result.values["estimated_memory_gb"] > 0
        assert result.artifacts == [] and watch.shown < 200
    assert not (tmp_path / "cache" / "directions").exists()


def test_seconds_and_memory_are_those_of_the_counted_batches():
    cost = PassCost(call=0.5, row=0.1, back=3.0, held=10.0, held_back=100.0)
    work = Work((Batch(4), Batch(2, back=True, times=5))) + in_batches(70, 32)
    assert work.images == 4 + 10 + 70 and work.gradients == 10
    forward = (0.5 + 0.4) + 2 * (0.5 + 3.2) + (0.5 + 0.6)
    assert cost.seconds(work) == pytest.approx(forward + 5 * 3 * (0.5 + 0.2))
    assert cost.memory(work) == pytest.approx(1.5 * max(32 * 10, 2 * 100))
    assert Batch(2, back=True, times=4, shown=False) and Work((Batch(2, back=True, shown=False),)).images == 0


@pytest.mark.parametrize("method", ["logistic", "ridge", "covariance"])
def test_operations_of_the_fit_grow_with_the_cube_of_many_latents(method):
    searched = [FinderSettings(leading=count) for count in (1000, 2000)]
    few, many = (fitting_operations([method], LinearSpace(), item, 10) for item in searched)
    assert few == many == 0 if method == "covariance" else 7 < many / few < 8.1
    assert fitting_seconds(1e8) == 0 < fitting_seconds(1e12)


def test_memory_of_a_pass_is_that_of_its_tensors():
    space = LinearSpace()
    cost = measure_cost(space, DirectAnswer(), gradients=True)
    image = 32 * 32 * 4
    assert image < cost.held < 20 * image
    assert cost.held < cost.held_back < 40 * image


def test_tensors_count_until_they_are_freed():
    there = torch.zeros(1000)
    with TensorMemory() as memory:
        first = there + 1  # 4,000 bytes
        view = first.view(10, 100)[2:]  # the same ones
        del first
        second = view * 2  # and 3,200
        del view
        third = torch.zeros(100)  # 400 after the first went
        there.add_(1)
    assert memory.peak == 7200
    assert second.nbytes + third.nbytes == 3600


def test_tensors_that_are_kept_for_the_gradient_count():
    network = torch.nn.Sequential(*[layer for _ in range(5) for layer in (torch.nn.Linear(50, 50), torch.nn.ReLU())])
    values = torch.zeros(20, 50)
    with TensorMemory() as without, torch.no_grad():
        network(values)
    with TensorMemory() as kept:
        network(values.requires_grad_()).sum().backward()
    row = 20 * 50 * 4
    assert without.peak <= 3 * row
    assert kept.peak >= 5 * row
