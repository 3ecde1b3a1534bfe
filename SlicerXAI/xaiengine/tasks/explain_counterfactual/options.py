"""Options of the task explain-counterfactual. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option
from ..prediction_options import series_option


class ExplainCounterfactualOptions(TaskOptions):
    volume: str = given(
        "volume", "Scan", "An image (.png, .jpg, DICOM X-ray) or a scan (.nrrd, .nii.gz, .mha, DICOM folder)."
    )
    model: str = given("model", "Model", "The explained classifier or regression model of images or slices.")
    generator: str = given(
        "model", "Generator", "Folder of a generator made by train-generator, or the name of a shipped one."
    )
    directions: str = given(
        "file",
        "Directions",
        "File made by find-directions for this model and generator; found now, once, if empty.",
        required=False,
        default="",
    )
    region: str = given(
        "segmentation",
        "Region",
        "Where the finding lies, if that is known: the figures then say what changed elsewhere. May be empty.",
        required=False,
        default="",
    )
    series: str = series_option()
    target: str = option("", "Target", "Output to explain, by name or number; the model's own if empty.")
    against: str = option("", "Against", "Explain the difference to this output. May be empty.")
    decision: float | None = option(
        None,
        "Decision",
        "The decision threshold: a probability or value; one half for classes if not given.",
    )
    wanted: float | None = option(
        None,
        "Wanted prediction",
        "Probability or value that the changed image shall get; a series to both sides if not given.",
    )
    slice: str = option(
        "middle", "Slice", "Of a volume: its number (from 0), middle, or highest (where the answer is highest)."
    )
    sides: Literal["both", "toward", "symmetric"] = option(
        "both",
        "Sides",
        "both: to either side of the reconstruction, away from the flip only while the generator's images get such "
        "answers (beyond, the answer wavers); toward: to beyond the flip alone; symmetric: as far to either side.",
    )
    frames: int = option(11, "Frames", "Images of the series; an odd number.", ge=3, le=101)
    method: Literal["auto", "logistic", "covariance", "ridge", "gradient", "style", "weights", "local"] = option(
        "auto",
        "Method",
        "How directions are found if none are given; auto: those beside the generator, else logistic for classes, "
        "covariance for values; local: the gradient path of this one image.",
    )
    direction: str = option("", "Direction", "Which of the directions, by name or number; the first if empty.")
    subspace: Literal["auto", "style", "all"] = option(
        "auto",
        "Latents that move",
        "style: the style latents, so that what lies where stays; all: the spatial code too. auto: style where the "
        "generator has a spatial code.",
        advanced=True,
    )
    samples: int = option(1000, "Samples", "Latents drawn when directions are found now.", ge=50, advanced=True)
    reach: float = option(4.0, "Reach", "Largest shift.", unit="SD", gt=0, le=20)
    refine: Literal["latent", "plus", "none"] = option(
        "latent",
        "Refinement",
        "Where the encoder's latent is refined: in the latents, in W+ (nearer, but then more changes), or not at all.",
        advanced=True,
    )
    steps: int = option(60, "Steps", "Of the refinement.", ge=0, le=2000, advanced=True)
    largest_gap: float | None = option(
        None,
        "Largest gap",
        "Between the answers to scan and reconstruction, above which the result is not valid for this scan; a "
        "probability of 0.1, or a quarter SD of the answers, if not given.",
        gt=0,
        advanced=True,
    )
    domain_limit: float = option(
        3.0, "Domain limit", "Scans less like the generator's domain are refused; 1 is typical.", gt=0, advanced=True
    )
    detail: Literal["generated", "masked"] = option(
        "generated",
        "Detail",
        "Of the changed slice: the generator's image, or that image only where it changed and the scan elsewhere (the "
        "model's answer to it is measured).",
    )
