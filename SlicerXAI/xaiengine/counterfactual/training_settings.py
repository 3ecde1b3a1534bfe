"""How a generator is trained: sizes, rates and weights of the losses."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class TrainingSettings(BaseModel):
    """Settings of one training; what it does at a step follows from them, the data and the step's number alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(10_000, ge=1)
    batch: int = Field(16, ge=2)
    seed: int = Field(0, ge=0, lt=2**31)
    generator_rate: float = Field(0.002, gt=0)
    encoder_rate: float = Field(0.001, gt=0)
    discriminator_rate: float = Field(0.002, gt=0)
    decay: bool = False
    average_images: float = Field(5_000.0, gt=0)
    adversarial: float = Field(1.0, ge=0)
    adversarial_from: float = Field(0.0, ge=0, le=1)
    r1: float = Field(1.0, ge=0)
    r1_every: int = Field(16, ge=1)
    path_length: float = Field(2.0, ge=0)
    path_length_every: int = Field(8, ge=1)
    features: float = Field(0.0, ge=0)
    prediction: float = Field(0.0, ge=0)
    steering: float = Field(0.0, ge=0)
    preservation: float = Field(0.0, ge=0)
    latent_noise: float = Field(0.1, ge=0)
    latent_penalty: float = Field(1e-3, ge=0)
    cycle: float = Field(0.05, ge=0)
    low_precision: bool = False
