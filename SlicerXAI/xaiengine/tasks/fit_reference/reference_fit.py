"""The task fit-reference: reads a folder of scans one after another and keeps what was fitted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...attribution.bottleneck.reference_fit import ReferenceFit
from ...attribution.bottleneck.reference_store import store_examples, store_statistics
from ...attribution.bottleneck.statistics import ReferenceStatistics
from ...core.errors import InputError, XAIError
from ...inference.scan_reading import read_for_model
from ...io.formats.file_names import PICTURES
from ...lesions.lungs.lungs_alone import lungs_alone
from ...models.provenance import model_provenance

if TYPE_CHECKING:
    from ...models.explained_model import ExplainedModel
    from ..task import Context, Outcome
    from .options import FitReferenceOptions

SCAN_ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd")
CHANNEL = re.compile(r"_(\d{4})(?=\.)")
"""The number of a channel in a file's name, as nnU-Net writes it."""


def scans_in(folder: Path, channels: int = 1) -> list[list[Path]]:
    """Scans directly inside a folder, by name, each with the files of its channels; segmentations are left out.

    Raises InputError when there is none.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.", "Give the folder that holds the reference scans.")
    files = [item for item in sorted(folder.iterdir()) if not item.name.startswith(".")]
    endings = (*SCAN_ENDINGS, *PICTURES)
    scans = [item for item in files if item.name.lower().endswith(endings) and ".seg." not in item.name.lower()]
    series = [item for item in files if item.is_dir() and any(part.is_file() for part in item.iterdir())]
    if not scans and not series:
        raise InputError(
            f"The folder {folder} holds no scans.", f"Put scans there: {', '.join(endings)} or DICOM folders."
        )
    groups: dict[str, list[Path]] = {}
    for item in scans + series:
        groups.setdefault(CHANNEL.sub("", item.name) if channels > 1 else item.name, []).append(item)
    return list(groups.values())


def fit_and_write(options: FitReferenceOptions, context: Context) -> Outcome:
    """The task fit-reference. The statistics go to the result and to where later runs find them."""
    from ..task import Outcome

    context.progress.plan([("Reading the scans", 1.0)])
    model = context.session.model(options.model, context.device, context.trust_model)
    scans = scans_in(Path(options.scans), model.in_channels)
    context.progress.stage("Reading the scans", len(scans))
    most = max(1, options.maximum_samples // len(scans))
    # Scans are images of patients: a model's folder, which is passed on, never holds any.
    wanted = options.examples if options.keep == "cache" else 0
    fit = ReferenceFit(
        model, options.layers, options.statistics, shown=lungs_alone, check=context.progress.check, examples=wanted
    )
    rows: list[dict[str, Any]] = []
    for paths in scans:
        name = CHANNEL.sub("", paths[0].name) if len(paths) > 1 else paths[0].name
        try:
            used = fit.add(read_for_model(model, paths[0], paths[1:]), most)
        except XAIError as error:
            context.progress.check()
            rows.append({"scan": name, "samples": 0, "note": str(error)})
        else:
            rows.append({"scan": name, "samples": used, "note": ""})
        context.progress.advance()
    skipped = [row for row in rows if row["note"]]
    if skipped:
        names = ", ".join(row["scan"] for row in skipped[:5])
        context.warn(
            f"{len(skipped)} of {len(scans)} scans could not be used: {names} (first reason: {skipped[0]['note']})"
        )
    for note in fit.notes:
        context.warn(note)
    statistics = fit.finish(options.after_relu)
    first = next(iter(statistics.values()))
    if first.warning:
        context.warn(first.warning)
    _write(statistics, rows, model, options.keep == "model", context)
    if fit.examples:
        kept = store_examples(model, fit.examples)
        context.log(f"{len(fit.examples)} of the scans stand in for healthy anatomy from now on: {kept}")
    return Outcome(
        values={
            "samples": first.samples,
            "scans_read": first.scans,
            "examples_kept": len(fit.examples),
            "fitted_layers": ", ".join(statistics),
        },
        provenance={"model": model_provenance(model), "layers": list(statistics)},
    )


def _write(
    statistics: dict[str, ReferenceStatistics],
    rows: list[dict[str, Any]],
    model: ExplainedModel,
    beside: bool,
    context: Context,
) -> None:
    for number, (layer, found) in enumerate(statistics.items()):
        role = "reference" if number == 0 else f"reference-{number + 1}"
        found.save(context.output.path(f"{role}.safetensors"))
        context.output.add(
            "data", f"{role}.safetensors", f"reference statistics of {layer}", role, description=found.source
        )
        kept = store_statistics(model, found, beside)
        context.log(f"Runs with {model.name} at {layer} use these statistics ({found.source}) from now on: {kept}")
    context.output.table("scans.csv", ["scan", "samples", "note"], rows, "reference scans", "scans")
