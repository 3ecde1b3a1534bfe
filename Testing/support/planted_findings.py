"""Images with two kinds of findings, networks whose units detect them by construction, and one that learned them.

Nodules are bright discs, cavities dark ones, on a textured background; their masks are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from xaiengine.io.grid import Grid
from xaiengine.io.segmentation import Mask, Segmentation
from xaiengine.io.segmentation_files import write_segmentation
from xaiengine.io.volume import Volume
from xaiengine.io.volume_files import write_volume
from xaiengine.models.explained_model import ExplainedModel, Inferer

SIZE = 48
FINDINGS = ("nodule", "cavity")
SIGNS = {"nodule": 1.0, "cavity": -1.0}
CONTRAST = 1.2


@dataclass(frozen=True, eq=False)
class FindingImage:
    """``pixels`` (I, J) float32 and the masks of the findings that it holds."""

    pixels: np.ndarray
    masks: dict[str, np.ndarray]

    @property
    def tensor(self) -> torch.Tensor:
        return torch.from_numpy(self.pixels)[None, None]


def background(generator: np.random.Generator, size: int = SIZE) -> np.ndarray:
    noise = generator.standard_normal((size, size))
    return 0.9 * gaussian_filter(noise, 3) + 0.12 * gaussian_filter(generator.standard_normal((size, size)), 0.8)


def finding_image(generator: np.random.Generator, present: tuple[str, ...], size: int = SIZE) -> FindingImage:
    """An image with the findings named in ``present``, apart from each other. With generators of the same seed images
    differ in nothing else."""
    pixels = background(generator, size)
    places, radii = _places(generator, size), generator.uniform(3.6, 5.0, 2)
    masks = {}
    for kind, place, radius in zip(FINDINGS, places, radii):
        if kind in present:
            masks[kind] = _disc(place, radius, size)
            pixels = pixels + SIGNS[kind] * CONTRAST * gaussian_filter(masks[kind].astype(float), 0.6)
    return FindingImage(pixels.astype(np.float32), masks)


def _places(generator: np.random.Generator, size: int) -> np.ndarray:
    while True:
        places = generator.uniform(8, size - 9, (2, 2))
        if np.linalg.norm(places[0] - places[1]) > 16:
            return places


def _disc(place: np.ndarray, radius: float, size: int) -> np.ndarray:
    return sum((np.arange(size) - c).reshape(shape) ** 2 for c, shape in zip(place, ((-1, 1), (1, -1)))) <= radius**2


def finding_batch(generator: np.random.Generator, count: int, size: int = SIZE) -> list[FindingImage]:
    """A quarter of the images each: without findings, with a nodule, with a cavity, with both."""
    kinds = ((), FINDINGS[:1], FINDINGS[1:], FINDINGS)
    return [finding_image(generator, kinds[number % 4], size) for number in range(count)]


LABELS = (*FINDINGS, "any finding")


class LearnedFindings(nn.Module):
    """Four convolutions, halved twice, global average pooling; a logit for each of :data:`LABELS`."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.early = nn.Sequential(*block(1, width), *block(width, width), nn.MaxPool2d(2))
        self.middle = nn.Sequential(*block(width, 2 * width), nn.MaxPool2d(2))
        self.late = nn.Sequential(*block(2 * width, 2 * width))
        self.head = nn.Linear(2 * width, len(LABELS))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.late(self.middle(self.early(inputs))).flatten(2).mean(-1))


def labels_of(image: FindingImage) -> list[float]:
    return [float(kind in image.masks) for kind in FINDINGS] + [float(bool(image.masks))]


def trained_network(steps: int = 220, seed: int = 0) -> LearnedFindings:
    """Learns from labels of whole images alone; about 20 seconds of one thread."""
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = LearnedFindings()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=steps)
    for _ in range(steps):
        images = finding_batch(generator, 24)
        labels = torch.tensor([labels_of(image) for image in images])
        logits = network(torch.cat([image.tensor for image in images]))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval()


class BuiltDetectors(nn.Module):
    """Units by construction: 0 where the image is above 0.5, 1 where it is below -0.5, 2 dead, 3 its vertical edge.

    Cells are means of ``pool`` voxels per axis.
    """

    def __init__(self, spatial_dims: int = 2, pool: int = 2) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        pooling = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[spatial_dims]
        self.units = nn.Sequential(convolution(1, 4, 3, padding=1), nn.ReLU(), pooling(pool))
        self.head = nn.Linear(4, 2)
        center = (1,) * spatial_dims
        with torch.no_grad():
            self.units[0].weight.zero_()
            self.units[0].bias.copy_(torch.tensor([-0.5, -0.5, -1.0, 0.0]))
            self.units[0].weight[(0, 0, *center)] = 1.0
            self.units[0].weight[(1, 0, *center)] = -1.0
            self.units[0].weight[(3, 0, *center)] = 1.0
            self.units[0].weight[(3, 0, 0, *center[1:])] = -1.0
            self.head.weight.copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0], [4.0, -2.0, 0.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(self.units(inputs).flatten(2).sum(-1))


def model_around(
    network: nn.Module,
    spatial_dims: int = 2,
    preprocessing: Callable[[], list] = list,
    digest: str = "1" * 64,
    learned: bool = False,
    **more: object,
) -> ExplainedModel:
    return ExplainedModel(
        name="planted",
        network=network.eval(),
        task="multilabel" if learned else "classification",
        labels=LABELS if learned else ("healthy", "finding"),
        activation="sigmoid" if learned else "softmax",
        target=LABELS[-1] if learned else "finding",
        digest=digest,
        source=Path("memory"),
        format="memory",
        spatial_dims=spatial_dims,
        inferer=Inferer("whole" if spatial_dims == 3 else "slices"),
        preprocessing=preprocessing,
        **more,
    )


def flat_grid(shape: tuple[int, int], spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Grid:
    return Grid.from_directions((*shape, 1), spacing, np.diag([-1.0, -1.0, 1.0]))


def write_cohort(folder: Path, images: list[FindingImage], grid: Grid | None = None) -> Path:
    """images/*.nrrd and masks/*.seg.nrrd; images without findings have an empty segment."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number, image in enumerate(images):
        place = grid or flat_grid(image.pixels.shape)
        name = f"scan{number:03d}"
        write_volume(folder / "images" / f"{name}.nrrd", Volume(image.pixels[..., None], place, name))
        masks = [Mask(kind, image.masks.get(kind, np.zeros_like(image.pixels, bool))[..., None]) for kind in FINDINGS]
        segmentation = Segmentation.from_masks(masks, place)
        write_segmentation(folder / "masks" / f"{name}.seg.nrrd", segmentation)
    return folder
