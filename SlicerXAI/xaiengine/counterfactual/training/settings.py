"""How a generator is trained: sizes, rates and weights of the losses."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingSettings(BaseModel):
    """Settings of one training; what it does at a step follows from them, the data and the step's number alone.

    Weights of losses are relative to the reconstruction's (joint training) or the adversarial loss. ``encoder``: train
    generator and encoder jointly, else the generator alone, from noise. ``adversarial_from``: part of the training
    after which the discriminator has a say in joint training. ``cosine``: rates fall to 2 % along a half cosine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(10_000, ge=1)
    batch: int = Field(16, ge=2)
    seed: int = Field(0, ge=0, lt=2**31)
    encoder: bool = True
    generator_rate: float = Field(0.002, gt=0)
    encoder_rate: float = Field(0.001, gt=0)
    discriminator_rate: float = Field(0.002, gt=0)
    cosine: bool = False
    average_images: float = Field(10_000.0, gt=0)
    adversarial: float = Field(1.0, ge=0)
    adversarial_from: float = Field(0.0, ge=0, le=1)
    r1: float = Field(0.1, ge=0)
    r1_every: int = Field(16, ge=1)
    path_length: float = Field(2.0, ge=0)
    path_length_every: int = Field(8, ge=1)
    style_mixing: float = Field(0.9, ge=0, le=1)
    features: float = Field(0.5, ge=0)
    prediction: float = Field(0.1, ge=0)
    steering: float = Field(0.12, ge=0)
    slope: float = Field(0.12, ge=0)
    preservation: float = Field(1.0, ge=0)
    latent_noise: float = Field(0.05, ge=0)
    latent_penalty: float = Field(1e-3, ge=0)
    cycle: float = Field(0.05, ge=0)
    augmentation: Literal["none", "adaptive", "fixed"] = "adaptive"
    augmentation_probability: float = Field(0.2, ge=0, le=1)
    augmentation_target: float = Field(0.6, gt=0, lt=1)
    augmentation_images: float = Field(500_000.0, gt=0)
    mirror: bool = False
    low_precision: bool = False


JOINT_RATES = {"generator_rate": 0.006, "adversarial": 0.08, "adversarial_from": 0.2, "cosine": True}
"""What joint training sets differently: the reconstruction leads, and the discriminator adds sharpness later on."""
