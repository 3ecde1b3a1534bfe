"""Noisy passes through the layers after the bottleneck, in parts that fit into memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ...core.device import available_memory, is_out_of_memory
from ...core.errors import ModelError, ResourceError
from ...network.tail.tail import TailRecord
from .objectives import Objective
from .settings import BottleneckSettings

MOST_ROWS = 32
"""More rows in one pass are no faster."""

_HALF_PRECISION_SCALE = 256.0


def _mixed(*parts: int) -> int:
    """One 63-bit seed from several numbers (SplitMix64), so that neighboring rows share nothing."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1


class RowNoise:
    """Standard normal noise of each row, drawn from the row's own stream: neighbors in a batch change nothing."""

    def __init__(self, seed: int, row_ids: Sequence[int], device: torch.device, purpose: int = 0) -> None:
        self._generators = [torch.Generator(device).manual_seed(_mixed(seed, row, purpose)) for row in row_ids]

    def draw(self, rows: Sequence[int], copies: int, like: Tensor) -> Tensor:
        """(copies, n, ...) for the n given rows."""
        noise = torch.empty(copies, *like.shape, dtype=torch.float32, device=like.device)
        for copy in range(copies):
            for place, row in enumerate(rows):
                noise[copy, place].normal_(generator=self._generators[row])
        return noise


def parts(rows: int, copies: int, limit: int) -> list[tuple[slice, slice]]:
    """(rows, copies) of each pass with at most ``limit`` rows x copies: few and even parts, whole rows first."""

    def even(total: int, most: int) -> Iterator[slice]:
        count = math.ceil(total / max(1, min(most, total)))
        edges = [round(part * total / count) for part in range(count + 1)]
        return (slice(a, b) for a, b in zip(edges, edges[1:]))

    return [(row, copy) for row in even(rows, limit) for copy in even(copies, limit // rows)]


class NoisyPasses:
    """Losses and their gradients for noisy activations of some of the recorded rows."""

    def __init__(
        self,
        record: TailRecord,
        objective: Objective,
        settings: BottleneckSettings,
        to_layer: Callable[[Tensor], Tensor],
        row_ids: Sequence[int],
        clamp: bool,
        progress: Callable[[], None],
    ) -> None:
        self.record, self.objective, self.settings = record, objective, settings
        self.clamp = clamp
        self.passes = 0
        self.warnings: list[str] = []
        self._to_layer, self._progress = to_layer, progress
        self._device = record.activation.device
        self._noise = RowNoise(settings.seed, row_ids, self._device)
        self._check_noise = RowNoise(settings.seed, row_ids, self._device, purpose=1)
        self.limit = settings.rows_per_pass or self._affordable_rows()
        self.precision = settings.autocast

    def _affordable_rows(self) -> int:
        budget = self.settings.memory_budget or available_memory(self._device) // 2
        return max(1, min(MOST_ROWS, int(budget // max(1, self.record.bytes_per_row() * 3 // 2))))

    def count(self, rows: int, copies: int) -> int:
        return len(parts(rows, copies, self.limit))

    def gradients(self, rows: Sequence[int], location: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss of each row (n,), and its gradients for mean and deviation of Z (n, C, *cells)."""
        copies = self.settings.copies
        draws = copies // 2 if self.settings.antithetic else copies
        drawn = self._noise.draw(rows, draws, location)
        if self.precision == "auto":
            self.precision = self._faster_precision(rows, location, spread, drawn)
        while True:
            try:
                return self._in_parts(rows, location, spread, drawn)
            except (RuntimeError, MemoryError) as error:
                self._halve_or_raise(error)

    def _in_parts(
        self, rows: Sequence[int], location: Tensor, spread: Tensor, drawn: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        copies = self.settings.copies
        losses = location.new_zeros(len(rows))
        to_location, to_spread = torch.zeros_like(location), torch.zeros_like(location)
        for some_rows, some_copies in parts(len(rows), copies, self.limit):
            noise = _signed(drawn, some_copies)[:, some_rows]
            z = torch.addcmul(location[some_rows], spread[some_rows], noise)
            loss, gradient = self._pass(rows[some_rows], z)
            losses[some_rows] += loss.sum(0) / copies
            to_location[some_rows] += gradient.sum(0) / copies
            to_spread[some_rows] += gradient.mul_(noise).sum(0) / copies
            self._progress()
        return losses, to_location, to_spread

    def _pass(self, rows: Sequence[int], z: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (k, n) and its gradient for z (k, n, C, *cells)."""
        self.passes += 1
        copies = z.shape[0]
        flat = (z.clamp_min(0) if self.clamp else z).flatten(0, 1).requires_grad_(True)
        scale = _HALF_PRECISION_SCALE if self.precision == "float16" else 1.0
        with torch.enable_grad():
            loss = self._loss(rows, copies, flat, self.precision)
            if not loss.requires_grad:
                raise ModelError(
                    "The explained value does not depend on the layer in a differentiable way.",
                    "Choose an earlier layer, or a target that the model computes from it.",
                )
            (gradient,) = torch.autograd.grad(loss.sum() * scale, flat)
        gradient = gradient.reshape(z.shape).div_(scale) if scale != 1 else gradient.reshape(z.shape)
        if not bool(torch.isfinite(gradient).all()):
            raise ModelError(
                "The gradient at the bottleneck is not finite.",
                "Turn autocast off." if self.precision != "off" else "Check the model and the objective.",
            )
        if self.clamp:
            gradient = gradient * (z > 0)  # not in place: it may be an expanded view
        return loss.detach().view(copies, -1), gradient

    def _loss(self, rows: Sequence[int], copies: int, flat: Tensor, precision: str) -> Tensor:
        with self._autocast(precision):
            output = self.record.run(self._to_layer(flat), rows)
        index = torch.as_tensor(list(rows), device=self._device).repeat(copies)
        loss = self._losses(tree_map(_in_float32, output), index)
        return loss if self.settings.direction == "keep" else -loss

    def _losses(self, output: Any, index: Tensor) -> Tensor:
        loss = self.objective(output, index)
        if loss.shape != index.shape:
            raise ModelError(
                f"The objective gave {tuple(loss.shape)} for {len(index)} rows; expected one loss for each row."
            )
        return loss.float()

    def _autocast(self, precision: str) -> AbstractContextManager:
        if precision in ("off", "auto"):
            return nullcontext()
        return torch.autocast(self._device.type, getattr(torch, precision))

    @torch.no_grad()
    def pure_noise(self, rows: Sequence[int], mean: Tensor, std: Tensor, copies: int) -> tuple[Tensor, Tensor]:
        """Mean objective (n,), and share of copies that give the explained answer (n,), without information."""
        losses = torch.zeros(len(rows), device=self._device)
        met = torch.zeros_like(losses)
        tells = hasattr(self.objective, "met")
        shape = self.record.activation[:1]
        for some_rows, some_copies in parts(len(rows), copies, self.limit):
            chosen = rows[some_rows]
            count = some_copies.stop - some_copies.start
            like = mean.expand(len(chosen), *mean.shape[-(shape.ndim - 1) :])
            z = torch.addcmul(mean, std, self._check_noise.draw(chosen, count, like))
            z = z.clamp_min(0) if self.clamp else z
            with self._autocast(self.precision):
                output = self.record.run(self._to_layer(z.flatten(0, 1)), chosen)
            output = tree_map(_in_float32, output)
            index = torch.as_tensor(list(chosen), device=self._device).repeat(count)
            losses[some_rows] += self._losses(output, index).view(count, -1).sum(0) / copies
            if tells:
                met[some_rows] += self.objective.met(output, index).view(count, -1).float().sum(0) / copies
            self._progress()
        return losses, met if tells else torch.full_like(met, math.nan)

    def _faster_precision(self, rows: Sequence[int], location: Tensor, spread: Tensor, drawn: Tensor) -> str:
        """ "bfloat16" where one timed pass of it takes less than 0.8 of the time, else "off"."""
        some_rows, some_copies = parts(len(rows), self.settings.copies, self.limit)[0]
        noise = _signed(drawn, some_copies)[:, some_rows]
        z = torch.addcmul(location[some_rows], spread[some_rows], noise)
        seconds = {}
        before = self.passes
        for precision in ("off", "bfloat16"):
            self.precision = precision
            self._pass(rows[some_rows], z)  # the first of a kind also prepares weights
            start = self._clock()
            self._pass(rows[some_rows], z)
            seconds[precision] = self._clock() - start
        self.passes = before
        return "bfloat16" if seconds["bfloat16"] < 0.8 * seconds["off"] else "off"

    def _clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _halve_or_raise(self, error: Exception) -> None:
        if not is_out_of_memory(error):
            raise error
        if self.limit == 1:
            raise ResourceError(
                f"Not enough memory on {self._device} for a single pass through the layers after the bottleneck.",
                "Choose a later layer, a smaller image or another device.",
            ) from error
        self.limit //= 2
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self.warnings.append(f"Memory ran out: {self.limit} rows a pass are used from here on.")


def _signed(drawn: Tensor, copies: slice) -> Tensor:
    """Noise of the copies of a part: those beyond the drawn ones mirror them."""
    draws = drawn.shape[0]
    pieces = [drawn[copies.start : min(copies.stop, draws)]] if copies.start < draws else []
    if copies.stop > draws:
        pieces.append(-drawn[max(copies.start, draws) - draws : copies.stop - draws])
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _in_float32(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf
