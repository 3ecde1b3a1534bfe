"""Writes the description of a model whose file holds weights or a graph alone, from flags or a few questions."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import OptionError
from .trust_option import add_trust_option

TASKS = ("classification", "multilabel", "regression", "segmentation")
AXIS_ORDERS = ("rows_first", "columns_first")
NORMALIZATIONS = ("none", "range", "clip", "percentiles", "zscore", "zscore-nonzero", "zero-one")


def parser() -> argparse.ArgumentParser:
    """The flags of ``xaiengine describe-model``; what is left out is asked for on a terminal."""
    flags = argparse.ArgumentParser(
        prog="xaiengine describe-model",
        description="Say what a file of weights (.pth, .safetensors) or a graph (.ts, .pt2, .onnx) is, so that it can "
        "be explained. Writes NAME.json beside NAME.pth and checks it by loading the model.",
    )
    flags.add_argument("weights", type=Path, help="the model's file")
    flags.add_argument("--network", help="MONAI network that the weights belong to, for example UNet or DenseNet121")
    flags.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="argument of the network, may be repeated: --argument spatial_dims=3 --argument channels=[16,32,64]",
    )
    flags.add_argument(
        "--code", type=Path, help="Python file beside the weights that defines the network (needs trust)"
    )
    flags.add_argument("--name", default="", help="how the model is called")
    flags.add_argument("--task", choices=TASKS, help="what the model does")
    flags.add_argument("--labels", default="", help="names of the outputs, by comma, in their order")
    flags.add_argument("--target", default="", help="the output that is explained by default")
    flags.add_argument("--activation", choices=("softmax", "sigmoid", "none"), help="what turns outputs into answers")
    flags.add_argument("--orientation", default="", metavar="RAS", help="bring the scan's axes to this order first")
    flags.add_argument("--spacing", default="", metavar="MM,MM,MM", help="resample the scan to this spacing")
    flags.add_argument(
        "--normalize",
        choices=NORMALIZATIONS,
        help="range: --range is brought to --scale-to; clip: values beyond --range are cut off, the others kept; "
        "percentiles: --range are percentiles of the scan; zscore: mean 0, SD 1, per channel; zscore-nonzero: "
        "the same over voxels that are not 0; zero-one: lowest to highest value of the scan",
    )
    flags.add_argument("--range", default="", metavar="LOW,HIGH", help="intensities (HU in CT), or percentiles")
    flags.add_argument("--scale-to", default="0,1", metavar="LOW,HIGH", help="what --range is brought to (0,1)")
    flags.add_argument("--no-clip", action="store_true", help="values beyond --range are scaled too, not cut off")
    flags.add_argument("--size", default="", metavar="N,N[,N]", help="resize the scan to this many voxels (-1: keep)")
    flags.add_argument("--input-size", default="", metavar="N,N[,N]", help="input size that the network insists on")
    flags.add_argument("--inference", choices=("whole", "slices", "sliding_window"), help="how it sees a scan")
    flags.add_argument("--plane", choices=("axial", "coronal", "sagittal"), default="axial", help="of the slices")
    flags.add_argument("--window", default="", metavar="N,N,N", help="sliding window in voxels")
    flags.add_argument("--overlap", type=float, default=0.25, help="of sliding windows, 0..1 (0.25)")
    flags.add_argument(
        "--axis-order",
        choices=AXIS_ORDERS,
        help="of pictures and slices: rows_first as PyTorch and torchvision read them, columns_first as MONAI does",
    )
    flags.add_argument("--layers", default="", help="layers for explanations, by comma, the default first")
    flags.add_argument("--output", type=Path, help="where to write (beside the weights)")
    flags.add_argument("--image", type=Path, help="a scan or picture: show the prediction and what the network sees")
    flags.add_argument("--picture", type=Path, metavar="PNG", help="where what the network sees of --image is drawn")
    flags.add_argument("--series", default="", metavar="UID", help="which series of a DICOM folder --image means")
    add_trust_option(flags)
    return flags


def described(chosen: argparse.Namespace, ask: Callable[[str], str] | None = None) -> dict[str, Any]:
    """The description's content from the flags. ``ask`` puts a question to the user; None asks nothing.

    Raises:
        OptionError: a flag cannot be read, or the network is not named and no one can be asked.
    """
    content: dict[str, Any] = {"weights": chosen.weights.name}
    if chosen.code:
        content["code"] = chosen.code.name
    if holds_weights(chosen.weights):
        network = _network(chosen, ask)
        content |= {"network": network} if network else {}
    answers = {
        "name": chosen.name,
        "task": chosen.task or _asked(ask, f"What does it do ({', '.join(TASKS)})? "),
        "labels": _words(chosen.labels or _asked(ask, "Names of its outputs, by comma (empty: numbers): ")),
        "target": chosen.target,
        "activation": chosen.activation,
        "preprocessing": _preprocessing(chosen, ask),
        "inference": _inference(chosen),
        "input_size": _numbers(chosen.input_size, int, "--input-size"),
        "axis_order": chosen.axis_order or _axis_order(chosen, content, ask),
        "layers": _words(chosen.layers),
    }
    return content | {key: value for key, value in answers.items() if value}


def holds_weights(path: Path) -> bool:
    """Whether a file holds weights alone, by its content rather than its name."""
    from ..models.formats.weights import archive_kind

    return archive_kind(path, path.name) in ("safetensors", "state_dict")


def _network(chosen: argparse.Namespace, ask: Callable[[str], str] | None) -> dict[str, Any]:
    name = chosen.network or _asked(ask, "Which MONAI network do the weights belong to (for example UNet)? ")
    texts = chosen.argument
    if not name:
        if chosen.code:
            return {}  # a network of one's own
        raise OptionError(
            "The network of the weights is not named.", "Name it: --network UNet --argument spatial_dims=3"
        )
    if not texts and ask:
        texts = [part for part in ask("Its arguments, as NAME=VALUE separated by ; : ").split(";") if part.strip()]
    arguments = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"--argument {text!r} is not NAME=VALUE.", "Write --argument channels=[16,32].")
        arguments[key.strip()] = _value(value.strip())
    return {"_target_": name, **arguments}


def _value(text: str) -> Any:
    """A number, list, true, false or none; anything else is text."""
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    if text[:1] in "[{":
        with contextlib.suppress(ValueError):
            return json.loads(text)
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return json.loads(json.dumps(value, default=str))


def _preprocessing(chosen: argparse.Namespace, ask: Callable[[str], str] | None) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if chosen.orientation:
        steps.append({"_target_": "Orientationd", "keys": "image", "axcodes": chosen.orientation.upper()})
    spacing = chosen.spacing or _asked(ask, "Spacing in mm that it was trained at, by comma (empty: any): ")
    if spacing:
        pixdim = _numbers(spacing, float, "--spacing")
        steps.append({"_target_": "Spacingd", "keys": "image", "pixdim": pixdim, "mode": "bilinear"})
    kind = chosen.normalize or _asked(ask, f"How are intensities normalized ({', '.join(NORMALIZATIONS)})? ")
    limits = chosen.range
    if kind in ("range", "clip", "percentiles") and not limits:
        limits = _asked(ask, "Lowest and highest intensity (or percentile), by comma: ")
        if not limits:
            raise OptionError(f"--normalize {kind} needs --range LOW,HIGH.", _RANGE_EXAMPLE)
    if limits:
        steps.append(_scaling(kind or "range", limits, chosen))
    elif kind == "zscore":
        steps.append({"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": False, "channel_wise": True})
    elif kind == "zscore-nonzero":
        steps.append({"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True})
    elif kind == "zero-one":
        steps.append({"_target_": "ScaleIntensityd", "keys": "image"})
    elif kind not in ("", "none", None):
        raise OptionError(f"The normalization {kind!r} is not known.", f"Known are {', '.join(NORMALIZATIONS)}.")
    if size := _numbers(chosen.size, int, "--size"):
        steps.append({"_target_": "Resized", "keys": "image", "spatial_size": _three(size, chosen.plane)})
    return steps


_RANGE_EXAMPLE = "For a lung CT: --range=-1000,400"


def _scaling(kind: str, limits: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """The step that brings a range of intensities, or of percentiles, to another."""
    low, high = _two(limits, "--range", _RANGE_EXAMPLE)
    least, most = _two(chosen.scale_to, "--scale-to", "For -1..1: --scale-to=-1,1")
    target = {"b_min": least, "b_max": most, "clip": not chosen.no_clip}
    if kind == "percentiles":
        if low < 0 or high > 100:
            raise OptionError(f"--range {limits} are no percentiles.", "For example: --range 0.5,99.5")
        return {"_target_": "ScaleIntensityRangePercentilesd", "keys": "image", "lower": low, "upper": high, **target}
    if kind == "clip":
        target = {"b_min": low, "b_max": high, "clip": True}
    elif kind != "range":
        raise OptionError(
            f"--range and --normalize {kind} cannot be given together.",
            "Choose one of them; --normalize clip, range and percentiles take --range.",
        )
    return {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high, **target}


def _two(text: str, flag: str, example: str) -> tuple[float, float]:
    numbers = _numbers(text, float, flag)
    if len(numbers) != 2 or numbers[0] >= numbers[1]:
        raise OptionError(f"{flag} {text} is not LOW,HIGH.", example)
    return numbers[0], numbers[1]


def _three(size: list[int], plane: str) -> list[int]:
    """The size of a scan (I, J, K) from that of its slices: the axis across them is kept."""
    if len(size) != 2:
        return size
    return [*size[: _ACROSS[plane]], -1, *size[_ACROSS[plane] :]]


_ACROSS = {"sagittal": 0, "coronal": 1, "axial": 2}


def _inference(chosen: argparse.Namespace) -> dict[str, Any]:
    window = _numbers(chosen.window, int, "--window")
    kind = chosen.inference or ("sliding_window" if window else "")
    if not kind:
        return {}
    if kind == "sliding_window" and not window:
        raise OptionError("A sliding window has a size.", "Say which: --window 96,96,96")
    found: dict[str, Any] = {"kind": kind, "plane": chosen.plane}
    return found | ({"roi_size": window, "overlap": chosen.overlap} if window else {})


def _asked(ask: Callable[[str], str] | None, question: str) -> str:
    return ask(question).strip() if ask else ""


def _axis_order(chosen: argparse.Namespace, content: dict[str, Any], ask: Callable[[str], str] | None) -> str:
    """Asked for 2D networks: the file does not say."""
    sizes = chosen.input_size or chosen.size
    dims = content.get("network", {}).get("spatial_dims", len(sizes.split(",")) if sizes else None)
    if dims != 2:
        return ""
    answer = _asked(ask, f"Order of a picture's axes ({', '.join(AXIS_ORDERS)}; empty: rows first for pictures)? ")
    if answer and answer not in AXIS_ORDERS:
        raise OptionError(f"The axis order {answer!r} is not known.", f"Choose from {', '.join(AXIS_ORDERS)}.")
    return answer


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str, kind: type, flag: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise OptionError(
            f"{flag} {text} holds something that is no number.", "Separate numbers by commas."
        ) from error
