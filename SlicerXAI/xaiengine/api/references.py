"""``xai.fit_reference``: statistics that the bottleneck draws its noise from, over reference scans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..attribution.bottleneck.reference_fit import EXAMPLES, Choice, ReferenceFit
from ..attribution.bottleneck.reference_store import store_examples, store_statistics
from ..attribution.bottleneck.statistics import ReferenceStatistics
from ..core.errors import InputError
from ..lesions.lungs.lungs_alone import lungs_alone
from ..models.explained_model import ExplainedModel
from .reporting import Notes, Reporter, as_progress
from .scans import as_volume


class Reference(Mapping[str, ReferenceStatistics]):
    """Statistics by layer, for ``xai.explain(..., reference=...)``; ``save`` keeps them for later runs.

    ``examples`` are some of the reference scans (C, spatial...) as the network sees them, for Shapley values against
    healthy scans; models of slices and windows have none.
    """

    def __init__(
        self, statistics: Mapping[str, ReferenceStatistics], model: ExplainedModel, examples: Sequence[Any] = ()
    ) -> None:
        self._statistics, self._model = dict(statistics), model
        self.examples = tuple(examples)

    def __getitem__(self, layer: str) -> ReferenceStatistics:
        return self._statistics[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statistics)

    def __len__(self) -> int:
        return len(self._statistics)

    def __repr__(self) -> str:
        layers = ", ".join(f"{layer}: {item.source}" for layer, item in self.items())
        return f"<Reference of {self._model.name}; {layers}>"

    def save(self, *, beside_model: bool = False) -> list[Path]:
        """Keep the statistics in the user's cache, or beside the model's files: later runs find them by themselves.

        The examples are images of patients: they go to the cache alone.

        Raises InputError when they are to lie beside a model that has no files.
        """
        paths = [store_statistics(self._model, item, beside_model) for item in self.values()]
        return [*paths, store_examples(self._model, self.examples)] if self.examples and not beside_model else paths


def fit_reference(
    model: ExplainedModel,
    scans: Iterable[Any],
    layers: str | Sequence[str] = (),
    *,
    statistics: Choice = "auto",
    after_relu: bool = False,
    samples_per_scan: int = 0,
    examples: int = EXAMPLES,
    progress: Reporter = None,
) -> Reference:
    """Mean and spread of layers' activations over reference scans: healthy ones, where a disease is explained.

    Args:
        model: any model whose layers can be looked at.
        scans: volumes or arrays as :func:`explain` takes them, one after another; a generator keeps memory small.
        layers: those of the bottlenecks if empty.
        statistics: ``position`` for scans that show the same anatomy at the same place and have one size, ``channel``
            for scans of any size; ``auto`` is per position where the model sees each of five scans or more as one
            image of one size (the deviations of a place then lean on those of its channel, as of 8 scans more).
        after_relu: noise of mean 0 that never goes below zero (Demir 2021).
        samples_per_scan: slices or windows of a scan that are used at most, spread evenly; all of them if 0.
        examples: scans that are kept whole in the result, where the model sees a scan as one image.
        progress: ``print``, or another function of a line of text.

    Returns:
        Statistics by layer, each with ``samples`` and the number of independent ``scans``.

    Raises:
        InputError: a scan that the model cannot take, or fewer than two samples.
        ModelError: the model's layers cannot be looked at.
    """
    report = as_progress(progress)
    notes = Notes()
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    fit = ReferenceFit(model, names, statistics, shown=lungs_alone, check=report.check, examples=examples)
    total = len(scans) if isinstance(scans, Sequence) else 0
    report.plan([("Reading the scans", 1.0)])
    report.stage("Reading the scans", total)
    for number, scan in enumerate(scans, start=1):
        volume = as_volume(scan, model.spatial_dims)
        try:
            fit.add(volume, samples_per_scan)
        except InputError as error:
            raise InputError(f"Scan {number}: {error.message}", error.remedy) from error
        report.advance()
    found = fit.finish(after_relu)
    for text in fit.notes:
        notes(text)
    notes(next(iter(found.values())).warning)
    notes.warn()
    return Reference(found, model, fit.examples)
