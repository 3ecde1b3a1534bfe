"""What the joint training of generator and encoder asks for at one step."""

import pytest
import torch
from support import generator_training as small
from xaiengine.counterfactual.training.joint import SCORE_SCALE

BATCH = 32


@pytest.fixture
def asked():
    """The latents that one step makes images of, the images' scores, and those that were asked for."""
    made = small.trainer("joint", batch=BATCH)
    objective, seen = made.objective, []
    plain = objective.decode

    def decode(latents):
        seen.append(latents.detach().clone())
        return plain(latents)

    objective.decode = decode
    torch.manual_seed(1)
    images = made.images.chosen(torch.arange(BATCH).numpy() % len(made.images))
    _, parts, result = objective.generator_loss(images, 0.0)
    return seen[0], small.brightness(images), result, parts


def test_reconstructions_are_made_with_the_score_that_the_model_gives(asked):
    latents, told, result, _ = asked
    torch.testing.assert_close(result.told, told)
    torch.testing.assert_close(latents[:BATCH, 0] * SCORE_SCALE, told)
    torch.testing.assert_close(latents[BATCH:, 0] * SCORE_SCALE, result.asked)


def test_another_score_changes_the_score_latent_and_nothing_else(asked):
    latents, _, result, _ = asked
    torch.testing.assert_close(latents[BATCH:, 1:], latents[: BATCH // 2, 1:])
    assert len(result.asked) == BATCH // 2 and len(result.asked.unique()) == BATCH // 2


def test_every_other_score_that_is_asked_for_is_near_and_the_rest_cover_the_range_and_a_little_more(asked):
    _, told, result, _ = asked
    away = (result.asked - told[: BATCH // 2]).abs()
    assert (away[::2] <= 1.5 + 1e-5).all() and away[1::2].max() > 1.5
    assert result.asked.abs().max() <= 2.0 + 0.1 * 4.0 + 1e-5
    assert result.asked[1::2].max() - result.asked[1::2].min() > 2.0


def test_slope_is_what_the_answer_lacks_of_the_step_that_was_asked_for(asked):
    _, told, result, parts = asked
    half = BATCH // 2
    lacking = small.brightness(result.other) - small.brightness(result.again[:half]) - (result.asked - told[:half])
    size = lacking[::2].abs()
    smooth = torch.where(size < 0.1, size.square() / 0.2, size - 0.05).mean()
    settings = small.trainer("joint").settings
    torch.testing.assert_close(parts["slope"].detach(), settings.slope * smooth)
