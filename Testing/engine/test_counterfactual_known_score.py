"""The latent that carries the explained model's answer is set to what the model says of an image."""

from dataclasses import replace

import pytest
import torch
from support.counterfactual_standins import DirectAnswer, LinearSpace
from xaiengine.counterfactual.generator.inversion import invert
from xaiengine.counterfactual.generator.latent_geometry import LatentGeometry
from xaiengine.counterfactual.generator_context import Setting, load_setting
from xaiengine.models.session import Session
from xaiengine.tasks.find_directions.finding import generated_answer

CPU = torch.device("cpu")
VALUES = torch.tensor([-3.0, 0.0, 2.0])


@pytest.fixture(scope="module")
def shipped() -> Setting:
    return load_setting("chest_xray_counterfactual", CPU)


@pytest.fixture(scope="module")
def model():
    return Session().model("chest_xray_consolidation_classifier", CPU)


def described(setting: Setting, **changed: object) -> Setting:
    description = setting.stored.description.model_copy(update=changed)
    return replace(setting, stored=replace(setting.stored, description=description))


def test_log_odds_are_halved_for_the_generator_of_this_model(shipped, model):
    answer = generated_answer(shipped, model, "consolidation", "", None).answer
    torch.testing.assert_close(shipped.score_latents(model, answer, VALUES), VALUES / 2)


def test_values_of_a_regression_are_standardized_first(shipped, model):
    answer = generated_answer(shipped, model, "consolidation", "", None).answer
    regression = described(shipped, score_mean=10.0, score_deviation=4.0)
    torch.testing.assert_close(regression.score_latents(model, answer, torch.tensor([14.0])), torch.tensor([0.5]))


def test_another_target_or_model_says_nothing_of_that_latent(shipped, model):
    other = generated_answer(shipped, model, "clear", "", None).answer
    assert shipped.score_latents(model, other, VALUES) is None
    answer = generated_answer(shipped, model, "consolidation", "", None).answer
    assert described(shipped, explained_model="0" * 64).score_latents(model, answer, VALUES) is None


def test_inversion_starts_from_the_known_score_and_the_encoder_s_other_latents():
    space = LinearSpace()
    images = space.decode(space.sample(3))
    geometry, plain = LatentGeometry.of(space), space.encode(images)
    found = invert(space, DirectAnswer(), geometry, images, steps=0, refine="none", score_latents=VALUES)
    torch.testing.assert_close(found.latents[:, 0], VALUES)
    torch.testing.assert_close(found.latents[:, 1:], plain[:, 1:])
    torch.testing.assert_close(found.reconstructions, space.decode(found.latents))
