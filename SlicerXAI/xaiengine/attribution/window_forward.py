"""A segmentation network through its windows as a function from images to the explained numbers.

Has the interface of :class:`xaiengine.attribution.forward.TargetForward`, so that every method for classifiers
explains segmentations too, and does two things more: what a changed image has in common with the unchanged one is
not computed again, and several targets share the passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.boxes import Box, bounding_box, index_of, intersection, shifted, union
from ..core.errors import ModelError
from ..inference.windows import WindowedModel, part_of
from ..targets.segmentation_targets import SegmentationTarget

CACHE_BYTES = 2 * 2**30
"""Window outputs kept of the unchanged image; what does not fit is computed again when needed."""


class CachedPrediction:
    """Values of targets for images that differ from a known one in places.

    A window is evaluated again only where the image differs inside it *and* a target looks at it. Exact for every
    network, with normalization over the window too, because whole windows are re-evaluated.
    """

    def __init__(
        self,
        windows: WindowedModel,
        image: Tensor,
        targets: Sequence[SegmentationTarget],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.windows = windows
        self.targets = list(targets)
        self.image = image
        self.around: Box = union([target.box for target in targets])
        self._wanted = windows.layout.padded_box(self.around)
        self._touched = windows.windows_of(targets)
        self._padded = windows.padded(image)
        self._kept: dict[int, Tensor] = {}
        self._room = cache_bytes
        self._memo: dict[bytes, Tensor] = {}
        self._blended = self._first_prediction()
        self.unchanged = self._values(self._blended)

    @torch.no_grad()
    def _first_prediction(self) -> Tensor:
        windows, total = self.windows, None
        for part in windows.batches(self._touched):
            output = windows.run(windows.crop(self._padded, part))
            total = output.new_zeros(1, output.shape[1], *_lengths(self._wanted)) if total is None else total
            for index, logits in zip(part, output):
                windows.add_window(total, self._wanted, index, logits)
                self._keep(index, logits)
        return total.mul_(windows.blending_share(total.device)[self._wanted])

    def _keep(self, index: int, logits: Tensor) -> None:
        inside = self._inside(index)
        size = logits[(slice(None), *inside)].nbytes
        if size <= self._room:
            self._room -= size
            self._kept[index] = logits[(slice(None), *inside)].clone()

    def _inside(self, index: int) -> Box:
        """The part of a window's output that lies around the targets."""
        common = intersection(self.windows.layout.box(index), self._wanted)
        return shifted(common, self.windows.layout.starts[index])

    def _values(self, blended: Tensor) -> Tensor:
        return torch.tensor(
            [float(target.value(part_of(blended, self.around, target.box))) for target in self.targets],
            dtype=torch.float64,
        )

    def windows_changed_in(self, box: Box) -> list[int]:
        """The windows that must be evaluated again when the image changes in a box."""
        layout = self.windows.layout
        if layout.is_padded and layout.padding_mode != "constant":
            return self._touched  # a border voxel shows up again in the padding
        wanted = layout.padded_box(box)
        return [index for index in self._touched if intersection(layout.box(index), wanted) is not None]

    @torch.no_grad()
    def values(self, images: Tensor) -> Tensor:
        """Values (N, targets) for images (N, C, spatial...)."""
        result = self.unchanged.repeat(len(images), 1)
        work: list[tuple[int, int]] = []
        keys: dict[int, bytes] = {}
        for row in range(len(images)):
            box = bounding_box((images[row] != self.image[0]).any(0))
            if box is None:
                continue
            keys[row] = _digest(images[row], box)
            if keys[row] not in self._memo:
                self._memo[keys[row]] = self.unchanged  # until it is evaluated below, for rows that are equal
                work += [(row, index) for index in self.windows_changed_in(box)]
        for row, values in self._evaluated(images, work).items():
            self._memo[keys[row]] = values
        for row, key in keys.items():
            result[row] = self._memo[key]
        return result

    def _evaluated(self, images: Tensor, work: list[tuple[int, int]]) -> dict[int, Tensor]:
        """Evaluate (row, window) pairs, as many at a time as a batch holds, whatever rows they come from."""
        windows = self.windows
        differences: dict[int, list[tuple[int, Tensor]]] = {}
        found: dict[int, Tensor] = {}
        padded: dict[int, Tensor] = {}
        for start in range(0, len(work), windows.batch_size):
            part = work[start : start + windows.batch_size]
            for row, _ in part:
                if row not in padded:
                    padded[row] = windows.padded(images[row : row + 1])
            output = windows.run(torch.cat([windows.crop(padded[row], [index]) for row, index in part]))
            for (row, index), logits in zip(part, output):
                inside = self._inside(index)
                differences.setdefault(row, []).append((index, logits[(slice(None), *inside)] - self._known(index)))
            last = work[start + windows.batch_size][0] if start + windows.batch_size < len(work) else None
            for row in [row for row in differences if row != last]:
                found[row] = self._with_differences(differences.pop(row))
                padded.pop(row)
        return found

    def _known(self, index: int) -> Tensor:
        if index in self._kept:
            return self._kept[index]
        output = self.windows.run(self.windows.crop(self._padded, [index]))[0]
        return output[(slice(None), *self._inside(index))]

    def _with_differences(self, differences: list[tuple[int, Tensor]]) -> Tensor:
        windows, blended = self.windows, self._blended.clone()
        share = windows.blending_share(blended.device)
        for index, difference in differences:
            common = intersection(windows.layout.box(index), self._wanted)
            weight = windows.layout.weights[self._inside(index)] * share[common]
            place = shifted(common, [part.start for part in self._wanted])
            blended[index_of(place, 0, slice(None))] += difference * weight
        return self._values(blended)


class WindowedForward:
    """The interface of TargetForward for ``targets`` of a segmentation.

    Rows of a batch belong to the targets in turn: row r to target r mod T. Rows that show the same image share
    their passes, so a method that is given the image T times explains T targets at the cost of one.

    Args:
        network: the module itself, for methods that look at its layers.
        windows: the network through its windows.
        targets: what is explained.
        cached: the unchanged image's prediction, which makes perturbed ones cheap; made when first needed.
    """

    def __init__(
        self,
        network: nn.Module,
        windows: WindowedModel,
        targets: Sequence[SegmentationTarget],
        cached: CachedPrediction | None = None,
    ) -> None:
        self.network = network
        self.windows = windows
        self.targets = list(targets)
        self.cached = cached

    @property
    def passes(self) -> int:
        """Windows evaluated so far."""
        return self.windows.passes.forward

    @property
    def target(self) -> SegmentationTarget:
        return self.targets[0]

    def of(self, number: int) -> WindowedForward:
        """The same for one of the targets alone; values already computed for all are not computed again."""
        return _OneOf(self, number)

    def __call__(self, inputs: Tensor) -> Tensor:
        return self.values(inputs)

    @torch.no_grad()
    def values(self, inputs: Tensor, batch_size: int = 1) -> Tensor:
        """Target values (N,) of images (N, C, spatial...), without gradients."""
        table = self.all_values(inputs)
        values = table[torch.arange(len(inputs)), torch.arange(len(inputs)) % len(self.targets)]
        return values.to(inputs.device, torch.float32)

    def all_values(self, inputs: Tensor) -> Tensor:
        """The values of every target, (N, T) float64."""
        if self.cached is not None:
            values = self.cached.values(inputs)
        else:
            rows = [self.windows.values(inputs[row : row + 1], self.targets) for row in _first_of_equal(inputs)]
            values = torch.stack(rows)[_groups(inputs)]
        if not bool(torch.isfinite(values).all()):
            raise ModelError(
                "The explained number is not finite for a changed scan.",
                "Choose another baseline (blurred or mean), or look for a division by the image's spread.",
            )
        return values

    def output(self, inputs: Tensor) -> Tensor:
        """The blended output (N, K, spatial...) of images (N, C, spatial...)."""
        return torch.cat([self.windows.predict(image) for image in inputs.split(1)])

    def gradient(self, inputs: Tensor) -> Tensor:
        """The derivative of each row's target with respect to that row, in the inputs' shape."""
        return self.value_and_gradient(inputs)[1]

    def value_and_gradient(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        values = torch.zeros(len(inputs), device=inputs.device)
        gradients = torch.zeros_like(inputs)
        groups = _groups(inputs)
        for group in range(int(groups.max()) + 1):
            rows = torch.nonzero(groups == group)[:, 0].tolist()
            wanted = sorted({row % len(self.targets) for row in rows})
            found, maps = self.windows.gradients(inputs[rows[:1]], [self.targets[n] for n in wanted])
            for row in rows:
                position = wanted.index(row % len(self.targets))
                values[row] = float(found[position])
                gradients[row] = maps[position][0]
        return values, gradients


class _OneOf(WindowedForward):
    def __init__(self, shared: WindowedForward, number: int) -> None:
        super().__init__(shared.network, shared.windows, [shared.targets[number]])
        self._shared = shared
        self._number = number

    def all_values(self, inputs: Tensor) -> Tensor:
        if self._shared.cached is None:
            return super().all_values(inputs)
        return self._shared.all_values(inputs)[:, self._number : self._number + 1]


def _groups(inputs: Tensor) -> Tensor:
    """For each row the number of its group of equal images, (N,); groups are numbered by first appearance."""
    firsts: list[int] = []
    numbers = []
    for row in range(len(inputs)):
        same = next((n for n, first in enumerate(firsts) if torch.equal(inputs[first], inputs[row])), None)
        if same is None:
            firsts.append(row)
        numbers.append(len(firsts) - 1 if same is None else same)
    return torch.tensor(numbers)


def _first_of_equal(inputs: Tensor) -> list[int]:
    groups = _groups(inputs).tolist()
    return [groups.index(number) for number in range(max(groups) + 1)]


def _digest(image: Tensor, box: Box) -> bytes:
    """A fingerprint of an image that differs from the unchanged one in a box only."""
    part = image[(slice(None), *box)].detach().cpu().contiguous()
    digest = hashlib.blake2b(repr([(piece.start, piece.stop) for piece in box]).encode(), digest_size=16)
    digest.update(part.numpy().tobytes())
    return digest.digest()


def _lengths(box: Box) -> list[int]:
    return [part.stop - part.start for part in box]
