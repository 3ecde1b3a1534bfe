"""Bundles with several image keys: each key's steps for its own channel, in the order of ``ConcatItemsd``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import ModelError
from .trust.safe_config import Component

_LABELS = ("label", "pred", "mask", "seg", "gt", "target")
_USUAL = ("image", "img", "ct", "inputs", "input", "x", "volume", "scan")
_MOVING = (
    "Orientation Spacing Resize Zoom Rotate90 Flip CropForeground CenterSpatialCrop CenterScaleCrop SpatialCrop "
    "SpatialPad BorderPad DivisiblePad ResizeWithPadOrCrop"
).split()


@dataclass(frozen=True)
class ChannelSpecs:
    """Specs of single channels: (channel, spec), in the order of the channels; others stay as they are."""

    groups: tuple[tuple[int, Any], ...]
    keys: tuple[str, ...]
    name: str = "PerChannel"

    @property
    def arguments(self) -> Mapping[str, Any]:
        return {}

    def build(self) -> PerChannel:
        """Raises ModelError when the arguments of a step do not fit."""
        return PerChannel(tuple((channel, spec.build()) for channel, spec in self.groups), self.keys)

    def changed(self, change: Callable[[Any], Any]) -> ChannelSpecs:
        """The same with every channel's spec changed."""
        return ChannelSpecs(tuple((channel, change(spec)) for channel, spec in self.groups), self.keys)


@dataclass(frozen=True)
class PerChannel:
    """Array transforms of single channels; the engine applies each to its own (see ``affine_tracking``)."""

    groups: tuple[tuple[int, Any], ...]
    keys: tuple[str, ...]

    @property
    def moves_all(self) -> bool:
        return len(self.groups) == len(self.keys)


def plain_name(step: Component) -> str:
    """The array transform's name of a step."""
    name = step.short_name
    for suffix in ("Dict", "d", "D"):
        if name.endswith(suffix) and "keys" in step.arguments:
            return name[: -len(suffix)]
    return name


def keys_of(step: Component) -> list[str]:
    """The keys of a dictionary transform."""
    keys = step.arguments.get("keys", ())
    return [str(key) for key in (keys if isinstance(keys, (list, tuple)) else [keys])]


def moves_voxels(step: Component) -> bool:
    """Whether a step changes where voxels lie."""
    return plain_name(step) in _MOVING


def joined_keys(steps: list[Component]) -> tuple[tuple[str, ...], Component, str] | None:
    """The image keys in the order of their channels, the step that joins them, and the name of the result.

    None for one image key. Raises ModelError naming the keys where nothing says in which order they are joined.
    """
    for step in steps:
        keys = keys_of(step)
        if plain_name(step) == "ConcatItems" and len(keys) > 1 and not any(_is_label(key) for key in keys):
            if int(step.arguments.get("dim", 0) or 0) != 0:
                raise ModelError(
                    f"The preprocessing step {step.target} joins {', '.join(keys)} along a spatial axis.",
                    "Join them as channels (dim 0).",
                )
            return tuple(keys), step, str(step.arguments.get("name", keys[0]))
    loaded = list(dict.fromkeys(key for step in steps if plain_name(step) == "LoadImage" for key in keys_of(step)))
    images = [key for key in loaded if not _is_label(key)]
    if len(images) > 1 and sum(key.lower() in _USUAL for key in images) != 1:
        raise ModelError(
            f"The preprocessing loads several images ({', '.join(images)}) and no step joins them into channels.",
            "Add ConcatItemsd with these keys, in the order of the network's channels, to the preprocessing.",
        )
    return None


def _is_label(key: str) -> bool:
    return key.lower().startswith(_LABELS)


def own_specs(step: Component, keys: tuple[str, ...], spec_of: Callable[[Component, int], Any]) -> dict[int, Any]:
    """The specs of a step by channel, for those of the image keys that it works on."""
    if plain_name(step) == "ResampleToMatch" and step.arguments.get("key_dst") in keys:
        return {}  # further channels are read onto the voxels of the first one
    given = keys_of(step)
    found = {}
    for position, key in enumerate(given):
        if key in keys and (spec := spec_of(step, position)) is not None:
            found[keys.index(key)] = spec
    return found


def channel_specs(step: Component, involved: Mapping[int, Any], keys: tuple[str, ...]) -> Any:
    """The step for its channels. Raises ModelError where it would move some channels and leave others."""
    if moves_voxels(step):
        if len(involved) < len(keys):
            named = ", ".join(keys[channel] for channel in sorted(involved))
            raise ModelError(
                f"The preprocessing step {step.target} moves the voxels of {named} and not those of the other images "
                f"({', '.join(keys)}).",
                "Give all image keys the same spatial steps.",
            )
        if len({repr(spec) for spec in involved.values()}) == 1:
            return next(iter(involved.values()))
    return ChannelSpecs(tuple(sorted(involved.items())), keys)
