"""Information bottleneck attribution: how many bits of each place a prediction needs.

    record = Tail(model, "layer2").record(images)
    result = explain_rows(record, statistics, CrossEntropy(1))
    heat = bits_per_voxel(result.bits, images.shape[2:])

Noise replaces a layer's activation wherever the prediction does not suffer; what must stay is counted in bits
(Schulz et al., ICLR 2020). One optimization serves any number of samples (slices, patches), each with a mask,
an optimiser state and a noise stream of its own, in one, two or three dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...core.errors import ModelError, OptionError
from ...network.tail.tail import TailRecord
from .gaussian import Smoothing
from .mask import BottleneckMask
from .objectives import Objective
from .passes import NoisyPasses
from .settings import BottleneckMap, BottleneckSettings
from .statistics import ReferenceStatistics
from .stopping import stopping

__all__ = ["BottleneckMap", "BottleneckSettings", "channels_first", "explain_rows"]

_NO_BITS = 0.1
"""Totals below a tenth of a bit are not resolved further."""


def channels_first(rows: Tensor, channel_axis: int = 1) -> Tensor:
    """(N, C, *cells) from rows with the channels elsewhere (-1 for tokens); also what statistics are fitted on."""
    return rows.movedim(channel_axis, 1)


def explain_rows(
    record: TailRecord,
    statistics: ReferenceStatistics,
    objective: Objective,
    settings: BottleneckSettings | None = None,
    *,
    row_ids: Sequence[int] | None = None,
    channel_axis: int = 1,
    token_grid: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BottleneckMap:
    """Bits that each recorded row needs for the objective.

    ``row_ids`` (N,): names of the rows for their noise (default: their position); a row's result depends on its
    id and the seed, not on the other rows. ``channel_axis``: of ``record.activation``, -1 for tokens.
    ``token_grid``: spatial shape of the last tokens of an (N, tokens, C) layer; class tokens come before them,
    count in the total and are left out of the map. ``progress(done, total)`` is called after each pass and may
    raise to cancel; ``total`` is an upper bound until the last call.

    Raises ModelError when statistics or objective do not fit the model.
    """
    # A surrounding autocast would round the mask; the passes switch their own on.
    with torch.autocast(record.activation.device.type, enabled=False):
        settings = settings or BottleneckSettings()
        return _Optimisation(
            record, statistics, objective, settings, row_ids, channel_axis, token_grid, progress
        ).run()


class _Optimisation:
    def __init__(
        self,
        record: TailRecord,
        statistics: ReferenceStatistics,
        objective: Objective,
        settings: BottleneckSettings,
        row_ids: Sequence[int] | None,
        channel_axis: int,
        token_grid: Sequence[int] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.record, self.settings, self.statistics, self.objective = record, settings, statistics, objective
        self.axis, self.grid, self._report = channel_axis, tuple(token_grid) if token_grid else None, progress
        self.rows = record.samples
        if row_ids is not None and len(row_ids) != self.rows:
            raise OptionError(f"{len(row_ids)} row ids were given for {self.rows} rows.")
        self.row_ids = list(row_ids) if row_ids is not None else list(range(self.rows))
        if record.activation.ndim < 2:
            raise ModelError("The layer keeps no channels.", "Choose an earlier layer.")
        activation = channels_first(record.activation, channel_axis).float().contiguous()
        self.cells = tuple(activation.shape[2:])
        self.leading = self._class_tokens()
        parts = statistics.broadcast(tuple(activation.shape[1:]), activation.device)
        self.mean, self.std, self.active = parts
        smoothing = Smoothing(self.cells, settings.sigma, activation.device, self.grid, self.leading)
        self.mask = BottleneckMask(activation, *parts, smoothing, settings)
        self.passes = NoisyPasses(
            record, objective, settings, self._to_layer, self.row_ids, statistics.after_relu, self._count
        )
        self.done = 0
        per_step = self.passes.count(self.rows, settings.copies)
        self.total = self.passes.count(self.rows, settings.check_copies) + (settings.most_steps - 1) * per_step

    def _class_tokens(self) -> int:
        if self.grid is None:
            return 0
        leading = self.cells[0] - math.prod(self.grid) if len(self.cells) == 1 else -1
        if leading < 0:
            raise OptionError(
                f"A token grid of {self.grid} does not fit the layer's {self.cells} tokens.",
                "Give the number of patches along each axis, or no grid for layers with spatial axes.",
            )
        return leading

    def _to_layer(self, rows: Tensor) -> Tensor:
        return rows.movedim(1, self.axis).to(self.record.activation.dtype)

    def _count(self) -> None:
        self.done += 1
        self.total = max(self.total, self.done)
        if self._report is not None:
            self._report(self.done, self.total)

    def run(self) -> BottleneckMap:
        with torch.no_grad(), self.record.tail.ready():
            every = torch.arange(self.rows, device=self.mask.activation.device)
            signal_loss = self.objective(self.record.output, every).float()
            inactive = self._inactive_energy()
            active = self.active.expand(self.mask.activation.shape[1:])
            noise_loss, met = self.passes.pure_noise(
                range(self.rows),
                self.mean.expand_as(active) * active,
                self.std.expand_as(active) * active,
                self.settings.check_copies,
            )
            self._descend()
        if self._report is not None and self.done < self.total:
            self._report(self.total, self.total)
        return BottleneckMap(
            bits=self._bits_of_cells(),
            total_bits=self.bits.flatten(1).sum(1).cpu(),
            steps=self.steps,
            converged=self.stopping.converged,
            change_curve=torch.stack(self.changes),
            bits_curve=torch.stack(self.totals),
            loss_curve=torch.stack(self.losses),
            signal_loss=signal_loss.cpu(),
            noise_loss=noise_loss.cpu(),
            predicted_from_noise=met.cpu(),
            passes=self.passes.passes,
            precision=self.passes.precision,
            warnings=self._warnings(met, inactive),
            settings=self.settings,
            inactive_energy=inactive,
        )

    def _descend(self) -> None:
        settings, mask = self.settings, self.mask
        self.bits = mask.activation.new_zeros(self.rows, *self.cells)
        self.steps = torch.zeros(self.rows, dtype=torch.long)
        self.stopping = stopping(settings, self.rows, _NO_BITS)
        self.changes, self.totals, self.losses = [], [], []
        going = list(range(self.rows))
        for step in range(1, settings.most_steps + 1):
            bits = mask.bits_per_cell()
            totals = bits.flatten(1).sum(1)
            change = (bits - self.bits[going]).abs().flatten(1).sum(1) / totals.clamp_min(_NO_BITS)
            self.bits[going] = bits
            self.steps[going] = step
            self.totals.append(self._curve(going, totals))
            self.changes.append(self._curve(going, change if step > 1 else change * math.nan))
            ended = self.stopping.ended(going, step, change, bits)
            mask.bound = self.stopping.bound
            if self.stopping.released is not None:
                mask.forget(self.stopping.released)
            if bool(ended.any()):
                kept = [place for place in range(len(going)) if not ended[place]]
                going = [going[place] for place in kept]
                mask.keep_rows(torch.tensor(kept, dtype=torch.long, device=bits.device))
            if step == settings.most_steps or not going:  # the last map needs no gradient
                self.losses.append(self._curve([], totals[:0]))
                break
            losses, to_location, to_spread = self.passes.gradients(going, *mask.noisy_moments())
            self.losses.append(self._curve(going, losses))
            mask.step(to_location, to_spread)

    def _curve(self, going: list[int], values: Tensor) -> Tensor:
        curve = torch.full((self.rows,), math.nan)
        curve[going] = values.float().cpu()
        return curve

    def _bits_of_cells(self) -> Tensor:
        if self.grid is None:
            return self.bits.cpu()
        return self.bits[:, self.leading :].unflatten(1, self.grid).cpu()

    def _inactive_energy(self) -> float:
        """Largest share of a row's squared deviation that lies in inactive neurons, which the mask cannot keep."""
        if self.mask.active is None:
            return 0.0
        energy = ((self.mask.activation - self.mean) / self.std).square_()
        total = energy.flatten(1).sum(1)
        kept = (energy * self.mask.active).flatten(1).sum(1)
        return float((1 - kept / total.clamp_min(1e-12)).max())

    def _warnings(self, met: Tensor, inactive: float) -> tuple[str, ...]:
        warnings = [self.statistics.warning, self.record.note, *self.passes.warnings]
        from_noise = [self.row_ids[row] for row in (met > 0.5).nonzero().flatten().tolist()]
        if from_noise:
            says = "0 bits are needed" if self.settings.direction == "keep" else "destroying all does not change it"
            warnings.append(
                f"The explained answer is given for pure noise too in {_listed(from_noise, self.rows)}: {says}, and "
                "the map of such a row shows the optimiser's path, not evidence."
            )
        resting = [self.row_ids[row] for row in (~self.stopping.converged).nonzero().flatten().tolist()]
        if resting and self.settings.mode != "reference":
            warnings.append(
                f"The map still changed after {self.settings.max_steps} steps in {_listed(resting, self.rows)}."
            )
        if inactive > 0.05:
            warnings.append(
                f"{inactive:.0%} of the activation lies in neurons that the reference images hardly ever used: "
                "they are switched off and carry no bits. Reference images of this kind are missing."
            )
        return tuple(warning for warning in warnings if warning)


def _listed(rows: list[int], total: int) -> str:
    if total == 1:
        return "this sample"
    names = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    return f"{len(rows)} of {total} rows ({names})"
