"""Turns a bundle's ``preprocessing`` into MONAI array transforms, from an explicit list.

Dictionary transforms (``Spacingd`` with ``keys: image``) become their array forms for the image alone. Reading,
channel order and types are the engine's own work, so ``LoadImaged`` and its like are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import ModelError, TrustError
from .channel_steps import channel_specs, joined_keys, keys_of, moves_voxels, own_specs
from .trust.allowed import refuse_target
from .trust.safe_config import Component

LARGEST_SIDE = 4096
LARGEST_SIZE = 1024**3
SMALLEST_SPACING_MM = 0.02

ALLOWED: dict[str, tuple[str, ...]] = {
    "Orientation": ("axcodes", "as_closest_canonical", "labels"),
    "Spacing": (
        "pixdim",
        "diagonal",
        "mode",
        "padding_mode",
        "align_corners",
        "scale_extent",
        "recompute_affine",
        "min_pixdim",
        "max_pixdim",
    ),
    "Resize": ("spatial_size", "size_mode", "mode", "align_corners", "anti_aliasing", "anti_aliasing_sigma"),
    "Zoom": ("zoom", "mode", "padding_mode", "align_corners", "keep_size"),
    "Rotate90": ("k", "spatial_axes"),
    "Flip": ("spatial_axis",),
    "CropForeground": (
        "channel_indices",
        "margin",
        "allow_smaller",
        "k_divisible",
        "mode",
        "constant_values",
        "value",
    ),
    "CenterSpatialCrop": ("roi_size",),
    "CenterScaleCrop": ("roi_scale",),
    "SpatialCrop": ("roi_center", "roi_size", "roi_start", "roi_end"),
    "SpatialPad": ("spatial_size", "method", "mode", "constant_values", "value"),
    "BorderPad": ("spatial_border", "mode", "constant_values", "value"),
    "DivisiblePad": ("k", "mode", "method", "constant_values", "value"),
    "ResizeWithPadOrCrop": ("spatial_size", "method", "mode", "constant_values", "value"),
    "ScaleIntensity": ("minv", "maxv", "factor", "channel_wise"),
    "ScaleIntensityRange": ("a_min", "a_max", "b_min", "b_max", "clip"),
    "ScaleIntensityRangePercentiles": ("lower", "upper", "b_min", "b_max", "clip", "relative", "channel_wise"),
    "ClipIntensityPercentiles": ("lower", "upper", "sharpness_factor", "channel_wise"),
    "NormalizeIntensity": ("subtrahend", "divisor", "nonzero", "channel_wise"),
    "ThresholdIntensity": ("threshold", "above", "cval"),
    "ShiftIntensity": ("offset",),
    "AdjustContrast": ("gamma", "invert_image", "retain_stats"),
    "HistogramNormalize": ("num_bins", "min", "max"),
    "GaussianSmooth": ("sigma",),
    "MedianSmooth": ("radius",),
    "RepeatChannel": ("repeats",),
    "SavitzkyGolaySmooth": ("window_length", "order", "axis", "mode"),
}
"""Array transforms that may be built, each with the arguments it may be given; none of them is a function."""

LEFT_OUT = frozenset(
    """
    LoadImage EnsureChannelFirst AddChannel AsChannelFirst AsChannelLast EnsureType ToTensor ToDevice ToNumpy
    CastToType Identity SelectItems DeleteItems RemoveKeys ConcatItems SimulateDelay ToMetaTensor
    """.split()
)
"""Transforms whose work the engine's own reading and typing does."""

_IMAGE_KEYS = ("image", "img", "ct", "inputs", "input", "x", "volume", "scan")
_DICTIONARY_ARGUMENTS = frozenset(
    """
    keys allow_missing_keys source_key meta_keys meta_key_postfix lazy start_coord_key end_coord_key dtype track_meta
    device name
    """.split()
)
_SIZES = ("spatial_size", "roi_size", "k", "spatial_border", "zoom", "margin", "k_divisible", "radius", "num_bins")


@dataclass(frozen=True)
class TransformSpec:
    """One array transform: its class name and arguments. Making it is cheap and can be repeated."""

    name: str
    arguments: Mapping[str, Any]

    def build(self) -> Any:
        """The transform. Raises ModelError with MONAI's reason when the arguments do not fit."""
        import monai.transforms

        try:
            return vars(monai.transforms)[self.name](**self.arguments)
        except Exception as error:
            raise ModelError(
                f"The preprocessing step {self.name} cannot be built: {error}.", "Correct the model's configuration."
            ) from error


@dataclass(frozen=True)
class Preprocessing:
    """The image's transforms in their order; calling it makes fresh ones, so that no state is shared."""

    specs: tuple[Any, ...] = ()
    channel_names: tuple[str, ...] = ()

    def __call__(self) -> list[Any]:
        return [spec.build() for spec in self.specs]


def preprocessing_of(entry: Any) -> Preprocessing:
    """The preprocessing of a configuration entry: a ``Compose``, a list, one transform, or nothing.

    Raises:
        TrustError: a step is not on the list, or has an argument that could run code or exhaust the memory.
    """
    steps = _steps(entry)
    if (joined := joined_keys(steps)) is not None:
        preprocessing = Preprocessing(tuple(_joined_specs(steps, *joined)), joined[0])
    else:
        specs = [spec for step in steps if (spec := _spec(step)) is not None]
        preprocessing = Preprocessing(tuple(specs))
    preprocessing()
    return preprocessing


def _steps(entry: Any) -> list[Component]:
    if entry is None:
        return []
    if isinstance(entry, (list, tuple)):
        return [step for item in entry for step in _steps(item)]
    if not isinstance(entry, Component):
        raise ModelError("The entry preprocessing of the configuration holds no _target_ entries.", "Correct it.")
    if entry.short_name == "Compose":
        _check_package(entry)
        return _steps(entry.arguments.get("transforms"))
    return [entry]


def _check_package(step: Component) -> None:
    package = step.target.rpartition(".")[0]
    if package and package != "monai.transforms" and not package.startswith("monai.transforms."):
        raise refuse_target(step.target, step.where)
    if package and any(part.startswith("_") or part in ("torch", "np", "os") for part in package.split(".")):
        raise refuse_target(step.target, step.where)


def _joined_specs(steps: list[Component], keys: tuple[str, ...], joint: Component, name: str) -> list[Any]:
    """Each key's own steps for its own channel until the keys are joined, then the steps for all."""
    specs: list[Any] = []
    before = True
    done: set[int] = set()
    for number, step in enumerate(steps):
        if step is joint:
            before = False
        elif not before:
            if name in keys_of(step) or not keys_of(step):
                specs.append(_spec(step, keys_of(step).index(name) if keys_of(step) else 0))
        elif number not in done:
            involved = own_specs(step, keys, _spec)
            if involved and moves_voxels(step) and len(involved) < len(keys):
                # Every channel has to be moved alike: the others' step of the same name belongs to this one.
                for later in range(number + 1, steps.index(joint)):
                    if step.short_name == steps[later].short_name and later not in done:
                        others = own_specs(steps[later], keys, _spec)
                        if others and not others.keys() & involved.keys():
                            involved |= others
                            done.add(later)
            if involved:
                specs.append(channel_specs(step, involved, keys))
    return [spec for spec in specs if spec is not None]


def _spec(step: Component, position: int | None = None) -> TransformSpec | None:
    _check_package(step)
    name, is_dictionary = _array_name(step)
    arguments = dict(step.arguments)
    if position is None:
        position = _image_position(arguments.get("keys"), arguments) if is_dictionary else 0
    if name in LEFT_OUT:
        _check_left_out(name, arguments, step)
        return None
    if position is None:
        return None  # a step for the label or for the prediction
    if name not in ALLOWED:
        raise TrustError(
            f"The preprocessing step {step.target} at {step.where} is not one that is built for an untrusted model.",
            f"Known steps are {', '.join(sorted(ALLOWED))}.",
        )
    if "select_fn" in arguments:
        raise TrustError(f"{step.target} at {step.where} is given a function (select_fn).", "Leave it out.")
    chosen = {}
    for key, value in arguments.items():
        if is_dictionary and key in _DICTIONARY_ARGUMENTS or key in ("lazy", "dtype"):
            continue
        if key not in ALLOWED[name]:
            raise TrustError(f"{step.target} at {step.where} has the unknown argument {key}.", "Leave it out.")
        chosen[key] = _checked(_for_image(value, position, arguments.get("keys")), key, step)
    return TransformSpec(name, chosen)


def _check_left_out(name: str, arguments: Mapping[str, Any], step: Component) -> None:
    """A reader given by name reads files as it likes; MONAI's own readers are replaced by the engine's."""
    if name == "LoadImage" and isinstance(arguments.get("reader"), Component):
        raise refuse_target(arguments["reader"].target, step.where)
    if any(callable(value) and not isinstance(value, type) for value in arguments.values()):
        raise TrustError(f"{step.target} at {step.where} is given a function.", "Leave it out.")


def _array_name(step: Component) -> tuple[str, bool]:
    name = step.short_name
    for suffix in ("d", "D", "Dict"):
        base = name[: -len(suffix)]
        if name.endswith(suffix) and (base in ALLOWED or base in LEFT_OUT):
            return base, True
    if name in ALLOWED or name in LEFT_OUT:
        return name, False
    return name, "keys" in step.arguments


def _image_position(keys: Any, arguments: Mapping[str, Any]) -> int | None:
    """Which of a dictionary transform's keys is the image; None when it does not touch the image."""
    names = [str(key).lower() for key in (keys if isinstance(keys, (list, tuple)) else [keys])]
    for position, name in enumerate(names):
        if name in _IMAGE_KEYS:
            return position
    unlike_image = ("label", "pred", "mask", "seg", "gt", "target")
    return next((number for number, name in enumerate(names) if not name.startswith(unlike_image)), None)


def _for_image(value: Any, position: int, keys: Any) -> Any:
    """Of an argument given per key (``mode: [bilinear, nearest]``) the image's."""
    several = isinstance(keys, (list, tuple)) and len(keys) > 1
    if several and isinstance(value, (list, tuple)) and len(value) == len(keys):
        if all(isinstance(item, (str, bool)) for item in value):
            return value[position]
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], (str, bool)):
        return value[0]
    return value


def _checked(value: Any, key: str, step: Component) -> Any:
    """Plain values only, within sizes that a computer can hold."""
    if isinstance(value, Component) or callable(value):
        raise TrustError(f"{step.target} at {step.where} is given an object for {key}.", "Leave it out.")
    numbers = value if isinstance(value, (list, tuple)) else [value]
    numbers = [item for item in numbers if isinstance(item, (int, float)) and not isinstance(item, bool)]
    size = 1.0
    if key in _SIZES:
        for item in numbers:
            size *= max(abs(item), 1)
            if abs(item) > LARGEST_SIDE:
                size = float("inf")
        if len(numbers) == 1 and key in ("spatial_size", "zoom"):
            size = abs(numbers[0]) ** 3
        if size > LARGEST_SIZE:
            raise TrustError(f"{key} = {value} of {step.target} at {step.where} is too large.", "Correct it.")
    if key in ("pixdim", "min_pixdim", "max_pixdim") and any(0 < item < SMALLEST_SPACING_MM for item in numbers):
        raise TrustError(f"{key} = {value} of {step.target} at {step.where} is too fine.", "Correct it.")
    return list(value) if isinstance(value, tuple) else value


PreprocessingFactory = Callable[[], list[Any]]
