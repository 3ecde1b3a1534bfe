"""The generator of counterfactual images: StyleGAN2's network with an optional small spatial code.

Karras et al., CVPR 2020. The style latent w says what an image shows, the spatial code (C, S, S), where there is
one, where it shows it: it is added to the features of its size, and w modulates every convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn
from torch.nn import functional

from .modulated import GAIN, SLOPE, EqualConv, EqualLinear, ModulatedConv, activate, upsample

Noise = Literal["fixed", "random", "none"]
SMALLEST = 4
_MAPPING_RATE = 0.01


class GeneratorSettings(BaseModel):
    """Shape of a generator. Features at resolution r have ``min(maximum_width, width * size / r)`` channels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(64, ge=32, le=1024)
    channels: Literal[1, 3] = 1
    latent_size: int = Field(128, ge=2, le=1024)
    mapping_layers: int = Field(4, ge=0, le=16)
    width: int = Field(16, ge=4, le=1024)
    maximum_width: int = Field(96, ge=4, le=1024)
    noise: bool = True
    code_channels: int = Field(0, ge=0, le=64)
    code_size: int = Field(8, ge=4, le=64)

    @model_validator(mode="after")
    def _sizes_fit(self) -> GeneratorSettings:
        for name in ("size", "code_size"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name} must be a power of two, found {value}")
        if self.code_channels and self.code_size > self.size:
            raise ValueError(f"code_size must be at most size, found {self.code_size} and {self.size}")
        return self

    @property
    def resolutions(self) -> tuple[int, ...]:
        """4, 8, ... size."""
        return tuple(2**power for power in range(2, int(math.log2(self.size)) + 1))

    @property
    def layers(self) -> int:
        """Latents of the extended form W+: one for each layer that a style of its own may reach."""
        return 2 * len(self.resolutions)

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """(channels, size, size) of the spatial code; 0 channels without one."""
        return (self.code_channels, self.code_size, self.code_size)

    def width_at(self, resolution: int) -> int:
        """Feature channels at a resolution."""
        return max(1, min(self.maximum_width, self.width * self.size // resolution))


class StyledLayer(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, latent_size: int, upsampling: bool, noise: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, latent_size, upsampling=upsampling)
        self.noise_strength = nn.Parameter(torch.zeros(1)) if noise else None
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: torch.Tensor, style: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        offset = self.bias[:, None, None]
        if self.noise_strength is not None and noise is not None:
            offset = offset + self.noise_strength * noise
        return functional.leaky_relu(self.conv(features, style, GAIN * offset, GAIN), SLOPE)


class ImageLayer(nn.Module):
    """Features to gray or RGB, added to the upsampled image of the resolution below."""

    def __init__(self, inputs: int, channels: int, latent_size: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, channels, 1, latent_size, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor, style: torch.Tensor, below: torch.Tensor | None) -> torch.Tensor:
        image = self.conv(features, style, self.bias[:, None, None]).float()
        return image if below is None else image + upsample(below)


class Generator(nn.Module):
    """Latents to images (N, channels, size, size), nominally in [-1, 1].

    Layers and styles are counted from coarse to fine: convolution and image at 4x4, then two convolutions and an
    image at each size. ``dtype`` is what the convolutions compute in; images are float32.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        self.settings = settings
        size, latent = settings.latent_size, settings.latent_size
        self.mapping_network = nn.ModuleList(
            EqualLinear(size, latent, rate=_MAPPING_RATE) for _ in range(settings.mapping_layers)
        )
        self.constant = nn.Parameter(torch.randn(1, settings.width_at(SMALLEST), SMALLEST, SMALLEST))
        self.styled = nn.ModuleList()
        self.images = nn.ModuleList()
        before = settings.width_at(SMALLEST)
        for resolution in settings.resolutions:
            width = settings.width_at(resolution)
            if resolution > SMALLEST:
                self.styled.append(StyledLayer(before, width, latent, True, settings.noise))
            self.styled.append(StyledLayer(width, width, latent, False, settings.noise))
            self.images.append(ImageLayer(width, settings.channels, latent))
            before = width
        if settings.code_channels:
            self.code_entry = EqualConv(settings.code_channels, settings.width_at(settings.code_size), 3)
        self.mean_w: torch.Tensor
        self.register_buffer("mean_w", torch.zeros(latent))
        if settings.noise:
            self._draw_noise()
        self.dtype = torch.float32

    def _draw_noise(self) -> None:
        random = torch.Generator().manual_seed(0)
        for number, resolution in enumerate(self._styled_resolutions()):
            drawn = torch.randn(1, 1, resolution, resolution, generator=random)
            self.register_buffer(f"noise_{number}", drawn)

    def _styled_resolutions(self) -> list[int]:
        sizes = [size for size in self.settings.resolutions for _ in range(2)]
        return sizes[1:]

    def mapping(self, z: torch.Tensor) -> torch.Tensor:
        """Normal noise (N, latent_size) to style latents w (N, latent_size)."""
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in self.mapping_network:
            w = activate(layer(w))
        return w

    def extended(self, w: torch.Tensor) -> torch.Tensor:
        """w (N, latent_size) as W+ (N, layers, latent_size); W+ stays as it is."""
        return w[:, None].expand(-1, self.settings.layers, -1) if w.ndim == 2 else w

    def style_layers(self) -> list[tuple[str, int, int]]:
        """For each style: ``conv`` or ``image``, the number of that layer, and the latent of W+ that feeds it."""
        found = []
        conv = 0
        for number, resolution in enumerate(self.settings.resolutions):
            for _ in range(1 if resolution == SMALLEST else 2):
                found.append(("conv", conv, conv))
                conv += 1
            found.append(("image", number, conv))
        return found

    def style_module(self, kind: str, number: int) -> ModulatedConv:
        """The modulated convolution that a style of :meth:`style_layers` belongs to."""
        return (self.styled if kind == "conv" else self.images)[number].conv

    def styles(self, w: torch.Tensor) -> list[torch.Tensor]:
        """Styles (N, input channels), one per layer of :meth:`style_layers`, from w or W+."""
        latents = self.extended(w)
        return [
            self.style_module(kind, number).style(latents[:, source]) for kind, number, source in self.style_layers()
        ]

    def synthesis_from_styles(
        self, styles: Sequence[torch.Tensor], code: torch.Tensor | None = None, noise: Noise = "fixed"
    ) -> torch.Tensor:
        """Images (N, C, S, S) from styles and, where the generator takes one, the spatial code (N, c, s, s)."""
        samples = styles[0].shape[0]
        features = self.constant.to(self.dtype).expand(samples, -1, -1, -1)
        if self.constant.device.type != "cuda":
            features = features.contiguous(memory_format=torch.channels_last)
        image: torch.Tensor | None = None
        for style, (kind, number, _) in zip(styles, self.style_layers()):
            if kind == "image":
                image = self.images[number](features, style, image)
                continue
            enters = code is not None and self.settings.code_channels and number == self._code_layer()
            if enters:
                features = self._with_code(features, code)
            features = self.styled[number](features, style, self._noise(number, samples, noise))
        assert image is not None
        return image

    def _code_layer(self) -> int:
        """The layer before which the code is added: the last one at the code's size."""
        return 2 * self.settings.resolutions.index(self.settings.code_size)

    def _with_code(self, features: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        entering = code.reshape(-1, *self.settings.code_shape).to(features.dtype)
        weight = self.code_entry.weight * self.code_entry.scale
        entered = functional.conv2d(entering, weight.to(features.dtype), padding=1)
        return features + entered + self.code_entry.bias[:, None, None].to(features.dtype)

    def synthesis(self, w: torch.Tensor, code: torch.Tensor | None = None, noise: Noise = "fixed") -> torch.Tensor:
        """Images (N, C, S, S) from w (N, latent_size) or W+ (N, layers, latent_size)."""
        return self.synthesis_from_styles(self.styles(w), code, noise)

    def _noise(self, number: int, samples: int, kind: Noise) -> torch.Tensor | None:
        if not self.settings.noise or kind == "none":
            return None
        fixed = getattr(self, f"noise_{number}")
        if kind == "fixed":
            return fixed
        return torch.randn(samples, 1, *fixed.shape[2:], device=fixed.device)
