"""Training of generators: losses, augmentation, resume after a kill, figures, bad input."""

from __future__ import annotations

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg
from support import generator_training as small
from xaiengine.app.run import run_job
from xaiengine.core import atomic
from xaiengine.core.errors import CancelledError, InputError, ResourceError
from xaiengine.core.job import Job
from xaiengine.core.progress import Progress
from xaiengine.counterfactual.generator.generator_metrics import frechet_distance, precision_recall
from xaiengine.counterfactual.generator.loading import load_generator
from xaiengine.counterfactual.training.adversarial import squared_gradient
from xaiengine.counterfactual.training.augmentation import Augmentation
from xaiengine.counterfactual.training.checkpoint import STATE_FILE
from xaiengine.counterfactual.training.image_folder import FolderChoice, read_folder
from xaiengine.counterfactual.training.images import TrainingImages
from xaiengine.counterfactual.training.joint import ScoreTarget
from xaiengine.counterfactual.training.losses import discriminator_loss, generator_loss, reconstruction_loss
from xaiengine.counterfactual.training.training import DivergedError
from xaiengine.io.grid import Grid
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume

ENGINE = Path(atomic.__file__).parents[2]


def weights_of(trainer) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, network in trainer.networks().items()
        for key, value in network.state_dict().items()
    }


def same(first, second) -> bool:
    a, b = weights_of(first), weights_of(second)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class TestLosses:
    def test_logistic_losses_by_their_formula(self):
        real, fake = np.array([1.5, -0.5]), np.array([0.3, -2.0])
        expected = np.log1p(np.exp(fake)).mean() + np.log1p(np.exp(-real)).mean()
        assert float(discriminator_loss(torch.tensor(real), torch.tensor(fake))) == pytest.approx(expected)
        assert float(generator_loss(torch.tensor(fake))) == pytest.approx(np.log1p(np.exp(-fake)).mean())

    def test_gradient_penalty_of_a_quadratic(self):
        images = torch.randn(3, 1, 4, 4, requires_grad=True)
        penalty = squared_gradient(images.square().sum((1, 2, 3)), images)
        assert float(penalty.detach()) == pytest.approx(2 * float(images.detach().square().sum()) / 3, rel=1e-5)

    def test_reconstruction_loss_of_a_constant_offset_has_no_edges(self):
        images = torch.rand(2, 1, 16, 16)
        assert float(reconstruction_loss(images + 0.25, images)) == pytest.approx(4 * 0.25, rel=1e-5)

    def test_path_length_of_a_linear_generator(self):
        made = small.trainer("adversarial")
        objective, generator = made.objective, made.generator
        matrix = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
        generator.synthesis = lambda w, code, noise: (w.mean(1) @ matrix).reshape(-1, 1, 4, 4)
        torch.manual_seed(5)
        penalty = objective.path_length_penalty(4, torch.device("cpu"))
        torch.manual_seed(5)
        torch.randn(4, 6)
        direction = torch.randn(4, 1, 4, 4).flatten(1) / 4
        layers = generator.settings.layers
        pulled = direction @ matrix.T / layers  # the gradient for each of the layers' latents
        lengths = pulled.square().sum(1).sqrt()
        mean = 0.01 * lengths.mean()
        assert float(penalty.detach()) == pytest.approx(float((lengths - mean).square().mean()), rel=1e-4)


class TestAugmentation:
    def test_leaves_images_alone_at_probability_zero(self):
        images = torch.rand(2, 1, 8, 8)
        assert Augmentation(0.0)(images) is images

    def test_passes_gradients(self):
        images = torch.rand(4, 1, 16, 16, requires_grad=True)
        torch.manual_seed(0)
        Augmentation(1.0, mirror=True)(images).sum().backward()
        assert float(images.grad.abs().sum()) > 0

    def test_changes_about_the_wanted_share_of_images(self):
        torch.manual_seed(1)
        images = torch.rand(1, 1, 16, 16).expand(2000, -1, -1, -1)
        changed = (Augmentation(0.1)(images) - images).abs().amax((1, 2, 3)) > 1e-3
        assert float(changed.float().mean()) == pytest.approx(1 - 0.9**5, abs=0.04)

    def test_probability_follows_how_sure_the_discriminator_is(self):
        augmentation = Augmentation(0.5, target=0.6, images=100)
        assert augmentation.adapt(torch.ones(10)) == 1.0
        assert augmentation.probability == pytest.approx(0.6)
        augmentation.adapt(torch.tensor([1.0, -1.0] * 10))
        assert augmentation.probability == pytest.approx(0.4)

    def test_probability_stays_between_nothing_and_always(self):
        augmentation = Augmentation(0.0, images=1)
        augmentation.adapt(-torch.ones(8))
        assert augmentation.probability == 0.0
        augmentation.adapt(torch.ones(8))
        assert augmentation.probability == 1.0


class TestFigures:
    def test_frechet_distance_of_known_features(self):
        random = np.random.default_rng(0)
        first, second = random.normal(size=(300, 5)), random.normal(size=(200, 5)) @ random.normal(size=(5, 5)) + 1
        c1, c2 = np.cov(first.T), np.cov(second.T)
        expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
        assert frechet_distance(*(torch.tensor(v) for v in (first, second))) == pytest.approx(expected, rel=1e-6)

    def test_same_features_have_no_distance(self):
        features = torch.randn(100, 4)
        assert frechet_distance(features, features) == pytest.approx(0, abs=1e-4)
        assert precision_recall(features, features) == (1.0, 1.0)

    def test_precision_and_recall_of_half_covered_clusters(self):
        left, right = torch.randn(60, 3), torch.randn(60, 3) + 100
        precision, recall = precision_recall(torch.cat([left, right]), left + 0.01)
        assert precision == 1.0
        assert recall == pytest.approx(0.5)


class TestTrainingImages:
    def test_every_image_is_seen_once_an_epoch(self):
        images = TrainingImages(torch.arange(12, dtype=torch.uint8).reshape(12, 1, 1, 1))
        seen = torch.cat([images.batch(step, 4, seed=3) for step in range(3)]).flatten()
        assert sorted(((seen + 1) * 127.5).round().int().tolist()) == list(range(12))

    def test_order_differs_by_epoch_and_seed_but_repeats(self):
        images = TrainingImages(small.disks())
        first = images.batch(0, 8, seed=1)
        assert torch.equal(first, images.batch(0, 8, seed=1))
        assert not torch.equal(first, images.batch(3, 8, seed=1))
        assert not torch.equal(first, images.batch(0, 8, seed=2))


class TestTraining:
    @pytest.mark.parametrize("kind", ["joint", "adversarial"])
    def test_repeats_exactly_for_a_seed(self, kind):
        first, second = small.trainer(kind), small.trainer(kind)
        for trainer in (first, second):
            for _ in range(5):
                trainer.step()
        assert same(first, second)

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["joint", "adversarial"])
    def test_goes_on_exactly_after_a_kill(self, kind, tmp_path):
        whole = small.trainer(kind)
        small.run_in(tmp_path / "whole", whole).run()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ENGINE), str(Path(__file__).parents[1])])}
        command = [sys.executable, "-m", "support.generator_training", str(tmp_path / "killed"), kind, "9"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 9, ended.stderr
        resumed = small.trainer(kind)
        run = small.run_in(tmp_path / "killed", resumed)
        assert run.resume() and run.resumed_at == 8
        run.run()
        assert same(whole, resumed)
        assert resumed.augmentation.probability == whole.augmentation.probability
        logs = [list(csv.DictReader(open(tmp_path / name / "training_log.csv"))) for name in ("whole", "killed")]
        assert logs[0][-1]["step"] == logs[1][-1]["step"] == str(small.STEPS)

    def test_state_of_another_training_is_not_continued(self, tmp_path):
        small.run_in(tmp_path, small.trainer()).run()
        other = small.run_in(tmp_path, small.trainer(generator_rate=0.01))
        with pytest.raises(InputError, match="another training") as caught:
            other.resume()
        assert "restart" in caught.value.remedy

    def test_losses_that_are_no_numbers_stop_it_and_the_last_state_stays(self, tmp_path):
        made = small.trainer("joint")

        def score(images: torch.Tensor) -> torch.Tensor:
            return images.mean((1, 2, 3)) * (torch.nan if made.step_number >= 5 else 1)

        made.objective.target = ScoreTarget(score, -1, 1)
        with pytest.raises(DivergedError, match="at step 5") as caught:
            small.run_in(tmp_path, made).run()
        assert "lower rates" in caught.value.remedy
        restored = small.trainer("joint")
        run = small.run_in(tmp_path, restored)
        assert run.resume() and restored.step_number == 4
        assert all(bool(torch.isfinite(value).all()) for value in weights_of(restored).values())

    def test_full_disk_is_said_and_the_last_state_stays(self, tmp_path, monkeypatch):
        made = small.trainer()
        save, calls = torch.save, []

        def fail_the_second_time(content, path):
            calls.append(path)
            if len(calls) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            save(content, path)

        monkeypatch.setattr(torch, "save", fail_the_second_time)
        with pytest.raises(ResourceError, match="disk is full"):
            small.run_in(tmp_path, made).run()
        assert sorted(item.name for item in tmp_path.iterdir()) == ["training_log.csv", STATE_FILE]
        resumed = small.trainer()
        assert small.run_in(tmp_path, resumed).resume() and resumed.step_number == 2

    def test_cancelled_training_keeps_its_state(self, tmp_path):
        made = small.trainer()
        progress = Progress(lambda event: None, cancelled=lambda: made.step_number >= 7)
        with pytest.raises(CancelledError):
            small.run_in(tmp_path, made, progress=progress).run()
        resumed = small.trainer()
        assert small.run_in(tmp_path, resumed).resume() and resumed.step_number == 7

    @pytest.mark.slow
    def test_learns_to_reconstruct_and_to_steer(self):
        made = small.trainer("joint", steps=250, generator_rate=0.008, adversarial=0.0, cosine=True, batch=8)
        for _ in range(250):
            made.step()
        space = made.latent_space()
        images = TrainingImages(small.disks(16, seed=5)).chosen(slice(None))
        latents = space.encode(images)
        assert float((space.decode(latents) - images).abs().mean()) < 0.12
        scores = []
        for asked in (-1.0, 0.0, 1.0):
            latents[:, 0] = asked / 2
            scores.append(float(small.brightness(space.decode(latents)).mean()))
        assert scores[0] < scores[1] - 0.3 < scores[2] - 0.6


def pictures_in(folder: Path, count: int, color: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(small.disks(max(count, 1))[:count]):
        pixels = image[0].numpy()
        Image.fromarray(np.stack([pixels, pixels // 2, 255 - pixels], -1) if color else pixels).save(
            folder / f"{number:03d}.png"
        )
    return folder


class TestFolder:
    def test_pictures_come_in_the_engines_order(self, tmp_path):
        pixels = np.zeros((32, 32), np.uint8)
        pixels[4:8, 20:28] = 255  # rows, columns
        folder = pictures_in(tmp_path, 15)
        Image.fromarray(pixels).save(folder / "zzz.png")
        read = read_folder(folder, FolderChoice(32))
        assert read.window == (0.0, 255.0) and read.plane == ""
        image = read.images.chosen(slice(None))[-1, 0]
        assert float(image[20:28, 4:8].min()) == 1.0
        assert float(image[4:8, 20:28].max()) == -1.0

    def test_volumes_give_slices_of_a_plane_in_a_range(self, tmp_path):
        values = np.random.default_rng(0).normal(size=(40, 36, 41)).astype(np.float32)
        values += np.arange(41) * 10  # along k
        grid = Grid.from_directions(values.shape, (1.0, 1.0, 2.0))
        write_volume(tmp_path / "scan.nrrd", Volume(values, grid, "scan"))
        read = read_folder(tmp_path, FolderChoice(32, "axial", 0.25, 0.75, 1, 0.0, (0.0, 400.0)))
        means = read.images.chosen(slice(None)).mean((1, 2, 3))
        assert len(means) == 21 and read.plane == "axial"
        assert bool((means.diff() > 0).all())

    def test_unreadable_files_are_named_and_left_out(self, tmp_path):
        folder = pictures_in(tmp_path, 16)
        (folder / "broken.png").write_bytes(b"no picture")
        read = read_folder(folder, FolderChoice(32))
        notes = {row["file"]: row["note"] for row in read.rows}
        assert len(read.images) == 16 and notes["broken.png"] and not notes["000.png"]

    def test_color_images_have_three_channels(self, tmp_path):
        assert read_folder(pictures_in(tmp_path, 16, color=True), FolderChoice(32)).images.channels == 3

    @pytest.mark.parametrize(("count", "says"), [(5, "5 training images"), (0, "holds no images")])
    def test_too_few_images_are_refused(self, tmp_path, count, says):
        with pytest.raises(InputError, match=says):
            read_folder(pictures_in(tmp_path, count), FolderChoice(32))

    def test_gray_and_color_are_not_mixed(self, tmp_path):
        pictures_in(tmp_path / "a", 10)
        pictures_in(tmp_path / "b", 10, color=True)
        with pytest.raises(InputError, match="mixes gray and color"):
            read_folder(tmp_path, FolderChoice(32))

    def test_missing_folder(self, tmp_path):
        with pytest.raises(InputError, match="There is no folder"):
            read_folder(tmp_path / "nothing", FolderChoice(32))


class TestTask:
    OPTIONS = {
        "size": "32",
        "code_size": "8",
        "code_channels": 2,
        "steps": 6,
        "batch": 4,
        "width": 4,
        "maximum_width": 8,
        "latent_size": 6,
        "save_every": 2,
        "figures_every": 0,
    }

    def job(self, tmp_path: Path, **options: object) -> Job:
        folder = tmp_path / "images"
        if not folder.exists():
            pictures_in(folder, 20)
        return Job(
            task="train-generator",
            inputs={"images": str(folder)},
            options={**self.OPTIONS, **options},
            device="cpu",
            output=str(tmp_path / "result"),
        )

    def test_output_folder_is_a_generator(self, tmp_path):
        result = run_job(self.job(tmp_path))
        assert result.status == "finished", result.error
        stored = load_generator(tmp_path / "result")
        assert stored.space.encoder is not None and stored.space.settings.size == 32
        assert stored.description.training["domain"]["l1"] > 0
        roles = {item.role for item in result.artifacts}
        assert roles == {"generator", "weights", "encoder", "log", "images", "samples"}
        assert any("are few" in warning for warning in result.warnings)
        assert result.values["features"] == "fixed random network"

    def test_second_run_continues_the_first(self, tmp_path):
        job = self.job(tmp_path)
        assert run_job(job).status == "finished"
        again = run_job(job)
        assert again.status == "finished" and again.provenance["resumed_at"] == 6
        changed = run_job(self.job(tmp_path, steps=7))
        assert changed.status == "failed" and "another training" in changed.error.message
        again = run_job(self.job(tmp_path, steps=7, restart=True))
        assert again.status == "finished" and again.provenance["resumed_at"] == 0

    def test_model_takes_part_and_is_named(self, tmp_path):
        job = self.job(tmp_path).model_copy(update={"model": "chest_xray_consolidation_classifier"})
        result = run_job(job)
        assert result.status == "finished", result.error
        assert 0 <= result.values["prediction_difference"] <= 1
        description = json.loads((tmp_path / "result" / "generator.json").read_text(encoding="utf-8"))
        assert description["target"] == "probability of consolidation"
        assert "chest_xray_consolidation_classifier" in result.values["features"]

    def test_generator_alone_learns_from_noise(self, tmp_path):
        result = run_job(self.job(tmp_path, encoder=False))
        assert result.status == "finished", result.error
        assert load_generator(tmp_path / "result").space.encoder is None
        assert "l1" not in result.values

    def test_model_without_encoder_is_refused(self, tmp_path):
        job = self.job(tmp_path, encoder=False).model_copy(update={"model": "chest_xray_consolidation_classifier"})
        result = run_job(job)
        assert result.status == "failed" and "without an encoder" in result.error.message

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"window_low": 5.0}, "window"),
            ({"first_slice": 0.8, "last_slice": 0.2}, "Slices from"),
            ({"code_size": "32", "size": "32", "width": 5, "maximum_width": 4, "batch": 1}, "batch"),
        ],
    )
    def test_options_that_do_not_fit_are_said(self, tmp_path, options, says):
        result = run_job(self.job(tmp_path, **options))
        assert result.status == "failed" and says in result.error.message

    def test_estimate_trains_nothing(self, tmp_path):
        result = run_job(self.job(tmp_path).model_copy(update={"only_estimate": True}))
        assert result.status == "finished" and result.values["estimated_seconds"] > 0
        assert not (tmp_path / "result" / "training").exists()
