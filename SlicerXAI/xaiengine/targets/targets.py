"""What number of a model's output is explained: a class, a difference of classes, a regression value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import ModelError, OptionError

if TYPE_CHECKING:
    import torch

    from ..models.explained_model import ExplainedModel

Score = Literal["logit", "probability", "log_probability"]
Activation = Literal["softmax", "sigmoid", "none"]


class Target(ABC):
    """One number per sample, taken from the output of a network.

    Subclasses are frozen: a target means the same for every perturbed input of one explanation.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The target in words, for captions."""

    @property
    def unit(self) -> str:
        """The unit of the value, empty for logits and probabilities."""
        return ""

    @abstractmethod
    def value(self, output: torch.Tensor) -> torch.Tensor:
        """The explained number of each sample, (N,) float32, from an output (N, C, ...)."""

    def cotangent(self, output: torch.Tensor) -> torch.Tensor:
        """The derivative of the summed values with respect to the output, in the output's shape."""
        import torch

        with torch.enable_grad():
            leaf = output.detach().float().requires_grad_()
            (gradient,) = torch.autograd.grad(self.value(leaf).sum(), leaf)
        return gradient.to(output.dtype)


@dataclass(frozen=True)
class ClassTarget(Target):
    """One class of a softmax model, or one label of a multi-label (sigmoid) model."""

    index: int
    label: str = ""
    score: Score = "logit"
    activation: Activation = "softmax"

    @property
    def name(self) -> str:
        return f"{self.score.replace('_', ' ')} of {self.label or f'class {self.index}'}"

    def value(self, output: torch.Tensor) -> torch.Tensor:
        logits = checked_output(output, self.index)
        return scored(logits, self.score, self.activation)[:, self.index]


@dataclass(frozen=True)
class BinaryTarget(Target):
    """One side of a model with a single logit: the positive class, or the absence of it."""

    positive: bool = True
    label: str = ""
    score: Score = "logit"

    @property
    def name(self) -> str:
        side = self.label or ("positive" if self.positive else "negative")
        return f"{self.score.replace('_', ' ')} of {side}"

    def value(self, output: torch.Tensor) -> torch.Tensor:
        logit = checked_output(output, 0)[:, 0]
        return scored(logit if self.positive else -logit, self.score, "sigmoid")


@dataclass(frozen=True)
class RegressionTarget(Target):
    """One output of a regression model, in its own unit."""

    index: int = 0
    label: str = ""
    measured_in: str = ""

    @property
    def name(self) -> str:
        return self.label or f"output {self.index}"

    @property
    def unit(self) -> str:
        return self.measured_in

    def value(self, output: torch.Tensor) -> torch.Tensor:
        return checked_output(output, self.index)[:, self.index]


@dataclass(frozen=True)
class TopKTarget(Target):
    """The sum over several classes, chosen once on the unperturbed prediction."""

    indices: tuple[int, ...]
    labels: tuple[str, ...] = ()
    score: Score = "logit"
    activation: Activation = "softmax"

    @property
    def name(self) -> str:
        return f"{self.score.replace('_', ' ')} of {' + '.join(self.labels or map(str, self.indices))}"

    def value(self, output: torch.Tensor) -> torch.Tensor:
        logits = checked_output(output, max(self.indices))
        return scored(logits, self.score, self.activation)[:, list(self.indices)].sum(1)


@dataclass(frozen=True)
class DifferenceTarget(Target):
    """What speaks for one target and against another."""

    first: Target
    second: Target

    @property
    def name(self) -> str:
        return f"{self.first.name} minus {self.second.name}"

    @property
    def unit(self) -> str:
        return self.first.unit

    def value(self, output: torch.Tensor) -> torch.Tensor:
        return self.first.value(output) - self.second.value(output)


def checked_output(output: torch.Tensor, index: int) -> torch.Tensor:
    """The output as (N, C) float32. Raises ModelError when it has another form, or no such channel."""
    flat = output.float()
    if flat.ndim > 2 and flat[0, 0].numel() == 1:
        flat = flat.flatten(1)
    if flat.ndim == 1:
        flat = flat[:, None]
    if flat.ndim != 2:
        raise ModelError(
            f"The model's output has the shape {tuple(output.shape)}; one row of numbers per sample was expected.",
            "A model with an output per voxel is explained by the task explain-segmentation.",
        )
    if index >= flat.shape[1]:
        raise ModelError(
            f"The target asks for output {index}, but the model has {flat.shape[1]} outputs.",
            "Choose another target, or correct the labels of the model.",
        )
    return flat


def scored(logits: torch.Tensor, score: Score, activation: Activation) -> torch.Tensor:
    """Logits as they are, or as probabilities or their logarithms. ``none`` leaves every output as it is."""
    if score == "logit" or activation == "none":
        return logits
    if activation == "softmax":
        return logits.softmax(1) if score == "probability" else logits.log_softmax(1)
    import torch

    return logits.sigmoid() if score == "probability" else torch.nn.functional.logsigmoid(logits)


def choose_target(
    model: ExplainedModel,
    output: torch.Tensor,
    wanted: str = "",
    *,
    against: str = "",
    top_k: int = 1,
    score: Score = "logit",
) -> Target:
    """The target that a user asked for.

    ``output`` is the unperturbed prediction of one sample, (1, C). An empty ``wanted`` takes the predicted
    class (the first output of a regression model); with ``top_k`` above 1 the sum of the k highest classes.
    ``against`` gives the difference to a second class.

    Raises:
        OptionError: no such label (the message names them), or options that do not go together.
    """
    output = checked_output(output, 0)
    if top_k > 1:
        if wanted or against or model.task == "regression" or output.shape[1] < 2:
            raise OptionError(
                f"The target is both the top {top_k} classes and something else.",
                "Leave target and against empty, and use top_k with models of several classes only.",
            )
        indices = tuple(int(index) for index in output[0].topk(min(top_k, output.shape[1])).indices)
        labels = tuple(_label(model, index) for index in indices)
        return TopKTarget(indices, labels, score, model.activation)
    first = _single(model, output, wanted, score)
    if not against:
        return first
    second = _single(model, output, against, score)
    if second == first:
        raise OptionError(f"The target {first.name} is set against itself.", "Name another class in against.")
    return DifferenceTarget(first, second)


def _single(model: ExplainedModel, output: torch.Tensor, wanted: str, score: Score) -> Target:
    if model.task == "regression":
        index = model.label_index(wanted) if wanted else 0
        unit = str(model.defaults.get("explain-prediction", {}).get("unit", ""))
        return RegressionTarget(index, _label(model, index), unit)
    if output.shape[1] == 1:
        return _binary(model, output, wanted, score)
    index = model.label_index(wanted) if wanted else int(output[0].argmax())
    checked_output(output, index)
    return ClassTarget(index, _label(model, index), score, model.activation)


def _binary(model: ExplainedModel, output: torch.Tensor, wanted: str, score: Score) -> BinaryTarget:
    """A single logit speaks for the last label; with two labels, the first names its absence."""
    labels = model.labels or ("positive",)
    if wanted:
        positive = model.label_index(wanted) == len(labels) - 1
    else:
        positive = bool(output[0, 0] > 0) or len(labels) == 1
    return BinaryTarget(positive, labels[-1] if positive else labels[0], score)


def _label(model: ExplainedModel, index: int) -> str:
    return model.labels[index] if index < len(model.labels) else f"class {index}"


def predicted_probabilities(model: ExplainedModel, output: torch.Tensor) -> dict[str, float]:
    """What the model says, by label: probabilities of a classifier, the outputs of a regression model."""
    output = checked_output(output, 0)
    if output.shape[1] == 1 and model.task != "regression":
        positive = float(output[0, 0].sigmoid()) if model.activation != "none" else float(output[0, 0])
        labels: tuple[Any, ...] = model.labels or ("positive",)
        named = {labels[-1]: positive}
        return {labels[0]: 1 - positive, **named} if len(labels) == 2 else named
    values = output if model.task == "regression" else model.probabilities(output)
    return {_label(model, index): float(value) for index, value in enumerate(values[0])}
