"""What a layer gives for reference images: the noise that the bottleneck puts in place of information.

Mean and variance are merged batch by batch (Chan, Golub and LeVeque 1979), in float64, so that any number of
images fits and parts computed apart can be joined.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...core.errors import InputError, ModelError, OptionError
from ...io.tensor_file import write_tensors

Scope = Literal["position", "channel"]

FEW_SAMPLES = 1000
"""Of statistics whose number of independent images is not known."""
FEW_SCANS = 50
"""Below it the spread between scans is known to worse than a tenth: its relative error is 1 / sqrt(2 (m - 1))."""
POSITION_SCANS = 5
"""Scans below which statistics per position are not taken of themselves."""
PRIOR_SCANS = 8
"""Scans that the deviation of a whole channel counts for beside a place's own, of which few scans tell little."""
_FORMAT = "xaiengine-reference-statistics-1"


OWN_SCAN = "of the explained scan itself"


@dataclass(frozen=True)
class ReferenceStatistics:
    """Mean, standard deviation and activity of a layer's neurons over reference images.

    ``mean``, ``std``, ``active``: (C, *cells) with scope "position", for one size of input; (C,) with scope
    "channel", for any size. ``active`` is False for neurons that are non-zero in too few samples.

    ``samples`` counts the slices, windows or volumes that the network saw; ``scans`` the scans that they were taken
    from, which alone are independent of each other (0: not known).
    """

    mean: Tensor
    std: Tensor
    active: Tensor
    samples: int
    scope: Scope
    after_relu: bool = False
    metadata: dict[str, str] = field(default_factory=dict)
    scans: int = 0

    @property
    def source(self) -> str:
        """What they rest on: ``60 samples from 3 scans``."""
        samples = f"{self.samples:,} sample{'s' if self.samples != 1 else ''}"
        return f"{samples} from {self.scans:,} scan{'s' if self.scans != 1 else ''}" if self.scans else samples

    @property
    def warning(self) -> str:
        """Said of statistics from few independent scans; empty otherwise."""
        if self.scans >= FEW_SCANS or (not self.scans and self.samples >= FEW_SAMPLES):
            return ""
        text = f"The reference statistics come from {self.source} only"
        if self.scans > 1:
            error = 1 / math.sqrt(2 * (self.scans - 1))
            return f"{text}; the spread between scans is known to about {error:.0%}, so bits are approximate."
        return f"{text}; how much scans differ from each other is not known, so bits are approximate."

    @property
    def description(self) -> str:
        """What noise they make, for the reader of a map."""
        if OWN_SCAN in self.metadata:
            return (
                "The noise is drawn from the explained scan's own values: the bits are not quantitative, and the map "
                "may follow the brightness of the scan instead of the model. Run fit-reference over healthy scans."
            )
        place = "at the same place of" if self.scope == "position" else "anywhere in"
        return f"The noise is what {place} {self.source} of reference is found."

    def fitting(self, shape: tuple[int, ...]) -> ReferenceStatistics:
        """These, or for a layer (C, *cells) of other cells than theirs, those of whole channels."""
        others = self.scope == "position" and tuple(self.mean.shape) != tuple(shape)
        return self.pooled() if others and self.mean.shape[0] == shape[0] else self

    def pooled(self) -> ReferenceStatistics:
        """Per channel, from those per position: the spread within and between places."""
        if self.scope == "channel":
            return self
        mean, variance = self.mean.flatten(1).double(), self.std.flatten(1).double().square()
        spread = variance.mean(1) + mean.var(1, correction=0)
        active = self.active.flatten(1).any(1)
        return replace(self, mean=mean.mean(1).float(), std=spread.sqrt().float(), active=active, scope="channel")

    @property
    def figures(self) -> dict[str, float]:
        """What a bottleneck's result records of the noise that it drew.

        ``bits_quantitative`` is 0 for statistics of the explained scan itself: they carry the answer.
        """
        return {
            "reference_samples": float(self.samples),
            "reference_scans": float(self.scans),
            "reference_per_position": float(self.scope == "position"),
            "bits_quantitative": float(OWN_SCAN not in self.metadata),
        }

    def broadcast(self, shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(mean, std, active) as float32 that broadcast against rows of shape (C, *cells).

        Raises ModelError when the layer's shape is not that of the statistics.
        """
        found = tuple(self.mean.shape)
        fits = found == tuple(shape) if self.scope == "position" else found == (shape[0],)
        if not fits:
            wanted = "x".join(map(str, shape))
            raise ModelError(
                f"The reference statistics are of a layer of shape {'x'.join(map(str, found))}, "
                f"but the layer gives {wanted} here.",
                "Fit statistics for this layer and input size, or per channel, which serve any size."
                if len(found) > 1 and found[0] == shape[0]
                else "Fit reference statistics for this layer.",
            )
        view = shape if self.scope == "position" else (shape[0],) + (1,) * (len(shape) - 1)

        def placed(part: Tensor) -> Tensor:
            return part.to(device, torch.float32).reshape(view)

        return placed(self.mean), placed(self.std), placed(self.active)

    def with_metadata(self, **metadata: str) -> ReferenceStatistics:
        return replace(self, metadata={**self.metadata, **metadata})

    def save(self, path: Path | str) -> None:
        """Write as safetensors, whole or not at all."""
        tensors = {"mean": self.mean.float(), "std": self.std.float(), "active": self.active.to(torch.uint8)}
        metadata = {f"user.{key}": str(value) for key, value in self.metadata.items()}
        metadata |= {
            "format": _FORMAT,
            "samples": str(self.samples),
            "scope": self.scope,
            "after_relu": str(int(self.after_relu)),
            "scans": str(self.scans),
        }
        write_tensors(path, tensors, metadata)

    @classmethod
    def load(cls, path: Path | str) -> ReferenceStatistics:
        """Raises InputError when the file is missing or holds something else."""
        from safetensors import SafetensorError, safe_open

        remedy = "Fit the reference statistics again."
        try:
            with safe_open(str(path), framework="pt") as stream:
                metadata = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        except FileNotFoundError as error:
            raise InputError(f"There is no file {path} with reference statistics.", remedy) from error
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} cannot be read as reference statistics: {error}.", remedy) from error
        return cls.from_tensors(tensors, metadata, str(path))

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor], metadata: dict[str, str], name: str) -> ReferenceStatistics:
        """From the content of a safetensors file; ``name`` is said in errors.

        Raises InputError when it holds something else.
        """
        remedy = "Fit the reference statistics again."
        if metadata.get("format") != _FORMAT:
            raise InputError(f"{name} holds no reference statistics that this version can read.", remedy)
        try:
            parts = (tensors["mean"].float(), tensors["std"].float(), tensors["active"].bool())
            samples, scans = int(metadata["samples"]), int(metadata.get("scans", 0))
        except (KeyError, ValueError) as error:
            raise InputError(f"{name} cannot be read as reference statistics: {error}.", remedy) from error
        user = {key[5:]: value for key, value in metadata.items() if key.startswith("user.")}
        scope = metadata.get("scope", "position")
        return cls(*parts, samples, scope, metadata.get("after_relu") == "1", user, scans)


class StatisticsAccumulator:
    """Gathers a layer's activations: ``add`` batches, ``merge`` other accumulators, then ``finish``.

    ``scans`` is how many independent scans the activations come from, for whoever knows it; merging adds it up.
    """

    def __init__(self, scope: Scope = "position", scans: int = 0) -> None:
        if scope not in ("position", "channel"):
            raise OptionError(f"Statistics cannot be gathered per {scope!r}.", "Use position or channel.")
        self.scope: Scope = scope
        self.samples = 0
        self.scans = scans
        self._rows = 0
        self._count = 0
        self._mean = torch.zeros(0)
        self._squares = torch.zeros(0)
        self._nonzero = torch.zeros(0)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *cells) or (C,); empty before the first activation."""
        return tuple(self._mean.shape) if self._count else ()

    def add(self, activation: Tensor, *, mirrored: bool = False) -> None:
        """(N, C, *cells), from N reference samples; mirror images of samples enter the values, not the number."""
        if activation.ndim < 2 or activation.shape[0] == 0:
            raise ModelError(f"Expected activations (samples, channels, ...), found {tuple(activation.shape)}.")
        # MPS has no float64
        values = (activation.cpu() if activation.device.type == "mps" else activation).detach().double()
        if self.scope == "channel":
            values = values.movedim(1, -1).flatten(0, -2)
        mean = values.mean(0)
        squares = (values - mean).square_().sum(0)
        self._rows += activation.shape[0]
        self._join(0 if mirrored else activation.shape[0], values.shape[0], mean, squares, (values != 0).sum(0))

    def merge(self, other: StatisticsAccumulator) -> None:
        if other.scope != self.scope:
            raise OptionError(f"Statistics per {other.scope} cannot be joined with those per {self.scope}.")
        if other._count:
            self._rows += other._rows
            self.scans += other.scans
            self._join(other.samples, other._count, other._mean, other._squares, other._nonzero)

    def _join(self, samples: int, count: int, mean: Tensor, squares: Tensor, nonzero: Tensor) -> None:
        if not self._count:
            self._mean, self._squares, self._nonzero = mean.clone(), squares.clone(), nonzero.clone()
        elif mean.shape != self._mean.shape:
            raise ModelError(
                f"The layer gave {tuple(self._mean.shape)} for earlier images and {tuple(mean.shape)} now.",
                "Use reference images of one size, or statistics per channel.",
            )
        else:
            total = self._count + count
            delta = mean - self._mean
            self._mean += delta * (count / total)
            self._squares += squares + delta.square() * (self._count * count / total)
            self._nonzero += nonzero
        self._count += count
        self.samples += samples

    def pooled(self) -> StatisticsAccumulator:
        """The same activations gathered per channel, exactly."""
        found = StatisticsAccumulator("channel", self.scans)
        if not self._count:
            return found
        if self.scope == "channel":
            found._rows = self._rows
            found._join(self.samples, self._count, self._mean, self._squares, self._nonzero)
            return found
        means = self._mean.flatten(1)
        mean = means.mean(1)
        squares = self._squares.flatten(1).sum(1) + self._count * (means - mean[:, None]).square().sum(1)
        found._rows = self._rows
        found._join(self.samples, self._count * means.shape[1], mean, squares, self._nonzero.flatten(1).sum(1))
        return found

    def finish(
        self,
        after_relu: bool = False,
        min_std: float = 0.01,
        activity_threshold: float = 0.01,
        prior_scans: float = 0.0,
    ) -> ReferenceStatistics:
        """The statistics so far. Raises InputError with fewer than two samples: there is no deviation then.

        ``after_relu``: mean 0, and as deviation the root mean square of the non-zero entries (Demir et al. 2021).
        ``min_std``: floor of the deviation. Neurons non-zero in a share of samples of at most
        ``activity_threshold`` are inactive and carry no bits. ``prior_scans``: the variance at a position is averaged
        with that of its channel, which counts for so many scans.
        """
        if self._rows < 2:
            raise InputError(
                f"Reference statistics need two samples or more, found {self.samples}.", "Add reference images."
            )
        if after_relu:
            total = self._squares + self._mean.square() * self._count
            std = (total / self._nonzero.clamp_min(1)).sqrt()
            mean = torch.zeros_like(self._mean)
        else:
            std = (self._squares / (self._count - 1)).sqrt()
            mean = self._mean
        if prior_scans and self.scope == "position":
            whole = self.pooled().finish(after_relu, min_std, activity_threshold).std.double()
            own = float(self.scans or self.samples)
            view = (-1,) + (1,) * (std.ndim - 1)
            std = ((own * std.square() + prior_scans * whole.square().view(view)) / (own + prior_scans)).sqrt()
        active = self._nonzero / self._count > activity_threshold
        return ReferenceStatistics(
            mean.float(),
            std.clamp_min(min_std).float(),
            active,
            self.samples,
            self.scope,
            after_relu,
            scans=self.scans,
        )
