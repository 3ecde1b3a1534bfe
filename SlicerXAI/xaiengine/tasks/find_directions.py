"""Task: along which directions of a generator's latents the explained model's answer changes."""

from __future__ import annotations

from typing import Literal

from ..options import TaskOptions, given, option
from .task import Context, Outcome, OutputSpec, Task, ValueSpec


class FindDirectionsOptions(TaskOptions):
    generator: str = given(
        "model", "Generator", "Folder of a generator made by train-generator, or the name of a shipped one."
    )
    model: str = given("model", "Model", "The explained classifier or regression model of images or slices.")
    target: str = option("", "Target", "Output to explain, by name or number; the model's own if empty.")
    against: str = option("", "Against", "Explain the difference to this output. May be empty.")
    decision: float | None = option(
        None, "Decision", "Probability or value at which the answer turns over; one half for classes if not given."
    )
    methods: list[str] = option(
        ["auto"],
        "Methods",
        "One or several: logistic (auto for classes), covariance (auto for values), ridge: the model is a black box; "
        "style (channels, a black box too, slow); weights (singular vectors); gradient (of the model, averaged).",
    )
    samples: int = option(2000, "Samples", "Latents drawn; a fifth of them is held out.", ge=50, le=1_000_000)
    subspace: Literal["auto", "style", "all"] = option(
        "auto",
        "Latents that move",
        "style: the style latents, so that what lies where stays; all: the spatial code too. auto: style where the "
        "generator has a spatial code.",
    )
    attributes: int = option(1, "Attributes", "Orthogonal directions per method.", ge=1, le=10)
    reach: float = option(4.0, "Reach", "Largest shift that is looked at.", unit="SD", gt=0, le=20, advanced=True)
    judged: int = option(12, "Judged images", "Held-out latents on which flips are counted.", ge=1, advanced=True)
    gradients: int = option(200, "Gradients", "Latents over which gradients are averaged.", ge=1, advanced=True)
    style_images: int = option(4, "Images of the channel search", "For the method style.", ge=1, advanced=True)
    channels: int = option(5, "Channels", "Style channels per direction of the method style.", ge=1, advanced=True)


class FindDirections(Task):
    """See :mod:`xaiengine.counterfactual.finding`; the file is given to explain-counterfactual."""

    name = "find-directions"
    title = "Find directions"
    description = (
        "Finds out along which directions of a generator's latents a classifier's or regression model's answer "
        "changes, and says how well each does on held-out latents. For research, not for diagnosis."
    )
    Options = FindDirectionsOptions
    outputs = (
        OutputSpec("directions", "data", "Directions", "The directions, for explain-counterfactual (.safetensors)."),
        OutputSpec("table", "table", "Figures", "How each direction does on held-out latents."),
    )
    values = (
        ValueSpec("explained_target", "Target", "What was explained.", "string"),
        ValueSpec("auc", "AUC", "Of the first direction's surrogate on held-out latents; classes only."),
        ValueSpec("r2", "R²", "Of the same surrogate."),
        ValueSpec("flip_rate", "Flip rate", "Part of the judged images whose answer the first direction turns over."),
        ValueSpec("spearman", "Spearman", "Mean rank correlation of shift and answer along the first direction."),
    )

    def run(self, options: FindDirectionsOptions, context: Context) -> Outcome:
        from ..counterfactual.finding import find_and_write

        return find_and_write(options, context)
