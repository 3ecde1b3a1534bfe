"""Fits reference statistics of a model's layers over scans, one after another, in memory that does not grow with them.

Any model: of pictures, slices or volumes, classifying, multi-label, regressing or segmenting (whole or through
windows). The layers see what they see when the model predicts a scan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import nn

from ...core.errors import InputError, ModelError
from ...inference.prediction import ROWS_AT_ONCE, SLICE_AXIS, check_channels
from ...inference.preprocessing import preprocess
from ...inference.segmentation_preparation import predict_scan
from ...io.volume import Volume, check_volume
from ...models.explained_model import ExplainedModel
from ...network.layers import find_layer
from ..feature_maps import default_layers
from .segmentation_bottleneck import bottleneck_layer
from .statistics import POSITION_SCANS, PRIOR_SCANS, ReferenceStatistics, Scope, StatisticsAccumulator

if TYPE_CHECKING:
    from ...inference.scan_view import Shown

Choice = Literal["auto", "position", "channel"]

BOTTLENECK_LAYERS = 3
EXAMPLES = 8
"""Reference scans that are kept themselves."""


class ReferenceFit:
    """Statistics of ``layers`` (those of the bottlenecks if empty) over the scans that are added.

    ``shown`` hides what the model was not trained to see, as in :func:`xaiengine.inference.scan_view.view_scan`.
    ``scope`` "auto" gathers per position where the model sees every scan as one image of the same size, of five scans
    or more, and per channel else. ``examples`` of the scans are kept whole, drawn with the same chance, where the
    model sees a scan as one image.

    Raises:
        ModelError: the model's layers cannot be looked at, or there is none of this name.
    """

    def __init__(
        self,
        model: ExplainedModel,
        layers: Sequence[str] = (),
        scope: Choice = "auto",
        *,
        shown: Shown | None = None,
        check: Callable[[], None] = lambda: None,
        examples: int = EXAMPLES,
    ) -> None:
        model.capabilities.require("layers", "Fitting reference statistics")
        for name in layers:
            find_layer(model.network, name)
        self.model, self.layers = model, tuple(layers)
        self.scope: Scope = "channel" if scope == "channel" else "position"
        self._automatic = scope == "auto"
        self.notes: list[str] = []
        self.examples: list[torch.Tensor] = []
        """Reference scans (C, spatial...) as the network sees them."""
        self._shown, self._check, self._most_examples = shown, check, examples
        self._offered, self._random = 0, np.random.default_rng(0)
        self._candidate: torch.Tensor | None = None
        self._found: dict[str, StatisticsAccumulator] = {}

    def add(self, volume: Volume, most: int = 0) -> int:
        """Add a scan and return how many samples (slices, windows, volumes) of it were used, ``most`` of them if > 0.

        A scan that fails leaves no trace. Raises InputError or ModelError saying why it cannot be used.
        """
        model = self.model
        flat = min(volume.grid.shape) < 2
        if flat and model.spatial_dims == 3:
            raise InputError(
                f"{volume.name} is a two-dimensional image, but {model.name} takes volumes.", "Give scans with slices."
            )
        for channel in volume.channels_first():
            check_volume(volume.with_array(channel), allow_2d=model.spatial_dims == 2)
        if model.task == "segmentation":
            self._per_channel_from_now_on()
        gather = self._windows if model.task == "segmentation" else self._samples
        found = gather(volume, most)
        if self._automatic and self._of_other_size(found):
            self._per_channel_from_now_on()
            found = {name: part.pooled() for name, part in found.items()}
        candidate, self._candidate = self._candidate, None
        for name, part in found.items():  # first all, then all: a scan counts for every layer or for none
            self._fits(name, part)
        for name, part in found.items():
            self._found.setdefault(name, StatisticsAccumulator(self.scope)).merge(part)
        if candidate is not None:
            self._offer(candidate)
        return next(iter(found.values())).samples

    def _offer(self, example: torch.Tensor) -> None:
        """Reservoir sampling (Vitter 1985): after any number of scans, each was kept with the same chance."""
        self._offered += 1
        if len(self.examples) < self._most_examples:
            self.examples.append(example)
        elif (place := int(self._random.integers(self._offered))) < self._most_examples:
            self.examples[place] = example

    def _per_channel_from_now_on(self) -> None:
        """What is gathered of itself per position goes on per channel, with all that was gathered before."""
        if self._automatic and self.scope == "position":
            self.scope = "channel"
            self._found = {name: found.pooled() for name, found in self._found.items()}

    def _of_other_size(self, found: dict[str, StatisticsAccumulator]) -> bool:
        return self.scope == "position" and any(
            name in self._found and self._found[name].shape != part.shape for name, part in found.items()
        )

    def _fits(self, name: str, part: StatisticsAccumulator) -> None:
        trial = StatisticsAccumulator(self.scope)
        if name in self._found:
            trial.merge(self._found[name])
        trial.merge(part)

    def finish(self, after_relu: bool = False) -> dict[str, ReferenceStatistics]:
        """The statistics of each layer. Raises InputError when fewer than two samples were added.

        Every channel that ever answered counts as active: the published rule silences neurons that are zero in 99 %
        of samples, which over the cells of whole scans are just those that know small causes.
        """
        if not self._found:
            raise InputError(
                "No scan could be used for reference statistics.", "Give scans of the kind the model takes."
            )
        if any(found.scans < POSITION_SCANS for found in self._found.values()):
            self._per_channel_from_now_on()
        prior = PRIOR_SCANS if self._automatic else 0
        return {
            name: found.finish(after_relu, activity_threshold=0.0, prior_scans=prior).with_metadata(
                layer=name, model=self.model.digest
            )
            for name, found in self._found.items()
        }

    def _samples(self, volume: Volume, most: int) -> dict[str, StatisticsAccumulator]:
        model = self.model
        if self._shown is not None:
            volume, note = self._shown(volume, model, self._check)
            self._note(note)
        prepared = preprocess(volume, model.preprocessing())
        check_channels(model, prepared.tensor.shape[0])
        tensor = prepared.tensor
        three = model.spatial_dims == 3
        samples = tensor[None] if three else tensor.movedim(SLICE_AXIS[model.inferer.plane] + 1, 0).contiguous()
        if len(samples) > 1:
            self._per_channel_from_now_on()
        if len(samples) == 1:
            self._candidate = samples[0].detach().float().cpu()
        samples = samples[_spread(len(samples), most)]
        if not self.layers:
            self.layers = tuple(bottleneck_layers(model, samples[:1].to(model.device)))
        rows = ROWS_AT_ONCE if model.capabilities.free_batch else 1
        with _Recording(model, self.layers, self.scope) as recording:
            recording.on = True
            for chunk in samples.split(1 if three else rows):
                self._check()
                model.predict(chunk)
        return recording.found

    def _windows(self, volume: Volume, most: int) -> dict[str, StatisticsAccumulator]:
        """Through the model's own windows; padding and overlap are those of its prediction."""
        if not self.layers:
            self.layers = (self._window_layer(volume),)
        with _Recording(self.model, self.layers, self.scope) as recording:

            def planned(count: int) -> None:
                # Called after the trials of window sizes, before the windows themselves.
                recording.chosen = set(_spread(count, most).tolist())
                recording.on = True
                if count > 1 and self.scope == "position":
                    self._note(
                        "Positions are those within a window, and windows lie at different places of a scan: "
                        "statistics per channel suit models of windows better."
                    )

            predict_scan(volume, self.model, plan=planned, on_windows=lambda count: self._check(), warn=self._note)
        return recording.found

    def _window_layer(self, volume: Volume) -> str:
        """The layer that explain-segmentation puts its bottleneck at."""
        scan = predict_scan(volume, self.model, on_windows=lambda count: self._check())
        batch = scan.windows.crop(scan.windows.padded(scan.image), [0])
        return bottleneck_layer(scan.module, batch)

    def _note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)


class _Recording:
    """Statistics of what layers give, in the first call of each pass, while it is entered and ``on``.

    ``chosen`` are the rows that count, numbered through all passes; all of them if None.
    """

    def __init__(self, model: ExplainedModel, layers: Sequence[str], scope: Scope) -> None:
        self.found = {name: StatisticsAccumulator(scope, scans=1) for name in layers}
        self.on = False
        self.chosen: set[int] | None = None
        self._model = model
        self._seen = dict.fromkeys(layers, 0)
        self._in_this_pass: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> _Recording:
        network = self._model.network
        self._stack.callback(network.register_forward_pre_hook(self._begin).remove)
        for name in self.found:
            self._stack.callback(find_layer(network, name).register_forward_hook(self._recorder(name)).remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _begin(self, *call: Any) -> None:
        self._in_this_pass.clear()

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(module: nn.Module, arguments: Any, output: Any) -> None:
            if not self.on or name in self._in_this_pass:
                return
            self._in_this_pass.add(name)
            if not isinstance(output, torch.Tensor):
                raise ModelError(
                    f"The layer {name} gives a {type(output).__name__}, not one tensor.", "Choose a layer inside it."
                )
            first = self._seen[name]
            self._seen[name] += len(output)
            kept = [row for row in range(len(output)) if self.chosen is None or first + row in self.chosen]
            if kept:
                self.found[name].add(output.detach()[kept])

        return record


def _spread(count: int, most: int) -> np.ndarray:
    """Numbers of ``most`` of ``count`` samples, spread evenly; all of them if ``most`` is 0."""
    return np.unique(np.linspace(0, count - 1, min(most or count, count)).round().astype(int))


def bottleneck_layers(model: ExplainedModel, row: torch.Tensor) -> list[str]:
    """The layers that the bottlenecks of a prediction use, the default one first; ``row`` (1, C, spatial...)."""

    def forward(inputs: torch.Tensor) -> Any:
        return model.select_output(model.network(inputs))

    spread = default_layers(forward, model.network, row, BOTTLENECK_LAYERS)
    own = [name for name in model.layers if name][:1]
    return own + [name for name in spread if name not in own][len(own) - BOTTLENECK_LAYERS :] if own else spread
