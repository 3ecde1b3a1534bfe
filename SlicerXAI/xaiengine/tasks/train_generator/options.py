"""Options of the task train-generator. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from ...core.options import TaskOptions, given, option


class TrainGeneratorOptions(TaskOptions):
    former_names: ClassVar[Mapping[str, str]] = {"licence": "license"}

    images: str = given(
        "folder", "Images", "Folder of training images: pictures (.png, .jpg) or volumes (.nrrd, .nii.gz, .mha)."
    )
    model: str = given(
        "model",
        "Explained model",
        "A classifier or regression model whose prediction the reconstructions shall keep; may be empty.",
        required=False,
        default="",
    )
    size: Literal["32", "64", "128", "256", "512"] = option("64", "Size", "Of the generated images.", unit="pixels")
    plane: Literal["axial", "coronal", "sagittal"] = option(
        "axial", "Plane", "Of the slices that are taken from volumes.", group="Images"
    )
    first_slice: float = option(
        0.0, "First slice", "Part of the volume's extent at which slices begin.", ge=0, le=1, group="Images"
    )
    last_slice: float = option(
        1.0, "Last slice", "Part of the volume's extent at which they end.", ge=0, le=1, group="Images"
    )
    every_slice: int = option(1, "Every so many slices", "1 takes all.", ge=1, group="Images")
    pixel: float = option(
        0.0, "Pixel size", "Of the generated images; 0 lets each slice fill them.", unit="mm", ge=0, group="Images"
    )
    window_low: float | None = option(
        None, "Window, low", "Image value that is shown black; from the images if not given.", group="Images"
    )
    window_high: float | None = option(
        None, "Window, high", "Image value that is shown white; from the images if not given.", group="Images"
    )
    modality: str = option("", "Modality", "What the images are, for the generator's description.", group="Images")
    license: str = option("", "License", "Of the images, for the generator's description.", group="Images")
    mirror: bool = option(
        False, "Mirror", "Left and right may be exchanged (not for chests and brains).", group="Images"
    )
    target: str = option("", "Target", "Output of the model to keep and to steer; its own if empty.")
    encoder: bool = option(
        True,
        "Encoder",
        "Train an encoder jointly, so that images can be explained; without it a generator alone, from noise.",
    )
    steps: int = option(20000, "Steps", "Steps of the training.", ge=1, le=10_000_000)
    batch: int = option(16, "Batch", "Images per step.", ge=2, le=1024)
    width: int = option(16, "Width", "Feature channels at full size; they double with each halving.", ge=4, le=128)
    maximum_width: int = option(96, "Maximum width", "Feature channels at most.", ge=4, le=1024)
    latent_size: int = option(64, "Latent size", "Numbers of the style latent.", ge=2, le=1024)
    code_channels: int = option(
        6, "Code channels", "Of the spatial code that puts findings in their place; 0 for none.", ge=0, le=64
    )
    code_size: Literal["4", "8", "16", "32"] = option(
        "16", "Code size", "Places of the spatial code along a side.", unit="pixels"
    )
    learning_rate: float = option(
        0.0, "Learning rate", "Of the generator; 0 takes what suits the kind of training.", ge=0, le=1, advanced=True
    )
    adversarial: float = option(
        -1.0, "Adversarial weight", "Of the discriminator; below 0: what suits the kind.", ge=-1, advanced=True
    )
    r1: float = option(0.1, "R1 weight", "Of the discriminator's gradient penalty.", ge=0, advanced=True)
    augmentation: Literal["adaptive", "fixed", "none"] = option(
        "adaptive", "Augmentation", "Of what the discriminator sees, against learning few images by heart."
    )
    precision: Literal["auto", "full", "mixed"] = option(
        "auto", "Precision", "mixed computes in bfloat16; auto does so on a GPU.", advanced=True
    )
    held_out: float = option(
        0.1, "Held out", "Part of the images kept for figures, 500 at most.", gt=0, lt=0.9, advanced=True
    )
    save_every: int = option(
        500, "Save every", "Steps between states from which a stopped training goes on.", ge=1, advanced=True
    )
    figures_every: int = option(
        5000, "Figures every", "Steps between figures and sample pictures; 0: at the end.", ge=0, advanced=True
    )
    restart: bool = option(False, "Restart", "Begin again, even if the output folder holds the state of a training.")
