"""The task explain-semantics: which findings a prediction rests on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...attribution.baselines import baseline_like
from ...attribution.feature_maps import explainable
from ...core.cancellation import interruptibly
from ...core.errors import OptionError
from ...inference.scan_reading import read_for_model
from ...inference.scan_view import ScanView, choose_rows, view_scan
from ...lesions.lungs.lungs_alone import lungs_alone
from ...models.provenance import model_provenance
from ...semantics.dissection.clustering import cluster_units, sampled_places
from ...semantics.dissection.cohort import UnitFigures
from ...semantics.dissection.dissection import Dissection
from ...semantics.dissection.layer_reader import LayerReader, chosen_layers
from ...semantics.dissection.store import find_dissection
from ...semantics.semantic_attribution import (
    COHORT_BASELINE,
    METHODS,
    UNLABELED_NAME,
    LayerCase,
    concept_shares,
    unit_contributions,
)
from ...targets.targets import Target
from ..dissect.dissecting import clustered_dissection
from ..explain_prediction.explaining import explained_target
from .writing import SemanticExplanation, write_semantics

if TYPE_CHECKING:
    from ..task import Context, Outcome
    from .options import ExplainSemanticsOptions

PASSES_OF_CONDUCTANCE = 24


def explain_and_write(options: ExplainSemanticsOptions, context: Context) -> Outcome:
    """Explain one scan's prediction and write everything."""
    from ..task import Outcome

    methods = _methods(options.methods)
    context.progress.stage("Preparing")
    model = context.session.model(options.model, context.device, context.trust_model)
    model.capabilities.require("layers", "Semantic attribution")
    dissection = find_dissection(model, options.dissection, options.layer)
    check = context.progress.check
    scan = interruptibly(check, read_for_model, model, options.volume, options.channels, options.series)
    view = view_scan(scan, model, check, shown_part=lungs_alone)
    target = explained_target(view, options)
    rows, warning = choose_rows(view, target, options.slices, options.most_slices)
    for text in filter(None, [view.note, warning]):
        context.warn(text)
    explained = _explain(view, target, rows, dissection, methods, options, context)
    context.progress.stage("Writing", 3)
    write_semantics(explained, options, context)
    return Outcome(values=_values(explained), provenance=_provenance(explained))


def _methods(names: list[str]) -> list[str]:
    chosen = list(dict.fromkeys(name.strip().replace("-", "_") for name in names if name.strip()))
    unknown = [name for name in chosen if name not in METHODS]
    if unknown or not chosen:
        found = f"There is no method {unknown[0]!r}" if unknown else "No method was named"
        raise OptionError(f"{found} of semantic attribution.", f"Use one or more of {', '.join(METHODS)}.")
    return chosen


def _explain(
    view: ScanView,
    target: Target,
    rows: np.ndarray,
    dissection: Dissection | None,
    methods: list[str],
    options: ExplainSemanticsOptions,
    context: Context,
) -> SemanticExplanation:
    inputs = view.samples[rows].to(view.model.device)
    if dissection is None:
        dissection = _clusters_of_scan(view, inputs, options, context)
    baseline = (
        None
        if options.baseline == COHORT_BASELINE
        else baseline_like(inputs, options.baseline, constant=options.baseline_value)
    )
    with explainable(view.model.network):
        case = LayerCase(
            view.model,
            target,
            dissection.layer,
            inputs,
            baseline,
            dissection.mean,
            batch_size=options.batch_size,
            progress=context.progress,
        )
        if case.note:
            context.warn(case.note)
        _say_what_it_takes(case, dissection, methods, options, context)
        passes = {METHODS[method]: _passes(case, dissection, method, options) for method in methods}
        context.progress.plan([*passes.items(), ("Writing", 0.1 * sum(passes.values()))])
        groups = [dissection.units_of(number) for number in (*range(len(dissection.concepts)), -1)]
        found = []
        for method in methods:
            context.progress.stage(METHODS[method], passes[METHODS[method]])
            found.append(unit_contributions(method, case, groups, steps=options.steps, max_steps=options.max_steps))
    shares = tuple(concept_shares(item, dissection.concepts, dissection.concept_of_unit) for item in found)
    return SemanticExplanation(view, target, rows, dissection, case, tuple(found), shares)


def _passes(case: LayerCase, dissection: Dissection, method: str, options: ExplainSemanticsOptions) -> int:
    each = {
        "conductance": 1 + (options.steps or PASSES_OF_CONDUCTANCE),
        "gradient_x_activation": 2,
        "ablation": dissection.units + len(dissection.concepts) + 2,
    }
    return case.samples * each[method]


def _say_what_it_takes(
    case: LayerCase,
    dissection: Dissection,
    methods: list[str],
    options: ExplainSemanticsOptions,
    context: Context,
) -> None:
    total = sum(_passes(case, dissection, method, options) for method in methods)
    started = time.perf_counter()
    case.values(lambda sample: case.activation[sample : sample + 1])
    seconds = (time.perf_counter() - started) / case.samples * total
    context.expect(
        f"{case.samples} samples, {total} passes through the layers after "
        f"{dissection.layer}: at most {max(1, round(seconds))} s.",
        seconds,
    )


def _clusters_of_scan(
    view: ScanView, inputs: torch.Tensor, options: ExplainSemanticsOptions, context: Context
) -> Dissection:
    """Groups of units that respond to the same places of this scan, where no one has dissected the model."""
    model = view.model
    layer = chosen_layers(model, [options.layer], inputs)[0]
    context.warn(
        f"There is no dissection of {layer} of {model.name}; its units are grouped by what they respond to in this "
        "scan, without names. The task dissect gives names from images with masks."
    )
    activation = torch.cat([LayerReader(model, [layer])(row)[layer].cpu() for row in inputs.split(8)])
    label, share = cluster_units(
        sampled_places(activation, len(activation), context.seed),
        options.clusters,
        options.cluster_method,
        context.seed,
    )
    figures = UnitFigures()
    figures.add(0, 0, activation)
    settings = {"clusters": options.clusters, "cluster_method": options.cluster_method, "seed": context.seed}
    return clustered_dissection(
        layer,
        model,
        label,
        share,
        figures.mean,
        figures.maximum,
        figures.minimum,
        figures.top,
        (view.volume.name,),
        settings,
    )


def _values(explained: SemanticExplanation) -> dict[str, Any]:
    first, bars = explained.found[0], explained.shares[0]
    named = [bar for bar in bars if bar.concept != UNLABELED_NAME]
    spoke_for = [bar for bar in named if bar.contribution > 0]
    spoke_against = [bar for bar in named if bar.contribution < 0]
    total = sum(abs(bar.contribution) for bar in bars)
    unlabeled = abs(bars[-1].contribution)
    return {
        "explained_target": explained.target.name,
        "sentence": explained.sentence,
        "strongest_for": max(spoke_for, key=lambda bar: bar.contribution).concept if spoke_for else "",
        "strongest_against": min(spoke_against, key=lambda bar: bar.contribution).concept if spoke_against else "",
        "target_value": float(first.score.mean()),
        "unlabeled_share": 100 * unlabeled / total if total else 0.0,
        "completeness_gap": 100 * first.relative_gap,
        "explained_samples": len(explained.rows),
    }


def _provenance(explained: SemanticExplanation) -> dict[str, Any]:
    model, dissection = explained.view.model, explained.dissection
    return {
        "model": model_provenance(model),
        "target": explained.target.name,
        "explained_samples": [int(row) for row in explained.rows],
        "dissection": {
            "layer": dissection.layer,
            "kind": dissection.kind,
            "images": len(dissection.images),
            "settings": dissection.settings,
        },
        "methods": {item.method: {"steps": item.steps, "gap": item.relative_gap} for item in explained.found},
    }
