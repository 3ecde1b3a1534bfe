"""Reads what nnU-Net v2 wrote about a training: ``plans.json`` and ``dataset.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ...core.errors import ModelError

REMEDY = "Give the folder of a training with plans.json, dataset.json and fold_x/checkpoint_final.pth."


LARGEST_PATCH = 2**15
_WRONG = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


@contextmanager
def _sound(file: str, about: str) -> Iterator[None]:
    """Values of the wrong kind in a file become one sentence."""
    try:
        yield
    except _WRONG as error:
        raise ModelError(
            f"{file} holds values that do not fit{about} ({type(error).__name__}: {error}).", REMEDY
        ) from error


@dataclass(frozen=True)
class ChannelNormalisation:
    """How one input channel is normalized: the scheme's name, whether inside the non-zero mask, CT statistics."""

    scheme: str
    inside_mask: bool
    properties: Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """One configuration of nnU-Net's plans.

    ``transpose`` is nnU-Net's ``transpose_forward`` over the axes (z, y, x) of its own arrays; ``patch`` and
    ``spacing`` (mm) are in the transposed order and have two entries for 2D configurations.
    """

    name: str
    network: str
    arguments: Mapping[str, Any]
    imports: tuple[str, ...]
    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    transpose: tuple[int, int, int]
    normalization: tuple[ChannelNormalisation, ...]
    resampling: str
    resampling_options: Mapping[str, Any]
    reorient: bool

    @property
    def dims(self) -> int:
        return len(self.patch)


@dataclass(frozen=True)
class Labels:
    """Outputs of the network. With ``regions``, they overlap and each has a sigmoid of its own."""

    names: tuple[str, ...]
    regions: bool


def parse_json(text: str, file: str) -> Mapping[str, Any]:
    """A JSON mapping. Raises ModelError."""
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"{file} is not valid JSON: {error}.", REMEDY) from None
    if not isinstance(content, Mapping):
        raise ModelError(f"{file} is not a mapping.", REMEDY)
    return content


def read_plan(plans: Mapping[str, Any], configuration: str, channels: int) -> Plan:
    """One configuration, with what it inherits from others.

    Raises:
        ModelError: it is missing, needs the segmentation of a previous stage, or uses a reader or resampling that is
            not reproduced here.
    """
    with _sound("plans.json", f" the configuration {configuration}"):
        content = _configuration(plans, configuration, 0)
    if content.get("previous_stage"):
        raise ModelError(
            f"The nnU-Net configuration {configuration} needs the segmentation of {content['previous_stage']} "
            "as input, which is not supported.",
            "Give the folder of a 2d, 3d_lowres or 3d_fullres training.",
        )
    with _sound("plans.json", f" the configuration {configuration}"):
        architecture = content.get("architecture") or _former_architecture(content)
        statistics = plans.get("foreground_intensity_properties_per_channel") or {}
        schemes = content["normalization_schemes"]
        masks = content["use_mask_for_norm"]
        normalization = tuple(
            ChannelNormalisation(str(schemes[channel]), bool(masks[channel]), dict(statistics.get(str(channel)) or {}))
            for channel in range(channels)
        )
        patch = tuple(int(size) for size in content["patch_size"])
        spacing = tuple(float(size) for size in content["spacing"])
        first, second, third = (int(axis) for axis in plans["transpose_forward"])
        plan = Plan(
            name=configuration,
            network=str(architecture["network_class_name"]),
            arguments=dict(architecture["arch_kwargs"]),
            imports=tuple(architecture.get("_kw_requires_import") or ()),
            patch=patch,
            spacing=spacing,
            transpose=(first, second, third),
            normalization=normalization,
            resampling=str(content.get("resampling_fn_data", "resample_data_or_seg_to_shape")),
            resampling_options=dict(content.get("resampling_fn_data_kwargs") or {}),
            reorient=_reorients(str(plans.get("image_reader_writer", "SimpleITKIO"))),
        )
        _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Refuse geometry that no image can have, by a ValueError that names it."""
    if len(plan.patch) not in (2, 3) or not all(0 < size < LARGEST_PATCH for size in plan.patch):
        raise ValueError(f"patch_size {list(plan.patch)}")
    if len(plan.spacing) != len(plan.patch) or not all(0 < step < math.inf for step in plan.spacing):
        raise ValueError(f"spacing {list(plan.spacing)}")
    if sorted(plan.transpose) != [0, 1, 2]:
        raise ValueError(f"transpose_forward {list(plan.transpose)}")


def read_labels(dataset: Mapping[str, Any]) -> Labels:
    """The network's outputs: one per label with the background, or one per region."""
    entries = dataset.get("labels")
    if not isinstance(entries, Mapping) or "background" not in entries:
        raise ModelError("dataset.json has no labels with a background.", REMEDY)
    names = [str(name) for name in entries if name != "ignore"]
    if any(isinstance(entries[name], list) and len(entries[name]) > 1 for name in names):
        return Labels(tuple(name for name in names if name != "background"), regions=True)
    with _sound("dataset.json", " its labels"):
        ordered = sorted(names, key=lambda name: int(_single(entries[name])))
    return Labels(tuple(ordered), regions=False)


def read_channels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the input channels in their order."""
    entries = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(entries, Mapping) or not entries:
        raise ModelError("dataset.json has no channel_names.", REMEDY)
    with _sound("dataset.json", " its channels"):
        return tuple(str(entries[key]) for key in sorted(entries, key=lambda key: int(key)))


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _configuration(plans: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
    known = plans.get("configurations")
    if not isinstance(known, Mapping) or name not in known or depth > 10:
        shown = ", ".join(known) if isinstance(known, Mapping) else "none"
        raise ModelError(f"plans.json has no configuration {name!r}; it has {shown}.", REMEDY)
    content = dict(known[name])
    parent = content.pop("inherits_from", None)
    return {**_configuration(plans, str(parent), depth + 1), **content} if parent else content


def _reorients(reader: str) -> bool:
    if reader in ("SimpleITKIO", "NibabelIO", "Tiff3DIO"):
        return False
    if reader == "NibabelIOWithReorient":
        return True
    raise ModelError(
        f"The nnU-Net model reads images with {reader}, which is not supported.",
        "Models trained on volumes with SimpleITKIO or NibabelIO can be explained.",
    )


def _former_architecture(content: Mapping[str, Any]) -> dict[str, Any]:
    """The architecture of plans written before nnU-Net 2.4, which named it by single entries."""
    name = str(content["UNet_class_name"])
    dims = len(content["patch_size"])
    stages = len(content["n_conv_per_stage_encoder"])
    widest = int(content["unet_max_num_features"])
    blocks = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    arguments = {
        "n_stages": stages,
        "features_per_stage": [min(int(content["UNet_base_num_features"]) * 2**n, widest) for n in range(stages)],
        "conv_op": f"torch.nn.Conv{dims}d",
        "kernel_sizes": content["conv_kernel_sizes"],
        "strides": content["pool_op_kernel_sizes"],
        blocks: content["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": content["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": f"torch.nn.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": name,
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
