"""Models of other sizes, preprocessings and domains for counterfactual images, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import (
    EnsureChannelFirst,
    NormalizeIntensity,
    Resize,
    ScaleIntensity,
)
from support.counterfactual_runs import GRID, an_image, explain, rows_of, run, use_generator
from support.counterfactual_standins import SIZE, DiskBrightness, disk, image_model, to_unit
from xaiengine.core.progress import Progress
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume


@pytest.fixture
def generator(monkeypatch, tmp_path):
    return use_generator(monkeypatch, tmp_path)


class TwoSided(torch.nn.Module):
    """Answers as for the disk, but differently to images that are not exactly the generator's."""

    def __init__(self):
        super().__init__()
        self.disk = DiskBrightness()

    def forward(self, images):
        fine = (images[:, :, 1:] - images[:, :, :-1]).abs().mean((1, 2, 3))[:, None]
        return self.disk(images) - 200 * torch.relu(fine - 0.08)


def test_a_reconstruction_that_changes_the_answer_does_not_speak_for_the_scan(tmp_path, generator):
    values = an_image() + np.random.default_rng(0).normal(0, 25.0, (SIZE, SIZE, 1)).astype(np.float32)
    path = str(write_volume(tmp_path / "image.nrrd", Volume(values, GRID, "image")))
    result = explain(tmp_path, image_model(TwoSided()), volume=path, domain_limit=1e6)
    assert result.status == "finished", result.error
    assert result.values["speaks"] == "no"
    assert result.values["gap"] > 0.1
    assert "no valid explanation of this scan" in (tmp_path / "out" / "verdict.txt").read_text(encoding="utf-8")
    assert any("no valid explanation" in text for text in result.warnings)


def test_an_image_unlike_the_domain_is_refused_with_its_score(tmp_path, generator):
    generator(training={"domain": {"l1": 0.01, "distance": 1.0}})
    noise = np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE, 1)).astype(np.float32)
    path = str(write_volume(tmp_path / "noise.nrrd", Volume(noise, GRID, "noise")))
    result = explain(tmp_path, volume=path)
    assert result.status == "failed"
    assert "domain score" in result.error.message and "domain_limit" in result.error.remedy
    assert explain(tmp_path).status == "finished"


def test_a_model_of_another_size_is_fed_resampled_images_and_that_is_said(tmp_path, generator):
    model = image_model(FixedSize(), example_shape=(1, 1, 48, 48))
    result = explain(tmp_path, model)
    assert result.status == "finished", result.error
    assert any("were resampled" in text for text in result.warnings)
    result = explain(tmp_path, image_model(FixedSize(), example_shape=()))
    assert result.status == "failed" and "32 x 32" in result.error.message


class FixedSize(torch.nn.Module):
    def __init__(self):
        super().__init__()
        weight = torch.nn.functional.interpolate(disk()[None, None], (48, 48), mode="bilinear")
        self.head = torch.nn.Linear(48 * 48, 1)
        with torch.no_grad():
            self.head.weight.copy_(40 * weight.flatten(1) / weight.sum())
            self.head.bias.fill_(12.0)

    def forward(self, images):
        return self.head(images.flatten(1))


def test_a_model_that_resizes_itself_needs_no_notice(tmp_path, generator):
    steps = lambda: [EnsureChannelFirst(), to_unit(), Resize((48, 48, 1), mode="bilinear")]  # noqa: E731
    result = explain(tmp_path, image_model(FixedSize(), preprocessing=steps))
    assert result.status == "finished", result.error
    assert not result.warnings
    assert result.values["spearman"] > 0.99


def test_a_preprocessing_that_cannot_be_differentiated_is_said(tmp_path, generator):
    steps = lambda: [EnsureChannelFirst(), to_unit(), ScaleIntensity(0.0, 1.0)]  # noqa: E731
    model = image_model(DiskBrightness(gain=20.0, constant=-8.0), preprocessing=steps)
    result = explain(tmp_path, model, samples=100)
    assert result.status == "finished", result.error
    assert any("cannot be differentiated" in text for text in result.warnings)
    assert result.provenance["inversion"]["answer_in_loss"] is False
    result = explain(tmp_path, model, method="gradient", samples=100)
    assert result.status == "failed" and "covariance" in result.error.remedy


def test_standardized_images_are_differentiated(tmp_path, generator):
    steps = lambda: [EnsureChannelFirst(), to_unit(), NormalizeIntensity()]  # noqa: E731
    result = explain(tmp_path, image_model(DiskBrightness(4.0, 3.0), preprocessing=steps))
    assert result.status == "finished", result.error
    assert result.provenance["inversion"]["answer_in_loss"] is True


@pytest.mark.parametrize(
    "model, options, message",
    [
        (image_model(in_channels=3), {}, "3 channels"),
        (image_model(DiskBrightness(gain=0.0)), {}, "the same of all"),
        (image_model(), {"wanted": 1.5}, "between 0 and 1"),
        (image_model(), {"decision": 2.0}, "no probability"),
        (image_model(), {"target": "cat"}, "opaque"),
        (image_model(), {"slice": "7"}, "Choose 0 to 0"),
        (image_model(), {"slice": "best"}, "not known"),
        (image_model(), {"method": "local", "refine": "plus"}, "refine"),
        (image_model(), {"direction": "9"}, "0 Logistic"),
        (image_model(), {"directions": "absent.safetensors"}, "does not exist"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(tmp_path, generator, model, options, message):
    result = explain(tmp_path, model, **options)
    assert result.status == "failed"
    assert message in f"{result.error.message} {result.error.remedy}" and result.error.remedy
    assert not result.error.details


def test_directions_are_found_and_given_to_the_explanation(tmp_path, generator):
    options = {"methods": ["covariance", "logistic"], "samples": 300}
    result = run(tmp_path, image_model(), task="find-directions", **options)
    assert result.status == "finished", result.error
    assert result.values["flip_rate"] == 1.0 and result.values["auc"] > 0.98
    assert [row["method"] for row in rows_of(result, tmp_path, "table")] == ["covariance", "logistic"]
    kept = tmp_path / "kept.safetensors"
    (tmp_path / "out" / "directions.safetensors").rename(kept)
    found = explain(tmp_path, directions=str(kept), direction="logistic")
    assert found.status == "finished", found.error
    assert found.provenance["direction"] == "Logistic regression"
    other = image_model(target="clear")
    refused = explain(tmp_path, other, directions=str(kept))
    assert refused.status == "failed" and "probability of clear" in refused.error.message


def test_directions_found_once_are_used_again(tmp_path, generator):
    first, second = explain(tmp_path), explain(tmp_path)
    assert second.provenance["model_passes"] < first.provenance["model_passes"] + 1
    assert len(list((tmp_path / "cache" / "directions").iterdir())) == 1
    for name in ("flip_shift", "spearman", "counterfactual_prediction"):
        assert first.values[name] == pytest.approx(second.values[name], rel=1e-4)


def test_unknown_methods_are_refused(tmp_path, generator):
    result = run(tmp_path, image_model(), task="find-directions", methods=["magic"])
    assert result.status == "failed" and "covariance" in result.error.remedy
    result = run(tmp_path, image_model(DiskBrightness(gain=0.0)), task="find-directions", samples=60)
    assert "no direction changes its answer" in result.error.message


def test_cancelling_leaves_no_artifact(tmp_path, generator):
    seen = []
    progress = Progress(lambda event: seen.append(event), cancelled=lambda: len(seen) > 2, interval=0)
    result = explain(tmp_path, progress=progress)
    assert result.status == "cancelled"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.json"]


def test_the_network_is_left_as_it_was(tmp_path, generator):
    model = image_model()
    explain(tmp_path, model)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.network.parameters())
