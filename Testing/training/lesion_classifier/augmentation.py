"""Random views of CT slices: position, size, shape, resolution, contrast and noise of scanners and patients."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional

AIR_HU = -1000.0


def random_view(
    image: np.ndarray, spacing: tuple[float, float], size: int, pixel_mm: float, rng: np.random.Generator
) -> torch.Tensor:
    """One (size, size) float32 view in HU at ``pixel_mm`` of an (I, J) slice whose pixels measure ``spacing`` mm.

    Rotation up to 15 degrees, scale 0.8 to 1.25, shear, both flips, smooth elastic deformation of 1 to 5 mm (SD).
    """
    height, width = image.shape
    half = size * pixel_mm / 2
    angle, scale = np.deg2rad(rng.normal(0, 7)), np.exp(rng.normal(0, 0.11))
    stretch = np.exp(rng.normal(0, 0.06))
    flips = rng.choice([-1.0, 1.0], 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.normal(0, 0.05)], [0.0, 1.0]])
    matrix = rotation @ shear @ np.diag([scale * stretch * flips[0], scale / stretch * flips[1]])
    body = np.array([height * spacing[0], width * spacing[1]]) / 2
    room = np.maximum(half - body, 0) * 0.8 + 12.0
    shift = rng.uniform(-room, room)
    line = torch.linspace(-half + pixel_mm / 2, half - pixel_mm / 2, size)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1) + torch.as_tensor(shift, dtype=torch.float32)
    grid = grid @ torch.as_tensor(matrix.T, dtype=torch.float32)
    if rng.random() < 0.7:
        nodes = int(size * pixel_mm / 32) + 1
        coarse = torch.as_tensor(rng.normal(0, rng.uniform(1, 5), (1, 2, nodes, nodes)), dtype=torch.float32)
        grid = grid + functional.interpolate(coarse, (size, size), mode="bicubic", align_corners=True)[0].permute(
            1, 2, 0
        )
    unit = grid / torch.as_tensor(body, dtype=torch.float32)
    source = torch.from_numpy(image.astype(np.float32) - AIR_HU)[None, None]
    view = functional.grid_sample(source, unit.flip(-1)[None], mode="bilinear", align_corners=False)[0, 0]
    return view + AIR_HU


def random_appearance(batch: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Blur, contrast agent, calibration and noise of (N, 1, H, W) slices in HU; outside the lungs stays air."""
    out = []
    for view in batch:
        inside = view > AIR_HU + 5.0
        kind = rng.random()
        if kind < 0.35:
            view = gaussian_blur(view, rng.uniform(0.3, 0.9))
        elif kind < 0.6:
            view = view + rng.uniform(0.2, 1.6) * (view - gaussian_blur(view, 0.8))
        if rng.random() < 0.5:
            view = torch.where(view > 0, view * rng.uniform(0.2, 1.2) + rng.uniform(0, 40), view)
        elif rng.random() < 0.4:
            view = torch.where(view > 0, view * rng.uniform(1.5, 5.0), view)
        view = view * rng.uniform(0.96, 1.04) + rng.normal(0, 12)
        sd = rng.uniform(0, 30) if rng.random() < 0.5 else rng.uniform(30, 80) if rng.random() < 0.3 else 0.0
        if sd > 0:
            seed = torch.Generator().manual_seed(int(rng.integers(2**31)))
            noise = torch.randn(view.shape, generator=seed)
            blur = rng.uniform(0.0, 0.9)
            if blur > 0.25:
                noise = gaussian_blur(noise, blur)
                noise = noise / noise.std()
            view = view + sd * noise
        out.append(torch.where(inside, view, AIR_HU))
    return torch.stack(out)


def gaussian_blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian of ``sigma`` pixels over the last two axes of (1, H, W), replicated edges."""
    radius = max(1, int(round(3 * sigma)))
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = functional.pad(image[None], (radius, radius, radius, radius), mode="replicate")
    padded = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(padded, kernel.view(1, 1, -1, 1))[0]
