"""The prediction of a model for a whole scan, in the way the model is meant to be run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.errors import ModelError
from ..models.explained_model import ExplainedModel

if TYPE_CHECKING:
    import torch

    from .preprocessing import Preprocessed

SLICE_AXIS = {"sagittal": 0, "coronal": 1, "axial": 2}
ROWS_AT_ONCE = 16


def predict_scan(
    model: ExplainedModel, prepared: Preprocessed, on_pass: Callable[[int], None] = lambda count: None
) -> torch.Tensor:
    """Raw outputs for a preprocessed scan.

    Returns:
        (1, K, I, J, K) for a segmentation; (1, K) for a model of whole scans; (slices, K) for one of slices.

    Raises:
        ModelError: the scan has another number of channels than the network takes.
    """
    check_channels(model, prepared.tensor.shape[0])
    if model.task == "segmentation":
        return _segmentation(model, prepared, on_pass)
    batch = prepared.tensor[None].to(model.device)
    if model.spatial_dims == 2:
        return _slices(model, batch, on_pass)
    return model.predict(batch).float()


def check_channels(model: ExplainedModel, channels: int) -> None:
    """Refuse a scan whose channels are not those of the network, saying what the channels should be."""
    if channels == model.in_channels:
        return
    named = f" ({', '.join(model.channel_names)})" if len(model.channel_names) == model.in_channels else ""
    raise ModelError(
        f"The model {model.name} takes {model.in_channels} channels{named}, the scan gives {channels}.",
        "Give the first as the scan and the others by --channels (the option Additional channels), in this order."
        if model.in_channels > 1
        else "Choose a scan with one channel.",
    )


def _segmentation(model: ExplainedModel, prepared: Preprocessed, on_pass: Callable[[int], None]) -> torch.Tensor:
    from .window_layout import lay_windows
    from .windows import WindowedModel

    device = model.device
    axis = SLICE_AXIS[model.inferer.plane]
    layout = lay_windows(prepared.tensor.shape[1:], model.inferer, model.spatial_dims, axis, device)
    windows = WindowedModel(
        lambda batch: model.select_output(model.network(batch)), layout, model.inferer.sw_batch_size, on_pass
    )
    return windows.predict(prepared.tensor[None].to(device))


def _slices(model: ExplainedModel, batch: torch.Tensor, on_pass: Callable[[int], None]) -> torch.Tensor:
    import torch

    axis = SLICE_AXIS[model.inferer.plane]
    rows = batch[0].movedim(axis + 1, 0)
    found = []
    for part in rows.split(ROWS_AT_ONCE):
        found.append(model.predict(part).float())
        on_pass(len(part))
    return torch.cat(found)
