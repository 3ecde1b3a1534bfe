"""Options of the task find-directions. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option


class FindDirectionsOptions(TaskOptions):
    generator: str = given(
        "model", "Generator", "Folder of a generator made by train-generator, or the name of a shipped one."
    )
    model: str = given("model", "Model", "The explained classifier or regression model of images or slices.")
    target: str = option("", "Target", "Output to explain, by name or number; the model's own if empty.")
    against: str = option("", "Against", "Explain the difference to this output. May be empty.")
    decision: float | None = option(
        None,
        "Decision",
        "The decision threshold: a probability or value; one half for classes if not given.",
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
