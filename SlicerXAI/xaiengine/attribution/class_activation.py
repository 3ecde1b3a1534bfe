"""Class activation maps of a case, at all its layers, from one pass."""

from __future__ import annotations

import torch

from ..network.layer_maps import known_layout
from .cam import RECTIFIED, WEIGHTS, scaled
from .case import Case, LayerMaps, some_layer, with_layers
from .forward import Attribution

SMALLEST_MEAN_GRADIENT = 0.02


def class_activation(case: Case, name: str) -> Attribution:
    """The map of one of :data:`xaiengine.attribution.cam.CAM_METHODS` at every layer of the case."""
    layers = some_layer(case.layers)
    found = []
    for layer in layers[-1:] if name in ("cam", "scorecam") else layers:
        notes: tuple[str, ...] = ()
        if name == "cam":
            cells = case.original_cam(layer)
        elif name == "scorecam":
            cells = _score_cam(case, layer)
        else:
            maps = case.features()[layer]
            cells = _weighted(name, maps)
            notes = _averaging_notes(maps.gradient, layer) if name == "gradcam" else ()
        notes += _token_notes(case, layer)
        cells = cells.relu() if name in RECTIFIED else cells
        found.append(case.from_cells(layer, cells, Attribution(cells, unit="weighted activation", notes=notes)))
    return with_layers(found)


def _weighted(name: str, maps: LayerMaps) -> torch.Tensor:
    if name == "hirescam":
        return maps.product
    if name == "layercam":
        return maps.positive_product
    return (WEIGHTS[name](maps.activation, maps.gradient) * maps.activation).sum(1)


def _averaging_notes(gradient: torch.Tensor, layer: str) -> tuple[str, ...]:
    """Where next to nothing of the gradient is left in the channels' means, from which Grad-CAM is made.

    Instance normalization behind a layer does that: a shift of a whole channel changes nothing.
    """
    left = float(gradient.flatten(2).mean(2).abs().mean() / gradient.abs().mean().clamp_min(1e-30))
    if left >= SMALLEST_MEAN_GRADIENT:
        return ()
    return (
        f"Grad-CAM at {layer} rests on {left:.1%} of the gradient: its mean over the cells is nearly 0, as "
        "instance normalization makes it. HiResCAM does not average.",
    )


def _token_notes(case: Case, layer: str) -> tuple[str, ...]:
    layout = known_layout(case.network, layer, tuple(case.sample.shape[2:]))
    if layout is None or layout.kind == "first":
        return ()
    return (
        f"{layer} is a layer of tokens, where class activation maps often miss: on small transformers that look for a "
        "planted cube Grad-CAM found 1 of 12, HiResCAM 8. Gradient-weighted attention and AttnLRP found all.",
    )


@torch.no_grad()
def _score_cam(case: Case, layer: str) -> torch.Tensor:
    """Feature maps weighted by what each keeps of the answer as a mask of the input (Wang 2020), (R, cells...)."""
    masks = scaled(case.activation(layer).float())
    channels = masks.shape[1]
    scores = torch.empty(masks.shape[:2], device=masks.device)
    for piece in case.pieces(rowwise=True):
        reference = piece.forward.values(piece.inputs)[0]
        for start in range(0, channels, piece.batch_size):
            chunk = case.masks_on_input(layer, masks[piece.row, start : start + piece.batch_size])
            masked = piece.inputs * chunk[:, None].to(piece.inputs)
            found = piece.forward.values(masked, len(masked)) - reference
            scores[piece.row, start : start + len(chunk)] = found
    weights = scores.softmax(1).reshape(*scores.shape, *[1] * (masks.ndim - 2))
    return (weights * masks).sum(1)
