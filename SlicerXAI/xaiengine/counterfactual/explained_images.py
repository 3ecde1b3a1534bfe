"""What the explained model says of a generator's images: f(G(w)) in batches, differentiable where the model is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from ..core.errors import ModelError
from ..models.explained_model import ExplainedModel
from ..network.layers import frozen_parameters
from .preparation import find_preparation, prepared_values, through_transforms
from .scalar_output import Answer
from .series.slice_replacement import SliceFrame

BATCH = 64


@dataclass(eq=False)
class ImagePredictor:
    """The explained model as a function of images (n, C, S, S) in [-1, 1] that lie in the place of one slice.

    ``notes`` tell what was done to make the images fit the model.
    """

    model: ExplainedModel
    frame: SliceFrame
    prepare: Callable[[torch.Tensor], torch.Tensor]
    differentiable: bool
    resized: tuple[int, int] | None = None
    notes: list[str] = field(default_factory=list)
    passes: int = 0

    def outputs(self, images: torch.Tensor) -> torch.Tensor:
        """The network's outputs (n, K) for images; with gradients if they are asked for and can be had."""
        if not (self.differentiable and torch.is_grad_enabled() and images.requires_grad):
            with torch.no_grad():
                return torch.cat([self._network(self.prepare(part)) for part in images.split(BATCH)])
        with frozen_parameters(self.model.network):
            return self._network(self.prepare(images))

    def own_output(self) -> torch.Tensor:
        """The network's output (1, K) for the scan's own slice, untouched by the generator."""
        return self.output_of_slice(self.frame.own_values())

    def output_of_slice(self, values: np.ndarray) -> torch.Tensor:
        """The output (1, K) for values (C, ...) in the place of the scan's slice, one voxel thick."""
        with torch.no_grad():
            return self._network(prepared_values(self.model, self.frame, values)[None].to(self.model.device))

    def _network(self, inputs: torch.Tensor) -> torch.Tensor:
        inputs = inputs.to(self.model.device)
        if self.resized is not None:
            inputs = torch.nn.functional.interpolate(inputs, self.resized, mode="bilinear", align_corners=False)
        self.passes += len(inputs)
        network, select = self.model.network, self.model.select_output
        if self.model.capabilities.free_batch:
            return select(network(inputs)).float()
        return torch.cat([select(network(row)).float() for row in inputs.split(1)])


@dataclass(eq=False)
class ImageAnswer:
    """The answer (n,) of the explained model for images, on the scale on which it is moved."""

    predictor: ImagePredictor
    answer: Answer

    @property
    def differentiable(self) -> bool:
        return self.predictor.differentiable

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.answer.value(self.predictor.outputs(images))

    def shown(self, images: torch.Tensor) -> torch.Tensor:
        """The answer (n,) as it is shown: probabilities of a class."""
        return self.answer.shown(self(images))

    def own(self) -> torch.Tensor:
        """The moved answer (1,) for the scan's own slice."""
        return self.answer.value(self.predictor.own_output())


def image_predictor(model: ExplainedModel, frame: SliceFrame, examples: torch.Tensor) -> ImagePredictor:
    """The predictor of images in a frame; ``examples`` (n, C, S, S) are images as the generator makes them.

    Raises:
        ModelError: the model segments or takes whole volumes; it takes other channels, or images of a size that
        is not
            known.
    """
    if model.task == "segmentation" or model.spatial_dims != 2:
        kind = "segments" if model.task == "segmentation" else "takes whole volumes"
        raise ModelError(
            f"The model {model.name} {kind}; counterfactual images explain classifiers and regressors of slices.",
            "Choose a two-dimensional classifier or regression model.",
        )
    examples = examples.detach().cpu()[:3]
    slow = through_transforms(model, frame)
    fast = find_preparation(model, frame, examples)
    prepare = slow if fast is None else fast.to(model.device)
    differentiable = fast is not None and model.capabilities.differentiable
    predictor = ImagePredictor(model, frame, prepare, differentiable)
    if fast is None:
        predictor.notes.append(
            f"The preprocessing of {model.name} works on one image at a time: it is slower, and the model cannot be "
            "differentiated, so that gradient methods are not to be had."
        )
    _fit_size(predictor, examples)
    return predictor


def _fit_size(predictor: ImagePredictor, examples: torch.Tensor) -> None:
    """Find the input size that the network takes, by trying, and say when images have to be resampled to it."""
    model, device = predictor.model, predictor.model.device
    given = tuple(int(size) for size in predictor.prepare(examples[:1].to(device)).shape[-2:])
    try:
        predictor.outputs(examples[:1].to(device))
        return
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).splitlines()[0][:160]
    wanted = tuple(model.example_shape[-2:])
    if wanted and wanted != given:
        predictor.resized = wanted
        try:
            predictor.outputs(examples[:1].to(device))
        except (RuntimeError, ValueError, AssertionError):
            predictor.resized = None
        else:
            predictor.notes.append(
                f"{model.name} takes {wanted[0]} x {wanted[1]} pixels: its inputs of {given[0]} x {given[1]} pixels "
                "were resampled."
            )
            return
    raise ModelError(
        f"{model.name} does not take images of {given[0]} x {given[1]} pixels: {reason}",
        "Add a Resize to the model's preprocessing, or choose a generator of the model's size.",
    )
