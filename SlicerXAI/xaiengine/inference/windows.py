"""Segmentation through windows: predictions, and gradients that are exact through the blending.

The blended output is O = Σ_w b f(x_w) / Σ_w b, with b the weights of a window. For a number T(O) the derivative is

    dT/dx = Σ_w J_f(x_w)ᵀ (dT/dO · b / Σ b)

so each window can be differentiated on its own, with the cotangent dT/dO · b / Σ b at its output: the memory of
one batch of windows is enough, and windows in which dT/dO is zero need not be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional

from ..core.boxes import Box, box_size, index_of, intersection, shifted, union
from ..core.errors import ModelError
from .window_layout import WindowLayout
from .window_output import checked_logits

Forward = Callable[[Tensor], Tensor]
Visit = Callable[[list[int], int], None]
"""Called with the windows of a batch and the number of the cotangent just pulled back."""


class WindowTarget(Protocol):
    """What the windows must know of a target.

    See :class:`xaiengine.targets.segmentation_targets.SegmentationTarget`.
    """

    @property
    def box(self) -> Box: ...

    @property
    def support(self) -> Tensor: ...

    @property
    def linear(self) -> bool: ...

    def value(self, output: Tensor) -> Tensor: ...

    def cotangent(self, output: Tensor | None) -> Tensor: ...


@dataclass
class Passes:
    """How many windows were evaluated, and how many of these also differentiated."""

    forward: int = 0
    backward: int = 0


class WindowedModel:
    """A segmentation network as seen through a layout of windows.

    Args:
        forward: (N, C, window...) to logits (N, K, window...), without the flat axis for two-dimensional networks.
        layout: the windows.
        batch_size: windows per pass.
        on_windows: told after each pass how many windows it held; may raise to cancel.

    Images are (1, C, spatial...), on the device of the network.
    """

    def __init__(
        self,
        forward: Forward,
        layout: WindowLayout,
        batch_size: int = 1,
        on_windows: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.forward = forward
        self.layout = layout
        self.batch_size = max(1, batch_size)
        self.on_windows = on_windows
        self.passes = Passes()
        self._share: Tensor | None = None
        self._touched: WeakKeyDictionary[WindowTarget, list[int]] = WeakKeyDictionary()

    def blending_share(self, device: torch.device | str = "cpu") -> Tensor:
        """1 / Σ b at each voxel of the padded image."""
        if self._share is None or self._share.device != torch.device(device):
            self._share = self.layout.total_weights().to(device).reciprocal()
        return self._share

    # ------------------------------------------------------------------ images and windows

    def padded(self, image: Tensor) -> Tensor:
        """The image with the borders that windows larger than it need."""
        layout = self.layout
        if tuple(image.shape[2:]) != layout.image_size:
            raise ValueError(
                f"an image of {tuple(image.shape[2:])} voxels does not fit windows over {layout.image_size}"
            )
        if not layout.is_padded:
            return image
        sides: list[int] = []
        for axis in reversed(range(len(layout.image_size))):
            before = layout.pad_before[axis]
            sides += [before, layout.padded_size[axis] - layout.image_size[axis] - before]
        if layout.padding_mode == "constant":
            return functional.pad(image, sides, value=layout.cval)
        return functional.pad(image, sides, mode=layout.padding_mode)

    def padding_adjoint(self, gradient: Tensor, image: Tensor) -> Tensor:
        """The gradient with respect to the image, from that with respect to the padded image."""
        if not self.layout.is_padded:
            return gradient
        if self.layout.padding_mode == "constant":
            return gradient[index_of(self.layout.interior)]
        with torch.enable_grad():
            leaf = image.detach().clone().requires_grad_()
            (result,) = torch.autograd.grad(self.padded(leaf), leaf, gradient)
        return result

    def crop(self, padded: Tensor, windows: Sequence[int]) -> Tensor:
        """The windows as a batch for the network."""
        batch = torch.cat([padded[index_of(self.layout.box(index))] for index in windows])
        return batch if self.layout.flat_axis is None else batch.squeeze(self.layout.flat_axis + 2)

    def unflattened(self, batch: Tensor) -> Tensor:
        """What the network gave, with the flat axis put back."""
        return batch if self.layout.flat_axis is None else batch.unsqueeze(self.layout.flat_axis + 2)

    def batches(self, windows: Sequence[int]) -> Iterator[list[int]]:
        for start in range(0, len(windows), self.batch_size):
            yield list(windows[start : start + self.batch_size])

    def run(self, batch: Tensor) -> Tensor:
        """The network's output of a batch of windows, float32, checked. Counts the windows."""
        output = self.forward(batch)
        self.passes.forward += len(batch)
        output = self.unflattened(checked_logits(output, batch))
        self.on_windows(len(batch))
        return output

    # ------------------------------------------------------------------ prediction

    @torch.no_grad()
    def predict(self, image: Tensor, windows: Sequence[int] | None = None, box: Box | None = None) -> Tensor:
        """The blended output (1, K, spatial...) of the whole image or of a ``box`` of it.

        Only ``windows`` (all that touch the box by default) are evaluated; what none of them holds stays 0.
        """
        layout = self.layout
        box = box or whole_box(layout.image_size)
        chosen = layout.touching(box) if windows is None else windows
        wanted = layout.padded_box(box)
        padded = self.padded(image)
        result: Tensor | None = None
        for part in self.batches(chosen):
            output = self.run(self.crop(padded, part))
            if result is None:
                result = output.new_zeros(1, output.shape[1], *box_size(box))
            for index, logits in zip(part, output):
                self.add_window(result, wanted, index, logits)
        if result is None:
            raise ValueError("there are no windows to predict from")
        return result.mul_(self.blending_share(result.device)[wanted])

    def add_window(self, total: Tensor, wanted: Box, index: int, logits: Tensor) -> None:
        """Add a window's weighted output (K, window...) to a running sum over a box of the padded image."""
        window = self.layout.box(index)
        common = intersection(window, wanted)
        if common is not None:
            inside = shifted(common, self.layout.starts[index])
            target = shifted(common, [part.start for part in wanted])
            total[index_of(target, 0, slice(None))] += logits[(slice(None), *inside)] * self.layout.weights[inside]

    # ------------------------------------------------------------------ gradients

    def window_cotangent(self, index: int, box: Box, cotangent: Tensor) -> Tensor | None:
        """What a cotangent (1, K, box...) of the blended output means at the output (K, window...) of a window.

        None where it is zero all over the window.
        """
        wanted = self.layout.padded_box(box)
        common = intersection(self.layout.box(index), wanted)
        if common is None:
            return None
        inside = shifted(common, self.layout.starts[index])
        part = cotangent[index_of(shifted(common, [p.start for p in wanted]), 0, slice(None))]
        if not bool(part.any()):
            return None
        result = part.new_zeros(part.shape[0], *self.layout.window_size)
        share = self.layout.weights[inside] * self.blending_share(part.device)[common]
        result[(slice(None), *inside)] = part * share
        return result

    def pull_back(
        self, image: Tensor, cotangents: Sequence[tuple[Box, Tensor]], visit: Visit | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Gradients with respect to the image for cotangents of the blended output, each on a box of it.

        Every window is evaluated once for all of them, those where all are zero not at all. ``visit`` is called
        after the backward pass of each batch for each cotangent, for those who record layers.

        Returns:
            A gradient (1, C, spatial...) for each cotangent, and Σ cotangent · output (n,), which is the value of
            a linear target.
        """
        padded = self.padded(image.detach())
        gradients = [torch.zeros_like(padded) for _ in cotangents]
        products = torch.zeros(len(cotangents), dtype=torch.float64)
        for part in self._relevant_batches(cotangents):
            batch, output = self._with_graph(padded, list(part))
            self._pull_back_batch(part, batch, output, gradients, products, visit)
        return [self.padding_adjoint(gradient, image) for gradient in gradients], products

    def _relevant_batches(self, cotangents: Sequence[tuple[Box, Tensor]]) -> Iterator[dict[int, list]]:
        """Windows in batches, each with what every cotangent means at its output; see :meth:`window_cotangent`."""
        batch: dict[int, list[Tensor | None]] = {}
        for index in sorted({index for box, _ in cotangents for index in self.layout.touching(box)}):
            parts = [self.window_cotangent(index, box, cotangent) for box, cotangent in cotangents]
            if any(part is not None for part in parts):
                batch[index] = parts
            if len(batch) == self.batch_size:
                yield batch
                batch = {}
        if batch:
            yield batch

    def _with_graph(self, padded: Tensor, windows: list[int]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            batch = self.crop(padded, windows).detach().requires_grad_()
            return batch, self.run(batch)

    def _pull_back_batch(
        self,
        part: dict[int, list[Tensor | None]],
        batch: Tensor,
        output: Tensor,
        gradients: list[Tensor],
        products: Tensor,
        visit: Visit | None,
    ) -> None:
        indices = list(part)
        used = [n for n in range(len(gradients)) if any(part[index][n] is not None for index in indices)]
        for n in used:
            nothing = output.new_zeros(output.shape[1:])
            cotangent = torch.stack([nothing if part[i][n] is None else part[i][n] for i in indices])
            products[n] += float((cotangent * output.detach()).sum(dtype=torch.float64))
            if not output.requires_grad:
                raise ModelError(
                    "The network's output does not depend on its input by a path that can be differentiated.",
                    "Choose occlusion, which needs outputs only.",
                )
            (gradient,) = torch.autograd.grad(output, batch, cotangent, retain_graph=n != used[-1])
            gradient = self.unflattened(gradient)
            for row, index in enumerate(indices):
                gradients[n][index_of(self.layout.box(index), 0, slice(None))] += gradient[row]
            if visit is not None:
                visit(indices, n)
        self.passes.backward += len(indices)

    def gradients(
        self, image: Tensor, targets: Sequence[WindowTarget], visit: Visit | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Values (n,) and gradients (1, C, spatial...) of targets at an image.

        One forward and one backward pass of the windows that the targets touch; one forward pass more for targets
        that are not linear in the output, where the windows do not fit into one batch, because the cotangent then
        depends on windows not seen yet.
        """
        if all(target.linear for target in targets):
            gradients, values = self.pull_back(image, [(t.box, t.cotangent(None)) for t in targets], visit)
            return values, gradients
        touched = self.windows_of(targets)
        if len(touched) <= self.batch_size:
            return self._gradients_at_once(image, targets, touched, visit)
        output, around = self.predict_for(image, targets)
        values, cotangents = evaluated(targets, output, around)
        return values, self.pull_back(image, cotangents, visit)[0]

    def _gradients_at_once(
        self, image: Tensor, targets: Sequence[WindowTarget], touched: list[int], visit: Visit | None
    ) -> tuple[Tensor, list[Tensor]]:
        padded = self.padded(image.detach())
        batch, output = self._with_graph(padded, touched)
        around = union([target.box for target in targets])
        wanted = self.layout.padded_box(around)
        blended = output.new_zeros(1, output.shape[1], *box_size(around))
        for index, logits in zip(touched, output.detach()):
            self.add_window(blended, wanted, index, logits)
        values, cotangents = evaluated(targets, blended * self.blending_share(blended.device)[wanted], around)
        part = {index: [self.window_cotangent(index, *pair) for pair in cotangents] for index in touched}
        gradients = [torch.zeros_like(padded) for _ in targets]
        self._pull_back_batch(part, batch, output, gradients, torch.zeros(len(targets)), visit)
        return values, [self.padding_adjoint(gradient, image) for gradient in gradients]

    def windows_of(self, targets: Sequence[WindowTarget]) -> list[int]:
        """The windows that at least one target touches."""
        found: set[int] = set()
        for target in targets:
            if target not in self._touched:
                mask = torch.zeros(self.layout.image_size, dtype=torch.bool)
                mask[target.box] = target.support.cpu()
                self._touched[target] = self.layout.touching_mask(mask)
            found.update(self._touched[target])
        return sorted(found)

    def predict_for(self, image: Tensor, targets: Sequence[WindowTarget]) -> tuple[Tensor, Box]:
        """The blended output on the smallest box around all targets, and that box.

        Only windows that hold voxels of a target are evaluated; elsewhere in the box the output means nothing.
        """
        around = union([target.box for target in targets])
        return self.predict(image, self.windows_of(targets), around), around

    def values(self, image: Tensor, targets: Sequence[WindowTarget]) -> Tensor:
        """Values (n,) of targets at an image, from forward passes of the windows that they touch."""
        output, around = self.predict_for(image, targets)
        return torch.tensor(
            [float(target.value(part_of(output, around, target.box))) for target in targets], dtype=torch.float64
        )


def evaluated(targets: Sequence[WindowTarget], output: Tensor, around: Box) -> tuple[Tensor, list[tuple[Box, Tensor]]]:
    """Values and cotangents of targets for the blended output on a box around all of them."""
    parts = [part_of(output, around, target.box) for target in targets]
    values = torch.tensor([float(target.value(part)) for target, part in zip(targets, parts)], dtype=torch.float64)
    return values, [(target.box, target.cotangent(part)) for target, part in zip(targets, parts)]


def part_of(output: Tensor, around: Box, box: Box) -> Tensor:
    """The part of an output (1, K, around...) that lies in a smaller box."""
    return output[index_of(shifted(box, [part.start for part in around]))]


def whole_box(size: Sequence[int]) -> Box:
    return tuple(slice(0, int(length)) for length in size)
