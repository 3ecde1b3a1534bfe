"""What layers give for a batch of inputs, at the cost of the passes up to the last of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ...attribution.feature_maps import check_spatial, default_layers, explainable
from ...core.errors import ModelError
from ...models.explained_model import ExplainedModel
from ...network.feature_grid import FeatureGrid, feature_grid, stretched
from ...network.layers import find_layer


class _Enough(Exception):
    """Every layer has spoken; what follows them is not needed."""


class LayerReader:
    """Activations (n, U, cells...) of layers by name, in float32. Raises ModelError for layers without positions."""

    def __init__(self, model: ExplainedModel, layers: Sequence[str]) -> None:
        model.capabilities.require("layers", "Dissection")
        self.model = model
        self.layers = {name: find_layer(model.network, name) for name in layers}
        self._grids: dict[tuple[str, tuple[int, ...]], FeatureGrid] = {}
        self._measured: dict[str, FeatureGrid] = {}

    def __call__(self, batch: Tensor) -> dict[str, Tensor]:
        rows = len(batch) if self.model.capabilities.free_batch else 1
        parts = [self._read(part.to(self.model.device)) for part in batch.split(rows)]
        found = {name: torch.cat([part[name] for part in parts]) for name in self.layers}
        for name, activation in found.items():
            check_spatial(name, activation, batch.ndim - 2)
            if not bool(torch.isfinite(activation).all()):
                raise ModelError(f"The layer {name} gives values that are not numbers.", "Check weights and image.")
        return found

    def _read(self, batch: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def recorder(name: str) -> Callable:
            def record(module: nn.Module, arguments: tuple, output: Any) -> None:
                if name in found:
                    return
                if not isinstance(output, Tensor):
                    raise ModelError(
                        f"The layer {name} gives a {type(output).__name__}, not one tensor.",
                        "Choose a layer inside it.",
                    )
                found[name] = output.detach().float().clone()
                if len(found) == len(self.layers):
                    raise _Enough

            return record

        with ExitStack() as stack, torch.no_grad(), explainable(self.model.network):
            for name, layer in self.layers.items():
                stack.callback(layer.register_forward_hook(recorder(name)).remove)
            try:
                self.model.network(batch)
            except _Enough:
                pass
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise ModelError(f"The layer {missing[0]} does not run for this image.", "Choose another layer.")
        return found

    def grid(self, layer: str, batch: Tensor, cells: Sequence[int]) -> FeatureGrid:
        """Where the cells of a layer lie in inputs like ``batch`` (N, C, spatial...)."""
        key = (layer, tuple(batch.shape[2:]))
        if key not in self._grids:
            self._grids[key] = self._find_grid(layer, batch, tuple(cells))
        return self._grids[key]

    def _find_grid(self, layer: str, batch: Tensor, cells: tuple[int, ...]) -> FeatureGrid:
        known = self._measured.get(layer)
        if known is None:
            known = feature_grid(self.model.network, layer, batch[:1])
            self._measured[layer] = known
            if known.cells == cells:
                return known
        if known.measured:  # strides and offsets are the same for every size of image
            return FeatureGrid(cells, known.scale, known.offset, measured=True)
        places = [stretched(count, size) for count, size in zip(cells, batch.shape[2:])]
        scale, offset = zip(*places)
        return FeatureGrid(cells, scale, offset, measured=False)


def chosen_layers(model: ExplainedModel, wanted: Sequence[str], example: Tensor) -> list[str]:
    """The layers asked for, else the last feature map before the answer, where units come nearest to findings."""
    names = [name.strip() for name in wanted if name.strip()]
    for name in names:
        find_layer(model.network, name)
    if names:
        return list(dict.fromkeys(names))
    model.capabilities.require("layers", "Dissection")
    row = example[:1].to(model.device)
    with explainable(model.network):
        return default_layers(lambda inputs: model.select_output(model.network(inputs)), model.network, row)
