"""Layer methods of a case, at all its layers."""

from __future__ import annotations

import torch
from torch import nn

from .case import Case, some_layer, with_layers
from .forward import Attribution, TargetForward
from .layer import LayerSettings, layer_attribution


def layer_run(case: Case, name: str, *, steps: int = 32, samples: int = 16) -> Attribution:
    """The map of one of :data:`xaiengine.attribution.layer.LAYER_METHODS` at every layer of the case."""
    settings = LayerSettings(steps, samples, case.batch_size, case.seed)

    def call(
        forward: TargetForward, layer: nn.Module, layer_name: str, inputs: torch.Tensor, baseline: torch.Tensor
    ) -> Attribution:
        return layer_attribution(name, forward, layer_name, layer, inputs, baseline, settings)

    found = []
    for layer in some_layer(case.layers):
        if name == "layer_activation":
            cells = case.activation(layer).float().sum(1)
            found.append(case.from_cells(layer, cells, Attribution(cells, unit="activation")))
        elif name == "layer_gradient_x_activation":
            cells = case.features()[layer].product
            found.append(case.from_cells(layer, cells, Attribution(cells, unit="change per voxel"), amounts=True))
        else:
            found.append(case.at_layer(layer, call))
    return with_layers(found)
