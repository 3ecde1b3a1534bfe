"""The explained model as a joint training sees it: differentiable scores of images, and the range asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..core.errors import ModelError
from ..models.explained_model import ExplainedModel
from .explained_images import ImageAnswer, ImagePredictor, image_predictor
from .generator.generator_metrics import Features, LayerFeatures
from .generator.latent_sample import CONSTANT
from .scalar_output import choose_answer
from .series.slice_replacement import SliceFrame
from .training.joint import ScoreTarget

_ENDS = (0.01, 0.99)
_BATCH = 64


@dataclass(frozen=True)
class TrainingScore:
    """The score, what it stands for, and how it is shown; ``notes`` tell how images were made to fit the model.

    ``mean`` and ``deviation`` standardise the moved answer.
    """

    target: ScoreTarget
    name: str
    shown: Callable[[torch.Tensor], torch.Tensor]
    notes: tuple[str, ...]
    answer: ImageAnswer
    mean: float
    deviation: float


def training_score(model: ExplainedModel, frame: SliceFrame, images: torch.Tensor, wanted: str = "") -> TrainingScore:
    """The score of a target of the model for images (n, C, S, S) in [-1, 1] in the place of ``frame``.

    Raises:
        ModelError: the model cannot be differentiated here, or says the same of all training images.
    """
    predictor = image_predictor(model, frame, images[:3])
    if not predictor.differentiable:
        raise ModelError(
            f"The prediction of {model.name} cannot be part of the training: "
            + (predictor.notes[0] if predictor.notes else "the model cannot be differentiated."),
            "Train without a model, or give it in a format that can be differentiated.",
        )
    device = model.device
    answer = ImageAnswer(predictor, choose_answer(model, predictor.outputs(images[:1].to(device)), wanted))
    with torch.no_grad():
        values = torch.cat([answer(part.to(device)).float() for part in images.split(_BATCH)])
    if float(values.max() - values.min()) <= CONSTANT * max(1.0, float(values.abs().max())):
        raise ModelError(
            f"{model.name} says the same of all training images ({answer.answer.name}): there is nothing to explain.",
            "Choose another target, or images of which the model says different things.",
        )
    is_class = answer.answer.is_class
    mean, deviation = (0.0, 1.0) if is_class else (float(values.mean()), float(values.std()))

    def score(pictures: torch.Tensor) -> torch.Tensor:
        return (answer(pictures.float()).float() - mean) / deviation

    low, high = ((float(end) - mean) / deviation for end in torch.quantile(values, torch.tensor(_ENDS).to(values)))

    def shown(scores: torch.Tensor) -> torch.Tensor:
        return answer.answer.shown(scores * deviation + mean)

    target, name = ScoreTarget(score, low, high), answer.answer.name
    return TrainingScore(target, name, shown, tuple(predictor.notes), answer, mean, deviation)


def model_features(score: TrainingScore) -> Features | None:
    """Features of the explained model's last listed layer; None if it has none."""
    return predictor_features(score.answer.predictor)


def predictor_features(predictor: ImagePredictor) -> Features | None:
    """The same of images as a predictor takes them, for :func:`generator_metrics.likeness`."""
    model = predictor.model
    if not model.layers:
        return None
    from ..network.layers import find_layer

    name = model.layers[-1]
    run = lambda images: predictor.outputs(images.to(model.device))  # noqa: E731
    return LayerFeatures(run, find_layer(model.network, name), f"{model.name}, layer {name}")
