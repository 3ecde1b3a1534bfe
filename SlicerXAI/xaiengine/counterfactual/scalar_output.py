"""The number that a counterfactual moves: the log-odds of a class, or a regression's value."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..core.errors import OptionError
from ..models.explained_model import ExplainedModel
from ..targets.targets import ClassTarget, DifferenceTarget, Target, checked_output, choose_target

SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Answer:
    """A target on the scale on which it is moved, and on the one on which it is shown.

    Classes are moved as log-odds, which do not saturate, and shown as probabilities: against all others of a
    softmax, against its own absence for a label, against one other class where two are compared. Values of a
    regression are moved and shown as they are. ``decision`` is the shown value at
    which the prediction crosses the decision threshold; None where there is none.
    """

    target: Target
    is_class: bool
    decision: float | None

    @property
    def name(self) -> str:
        name = self.target.name
        if isinstance(self.target, DifferenceTarget):
            first, second = (side.name.removeprefix("logit of ") for side in (self.target.first, self.target.second))
            return f"probability of {first} against {second}"
        return name.replace("logit of", "probability of") if self.is_class else name

    @property
    def unit(self) -> str:
        return "" if self.is_class else self.target.unit

    @property
    def turning_point(self) -> float | None:
        """The decision on the scale on which the answer is moved."""
        return None if self.decision is None else float(self.moved(torch.tensor(float(self.decision))))

    def value(self, output: torch.Tensor) -> torch.Tensor:
        """What is moved (n,), float32, from a network's output (n, K)."""
        if not self.is_class:
            return self.target.value(output)
        if isinstance(self.target, ClassTarget):
            return _class_log_odds(self.target, output)
        return self.target.value(output)

    def shown(self, values: torch.Tensor) -> torch.Tensor:
        """Moved values as probabilities, or as they are."""
        return values.sigmoid() if self.is_class else values

    def moved(self, shown: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`shown`."""
        return shown.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY).logit() if self.is_class else shown

    def check_wanted(self, wanted: float) -> None:
        """Raise OptionError for a prediction that cannot be."""
        if self.is_class and not 0 < wanted < 1:
            raise OptionError(
                f"A prediction of {wanted:g} was asked for; the {self.name} lies between 0 and 1.",
                "Ask for a probability such as 0.2.",
            )


def choose_answer(
    model: ExplainedModel, output: torch.Tensor, wanted: str = "", against: str = "", decision: float | None = None
) -> Answer:
    """The answer that a user asked for, see :func:`xaiengine.targets.targets.choose_target`.

    ``output`` (1, K) is the prediction that decides what an empty ``wanted`` stands for (of two classes: the
    second); ``decision`` (a probability, or a value of the regression) is the threshold: one half for
    classes, nowhere for regressions if None.

    Raises:
        OptionError: no such label, or a decision that is no probability.
    """
    wanted = wanted or model.target
    if not wanted and model.task != "regression" and len(model.labels) == 2:
        wanted = model.labels[1]  # the same side for every image, so that directions can be shared
    target = choose_target(model, output, wanted, against=against)
    is_class = model.task != "regression"
    if decision is None and is_class:
        decision = 0.5
    if is_class and decision is not None and not 0 < decision < 1:
        raise OptionError(f"The decision {decision:g} is no probability.", "Give a number between 0 and 1.")
    return Answer(target, is_class, decision)


def _class_log_odds(target: ClassTarget, output: torch.Tensor) -> torch.Tensor:
    values = checked_output(output, target.index)
    own = values[:, target.index]
    if target.activation == "none":  # the network ends in probabilities
        return own.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY).logit()
    if target.activation == "sigmoid" or values.shape[1] == 1:
        return own
    others = torch.cat([values[:, : target.index], values[:, target.index + 1 :]], 1)
    return own - others.logsumexp(1)
