"""Shell commands about models: ``inspect``, ``describe-model`` and ``cache``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .trust_option import add_trust_option

if TYPE_CHECKING:
    from .inspection import ModelReport


def inspect_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine inspect MODEL``: what a model is, and with an image its prediction."""
    parser = argparse.ArgumentParser(prog="xaiengine inspect", description=inspect_command.__doc__)
    parser.add_argument("model", help="path of the model, or the name of a shipped one")
    parser.add_argument("--image", type=Path, help="show the prediction for this scan or picture")
    parser.add_argument("--series", default="", metavar="UID", help="which series of a DICOM folder --image means")
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE.png",
        help="where to draw what the network receives of --image (NAME-seen.png here, unless --json)",
    )
    parser.add_argument(
        "--layers", default="", metavar="NAMES", help="only these layers (names or wildcards, by comma)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_trust_option(parser)
    chosen = parser.parse_args(arguments)

    from dataclasses import replace

    from ..core.errors import InputError
    from ..models import find_model, load_model

    find_model(chosen.model)  # what is missing is said before torch is imported
    if chosen.image and not chosen.image.exists():
        raise InputError(f"{chosen.image} does not exist.", "Check the path, or choose the file again.")
    from .inspection import inspect_model

    model = load_model(chosen.model, trust=chosen.trust_model)
    report = inspect_model(model, [name.strip() for name in chosen.layers.split(",") if name.strip()])
    if chosen.image:
        report = replace(report, prediction=_predicted(model, chosen))
    print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if chosen.json else report_text(report))
    return 0


def _predicted(model: Any, chosen: argparse.Namespace) -> dict[str, Any]:
    from .inspection import inspect_image

    picture = chosen.picture
    if picture is None and not getattr(chosen, "json", False):
        picture = Path(f"{chosen.image.name.split('.')[0]}-seen.png")
    return inspect_image(model, chosen.image, chosen.series, picture)


def report_text(report: ModelReport) -> str:
    """The report for a reader."""
    lines = [
        f"{report.name} ({report.format})",
        f"  source       {report.source}",
        f"  digest       {report.digest}",
        f"  task         {report.task}" + (f", target {report.target}" if report.target else ""),
        f"  outputs      {_outputs(report)} ({report.activation})",
        f"  input        {report.spatial_dims}D, {_channels(report)}{_spacing(report)}",
        f"  preparation  {', '.join(report.preprocessing) or 'none'}",
        f"  seen as      {_seen(report)}",
        *([f"  axis order   {report.axis_order}"] if report.axis_order else []),
        f"  capabilities {_abilities(report)}",
        f"  size         {report.parameters:,} parameters{_cost(report)}",
    ]
    lines += [f"  default      {report.default_reason}"] if report.default_reason else []
    lines += [f"  note         {note}" for note in report.notes]
    if report.layers:
        lines += ["", *_table(report)]
    if report.prediction:
        lines += ["", *_prediction(report.prediction)]
    return "\n".join(lines)


def _outputs(report: ModelReport) -> str:
    labels = list(report.labels)
    shown = labels if len(labels) <= 12 else [*labels[:11], f"... ({len(labels)} in all)"]
    return ", ".join(shown)


def _channels(report: ModelReport) -> str:
    names = f" ({', '.join(report.channel_names)})" if report.channel_names else ""
    return f"{report.in_channels} channel{'s' if report.in_channels != 1 else ''}{names}"


def _spacing(report: ModelReport) -> str:
    sizes = [f"{size:g}" if size > 0 else "the scan's own" for size in report.spacing]
    return f", spacing {' x '.join(sizes)} mm" if sizes else ""


def _seen(report: ModelReport) -> str:
    inference = report.inference
    if inference["kind"] == "slices":
        return f"{inference['plane']} slices"
    if inference["kind"] == "whole":
        return "the whole scan"
    windows = f"windows of {_times(inference['roi_size'])}"
    return f"{windows}, overlap {inference['overlap']:g}, {inference['blending']} weights"


def _abilities(report: ModelReport) -> str:
    words = {"layers": "layers", "free_batch": "any batch size", "differentiable": "gradients"}
    have = [text for name, text in words.items() if report.capabilities[name]]
    lack = [f"no {text}" for name, text in words.items() if not report.capabilities[name]]
    reasons = "; ".join(report.capabilities["reasons"].values())
    return ", ".join(have + lack) + (f" ({reasons})" if reasons else "")


def _cost(report: ModelReport) -> str:
    if not report.operations:
        return f", input of {_times(report.window)}"
    work = f"{report.operations / 1e9:.2f} GFLOP and about {report.window_memory_mb:,.0f} MB"
    return f", {work} for a gradient pass over {_times(report.window)}"


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(str(size) for size in sizes)


def _table(report: ModelReport) -> list[str]:
    header = ("layer", "type", "output", "compute", "parameters", "suits")
    rows = [header]
    for layer in report.layers:
        suits = [word for word, yes in (("bottleneck", layer.suits_bottleneck), ("CAM", layer.suits_cam)) if yes]
        suits += ["default"] if layer.default else []
        rows.append(
            (
                layer.name,
                layer.type,
                _times(layer.shape),
                f"{layer.share:.1%}",
                f"{layer.parameters:,}",
                ", ".join(suits),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _prediction(prediction: dict[str, Any]) -> list[str]:
    lines = ["prediction"]
    for label, volume in prediction.get("volumes_ml", {}).items():
        lines.append(f"  {label}: {volume:g} mL")
    for label, found in prediction.get("values", {}).items():
        where = f" (highest, in slice {found['slice']})" if "slice" in found else ""
        lines.append(f"  {label}: {found['value']:.4g}{where}")
    lines += [f"  warning: {text}" for text in prediction.get("warnings", ())]
    if "picture" in prediction:
        lines.append(f"what the network receives was drawn to {prediction['picture']}")
    return lines


def describe_model_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine describe-model WEIGHTS``: write the description that a file of weights needs, and check it."""
    import sys
    from dataclasses import replace

    from ..core.atomic import written_whole
    from ..core.errors import InputError, ModelError, XAIError
    from ..models import load_model
    from .describe_model import described, holds_weights, parser
    from .inspection import check_preprocessing, inspect_model

    chosen = parser().parse_args(arguments)
    if not chosen.weights.is_file():
        raise ModelError(f"There is no file {chosen.weights}.", "Check the path.")
    if chosen.image and not chosen.image.exists():
        raise InputError(f"{chosen.image} does not exist.", "Check the path, or choose the file again.")
    may_ask = sys.stdin is not None and sys.stdin.isatty() and not chosen.network and not chosen.code
    content = described(chosen, input if may_ask else None)
    target = chosen.output or chosen.weights.with_suffix(".json")
    before = target.read_bytes() if target.is_file() else None
    with written_whole(target) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    graph = not holds_weights(chosen.weights) or "network" not in content
    try:
        model = load_model(chosen.weights if graph else target, trust=chosen.trust_model)
        found = _predicted(model, chosen) if chosen.image else {}
        if not chosen.image:
            check_preprocessing(model)
    except XAIError:
        if before is None:
            target.unlink()
        else:
            target.write_bytes(before)
        raise
    report = inspect_model(model, [model.layers[0]] if model.layers else ())
    print(report_text(replace(report, prediction=found)))
    print(f"Written to {target}.")
    return 0


def cache_command(arguments: Sequence[str] | None = None) -> int:
    """``xaiengine cache``: where files that can be made again are kept, how large they are, and their removal."""
    parser = argparse.ArgumentParser(prog="xaiengine cache", description=cache_command.__doc__)
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)

    import shutil

    from ..core.cache_folder import cache_folder

    folder = cache_folder()
    files = [item for item in folder.rglob("*") if item.is_file()] if folder.is_dir() else []
    size = sum(item.stat().st_size for item in files)
    removed = chosen.action == "clear"
    if removed and folder.is_dir():
        shutil.rmtree(folder)
    if chosen.json:
        print(json.dumps({"folder": str(folder), "files": len(files), "bytes": size, "removed": removed}))
    else:
        print(f"{folder}: {len(files)} files, {size / 2**20:.1f} MB{', removed' if removed else ''}")
    return 0
