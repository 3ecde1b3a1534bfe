"""The information bottleneck as published, written plainly: slow, and obviously right.

Schulz et al., ICLR 2020: ten steps, each pushing ten noisy copies of one image through the whole network, with a
forward hook that puts noise into one layer, and autograd for everything. Two or three dimensions. Only the noise
is passed in, so that another implementation can be given the same.
"""

import math

import torch
import torch.nn.functional as F


def gaussian_kernel(sigma, axes):
    reach = int(round(2 * sigma))
    one = torch.exp(-(torch.arange(-reach, reach + 1).double() ** 2) / (2 * sigma**2))
    kernel = one
    for _ in range(axes - 1):
        kernel = kernel.unsqueeze(-1) * one
    return (kernel / kernel.sum())[None, None], reach


def smooth(mask, sigma):
    """Depthwise convolution with reflected borders; mask (B, C, ...) with two or three axes of at least 3 cells."""
    axes = mask.ndim - 2
    kernel, reach = gaussian_kernel(sigma, axes)
    kernel = kernel.to(mask).expand(mask.shape[1], *kernel.shape[1:])
    padded = F.pad(mask, [reach, reach] * axes, mode="reflect")
    return {2: F.conv2d, 3: F.conv3d}[axes](padded, kernel, groups=mask.shape[1])


class PlainIBA:
    """``noise(step)`` gives the standard normal noise (copies, C, ...) of each step, from 0."""

    def __init__(
        self,
        model,
        layer,
        mean,
        std,
        active,
        noise,
        copies=10,
        steps=10,
        beta=10.0,
        lr=1.0,
        sigma=1.0,
        destroy=False,
        clamp=False,
        betas=(0.9, 0.999),
    ):
        self.model, self.layer, self.noise = model, layer, noise
        self.mean, self.std, self.active = mean, std, active
        self.copies, self.steps, self.beta, self.lr, self.sigma = copies, steps, beta, lr, sigma
        self.destroy, self.clamp, self.betas = destroy, clamp, betas
        self.passes = 0

    def _hook(self, module, inputs, output):
        activation = output.clone()
        alpha = self.alpha.expand(activation.shape)
        mask = smooth(torch.sigmoid(alpha), self.sigma)
        normalized = (activation - self.mean) / self.std
        remaining = (1 - mask).clamp_min(1e-6)
        log_variance = torch.log(remaining**2)
        center = normalized * mask
        nats = -0.5 * (1 + log_variance - center**2 - log_variance.exp())
        self.nats = nats * self.active
        epsilon = self.mean + self.std * self.epsilon
        if self.destroy:
            z = mask * epsilon + (1 - mask) * activation
        else:
            z = mask * activation + (1 - mask) * epsilon
        z = z * self.active
        return z.clamp_min(0) if self.clamp else z

    def run(self, image, loss):
        """Bits (C, ...) for one image (1, C, ...); ``loss(output)`` gives the mean over the copies."""
        found = []
        handle = self.layer.register_forward_hook(lambda module, inputs, output: found.append(output.clone()))
        with torch.no_grad():
            self.model(image)
        handle.remove()
        self.alpha = torch.full_like(found[0], 5.0).requires_grad_(True)
        optimiser = torch.optim.Adam([self.alpha], lr=self.lr, betas=self.betas)
        batch = image.expand(self.copies, *image.shape[1:])
        handle = self.layer.register_forward_hook(self._hook)
        try:
            for step in range(self.steps):
                optimiser.zero_grad()
                self.epsilon = self.noise(step)
                model_loss = loss(self.model(batch))
                total = (-model_loss if self.destroy else model_loss) + self.beta * self.nats.mean()
                total.backward()
                optimiser.step()
                self.passes += 1
        finally:
            handle.remove()
        return self.nats.detach().mean(0) / math.log(2)
