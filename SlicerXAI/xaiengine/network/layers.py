"""Find a layer by name, and put a model into the state that explaining needs, and back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch import nn

from ..core.errors import ModelError

FEATURE_MAP = "_slicerxai_feature_map"
"""Attribute of a layer of tokens that holds its feature map (see layer_maps.py)."""


def layer_names(model: nn.Module) -> list[str]:
    """Names of all layers, as ``model.named_modules()`` spells them, without the model itself."""
    return [name for name, _ in model.named_modules() if name]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer called ``name``, or its feature map where it is a layer of tokens that has one.

    Raises ModelError with near names when there is none.
    """
    modules = dict(model.named_modules())
    if name and name in modules:
        return modules[name].__dict__.get(FEATURE_MAP, modules[name])
    near = difflib.get_close_matches(name, layer_names(model), n=4, cutoff=0.5)
    if not near:
        last = name.rsplit(".", 1)[-1].lower()
        near = [known for known in layer_names(model) if last and last in known.lower()][:4]
    top = ", ".join(child for child, _ in model.named_children())
    raise ModelError(
        f"The model {type(model).__name__} has no layer {name!r}.",
        f"Near names: {', '.join(near)}." if near else f"Its outermost layers: {top or 'none'}.",
    )


def layer_name(model: nn.Module, layer: nn.Module) -> str:
    """The name of a layer inside the model. Raises ModelError when it is not part of the model."""
    for name, module in model.named_modules():
        if module is layer or (layer is not None and module.__dict__.get(FEATURE_MAP) is layer):
            return name
    raise ModelError(
        f"The layer {type(layer).__name__} is not part of the model {type(model).__name__}.",
        "Pass one of the model's own modules, or its name.",
    )


@contextmanager
def frozen_parameters(model: nn.Module) -> Iterator[None]:
    """No gradients for weights: less work, and convolutions keep no input for them. Restored on leaving."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """``eval()`` for batch norm and dropout; each module's own mode is restored on leaving."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


_CHECKPOINT_OPTIONS = {
    "use_reentrant",
    "context_fn",
    "determinism_check",
    "debug",
    "early_stop",
    "preserve_rng_state",
}


def _call_directly(function: Callable, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **{key: value for key, value in kwargs.items() if key not in _CHECKPOINT_OPTIONS})


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Activation checkpointing off: its second forward would run during backward, when no hook is in place."""
    original = torch.utils.checkpoint.checkpoint
    torch.utils.checkpoint.checkpoint = _call_directly
    try:
        yield
    finally:
        torch.utils.checkpoint.checkpoint = original
