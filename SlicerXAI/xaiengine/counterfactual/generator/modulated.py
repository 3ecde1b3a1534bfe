"""Building blocks of the generator: layers with equalized learning rate and style-modulated convolutions.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020 (StyleGAN2), appendix B.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

GAIN = math.sqrt(2.0)
"""Follows each leaky ReLU, so that activations keep their variance."""
SLOPE = 0.2


def activate(values: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU of slope 0.2 times the square root of two."""
    return functional.leaky_relu(values, SLOPE) * GAIN


def smoothing_filter(channels: int, like: torch.Tensor) -> torch.Tensor:
    """The filter [1, 3, 3, 1] in both directions for each channel, (channels, 1, 4, 4), of sum 4.

    A sum of 4 keeps the mean brightness of an image into which zeros were put between the pixels.
    """
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=like.device)
    return (torch.outer(taps, taps) / 16).to(like.dtype).expand(channels, 1, 4, 4)


def upsample(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) to twice the size: zeros between the pixels, then the smoothing filter."""
    channels = images.shape[1]
    return functional.conv_transpose2d(
        images, smoothing_filter(channels, images), stride=2, padding=1, groups=channels
    )


class EqualLinear(nn.Module):
    """Linear layer whose weights are stored with unit variance and scaled at run time."""

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.rate = rate
        self.scale = rate / math.sqrt(inputs)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return functional.linear(values, self.weight * self.scale, self.bias * self.rate)


class EqualConv(nn.Module):
    """Convolution whose weights are stored with unit variance and scaled at run time."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1.0 / math.sqrt(inputs * kernel**2)
        self.stride = stride
        self.padding = (kernel - 1) // 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(images, self.weight * self.scale, self.bias, self.stride, self.padding)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style, and whose output is demodulated (eqs. 1 and 3).

    One kernel serves all samples: scaling the input by the style and the output by
    ``1 / sqrt(sum (style * weight)^2)`` equals a kernel of its own for each sample, without grouped convolutions.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        latent_size: int,
        demodulate: bool = True,
        upsampling: bool = False,
    ) -> None:
        super().__init__()
        self.style = EqualLinear(latent_size, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1.0 / math.sqrt(inputs * kernel**2)
        self.demodulate = demodulate
        self.upsampling = upsampling
        self.padding = kernel // 2

    def forward(
        self, images: torch.Tensor, style: torch.Tensor, offset: torch.Tensor, gain: float = 1.0
    ) -> torch.Tensor:
        """(N, inputs, H, W) with styles (N, inputs) to (N, outputs, H or 2H, W or 2W), times ``gain``.

        ``offset`` (bias, noise), of a shape that fits the result, is added at the end.
        """
        weight = self.weight * self.scale
        scaled = images * style[:, :, None, None].to(images.dtype)
        result = self._convolve(scaled, weight.to(images.dtype))
        if not self.demodulate:
            return result * gain + offset.to(result.dtype)
        norm = gain * torch.rsqrt(style.float().square() @ weight.float().square().sum((2, 3)).T + 1e-8)
        return torch.addcmul(offset.to(result.dtype), result, norm[:, :, None, None].to(result.dtype))

    def _convolve(self, images: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if not self.upsampling:
            return functional.conv2d(images, weight, padding=self.padding)
        spread = functional.conv_transpose2d(images, weight.transpose(0, 1), stride=2)
        channels = spread.shape[1]
        padded = functional.pad(spread, (1, 1, 1, 1))
        return functional.conv2d(padded, smoothing_filter(channels, spread), groups=channels)
