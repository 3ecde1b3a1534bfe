"""Fits reference statistics over a folder of scans, one after another, in memory that does not grow with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...attribution.bottleneck.reference_store import stored_path
from ...attribution.bottleneck.statistics import ReferenceStatistics, StatisticsAccumulator
from ...core.errors import InputError, XAIError
from ...inference.preprocessing import preprocess
from ...io.volume import check_volume
from ...io.volume_files import read_volume
from ...lesions.pipeline import seen_by_model
from ...lesions.regions import lung_regions
from ...lesions.settings import model_settings
from ...lesions.slice_maps import add_activations, finished_statistics, slices_of
from ...network.layers import find_layer
from ..quantify_lesions.report import slice_classifier

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel
    from ..task import Context, Outcome
    from .options import FitReferenceOptions

SCAN_ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")


def scans_in(folder: Path) -> list[Path]:
    """Scan files and DICOM series folders directly inside a folder, by name; segmentations are left out."""
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Give the folder that holds the reference scans.")
    files = [item for item in sorted(folder.iterdir()) if not item.name.startswith(".")]
    scans = [item for item in files if item.name.lower().endswith(SCAN_ENDINGS) and ".seg." not in item.name.lower()]
    series = [item for item in files if item.is_dir() and any(part.is_file() for part in item.iterdir())]
    if not scans and not series:
        raise InputError(
            f"The folder {folder} holds no scans.", f"Put scans there: {', '.join(SCAN_ENDINGS)} or DICOM folders."
        )
    return scans + series


def fit_and_write(options: FitReferenceOptions, context: Context) -> Outcome:
    """The task fit-reference. The statistics go to the result and to the user's cache, where runs find them."""
    from ..task import Outcome

    context.progress.plan([("Reading the scans", 1.0)])
    model = slice_classifier(context.session.model(options.model, context.device, context.trust_model))
    layer = options.layer or (model.layers[0] if model.layers else "")
    find_layer(model.network, layer)
    settings = model_settings(model)
    lungs_only = settings.outside_lungs is not None
    paths = scans_in(Path(options.scans))
    context.progress.stage("Reading the scans", len(paths))
    per_scan = max(1, options.maximum_slices // len(paths))
    found = StatisticsAccumulator(options.statistics)
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            volume = read_volume(path)
            check_volume(volume)
            seen = seen_by_model(volume, lung_regions(volume, None), settings) if lungs_only else volume
            slices, _ = slices_of(preprocess(seen, model.preprocessing()), model.inferer.plane)
        except XAIError as error:
            rows.append({"scan": path.name, "slices": 0, "note": error.message})
        else:
            chosen = slices[np.unique(np.linspace(0, len(slices) - 1, per_scan).round().astype(int))]
            add_activations(found, model, layer, chosen)
            rows.append({"scan": path.name, "slices": len(chosen), "note": ""})
        context.progress.advance()
    skipped = [row["scan"] for row in rows if row["note"]]
    if skipped:
        context.warn(f"{len(skipped)} of {len(paths)} scans could not be used: {', '.join(skipped[:5])}.")
    statistics = finished_statistics(found, options.after_relu).with_metadata(layer=layer, model=model.digest)
    if statistics.warning:
        context.warn(statistics.warning)
    _write(statistics, rows, model, layer, context)
    return Outcome(
        values={"samples": statistics.samples, "scans_read": len(paths) - len(skipped)},
        provenance={"model": {"name": model.name, "digest": model.digest}, "layer": layer},
    )


def _write(
    statistics: ReferenceStatistics, rows: list[dict[str, Any]], model: ExplainedModel, layer: str, context: Context
) -> None:
    name = "reference.safetensors"
    statistics.save(context.output.path(name))
    context.output.add("data", name, "reference statistics", "reference")
    context.output.table("scans.csv", ["scan", "slices", "note"], rows, "reference scans", "scans")
    kept = stored_path(model.digest, layer)
    kept.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(kept)
    context.log(f"Runs with {model.name} at {layer} use these statistics from now on ({kept}).")
