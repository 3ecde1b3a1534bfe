"""Writes the description of a model whose file holds weights or a graph alone, from flags or a few questions."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import OptionError

TASKS = ("classification", "multilabel", "regression", "segmentation")
AXIS_ORDERS = ("rows_first", "columns_first")
NORMALISATIONS = ("none", "range", "zscore", "zero-one")


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
    flags.add_argument("--normalize", choices=NORMALISATIONS, help="range needs --range")
    flags.add_argument("--range", default="", metavar="LOW,HIGH", help="intensities (HU in CT) brought to 0..1")
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
    flags.add_argument("--trust-model", action="store_true", help="run --code to check the description")
    return flags


def described(chosen: argparse.Namespace, ask: Callable[[str], str] | None = None) -> dict[str, Any]:
    """The description's content from the flags. ``ask`` puts a question to the user; None asks nothing.

    Raises:
        OptionError: a flag cannot be read, or the network is not named and no one can be asked.
    """
    content: dict[str, Any] = {"weights": chosen.weights.name}
    if chosen.code:
        content["code"] = chosen.code.name
    if chosen.weights.suffix.lower() in (".pth", ".pt", ".safetensors", ".ckpt"):
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


def _network(chosen: argparse.Namespace, ask: Callable[[str], str] | None) -> dict[str, Any]:
    name = chosen.network or _asked(ask, "Which MONAI network do the weights belong to (for example UNet)? ")
    texts = chosen.argument
    if not name:
        if chosen.code or chosen.weights.suffix.lower() == ".pt":
            return {}  # a graph, or a network of one's own
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
    kind = chosen.normalize or _asked(ask, f"How are intensities normalized ({', '.join(NORMALISATIONS)})? ")
    limits = chosen.range
    if kind == "range" and not limits:
        limits = _asked(ask, "Lowest and highest intensity, by comma: ")
        if not limits:
            raise OptionError("--normalize range needs --range LOW,HIGH.", "For a lung CT: --range=-1000,400")
    if limits:
        low, high = (_numbers(limits, float, "--range") + [None])[:2] if limits else (None, None)
        if low is None or high is None or low >= high:
            raise OptionError(f"--range {limits} is not LOW,HIGH.", "For a lung CT: --range=-1000,400")
        scale = {"a_min": low, "a_max": high, "b_min": 0.0, "b_max": 1.0, "clip": True}
        steps.append({"_target_": "ScaleIntensityRanged", "keys": "image", **scale})
    elif kind == "zscore":
        steps.append({"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": False, "channel_wise": True})
    elif kind == "zero-one":
        steps.append({"_target_": "ScaleIntensityd", "keys": "image"})
    elif kind not in ("", "none", None):
        raise OptionError(f"The normalization {kind!r} is not known.", f"Known are {', '.join(NORMALISATIONS)}.")
    if size := _numbers(chosen.size, int, "--size"):
        steps.append({"_target_": "Resized", "keys": "image", "spatial_size": size})
    return steps


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
