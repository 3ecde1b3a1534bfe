"""The task explain-semantics: which findings a prediction rests on, as bars, maps and a sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..attribution.baselines import baseline_like
from ..attribution.feature_maps import explainable
from ..errors import OptionError
from ..explanation import Explanation
from ..job import write_text_atomically
from ..prediction_maps.explaining import explained_target
from ..prediction_maps.picture import draw_explanations
from ..prediction_maps.scan_view import ScanView, choose_rows, view_scan
from ..prediction_maps.writing import display_of
from ..targets import Target
from ..volume import write_volume
from .charts import draw_contributions
from .clustering import cluster_units, sampled_places
from .cohort import UnitFigures
from .concept_maps import concept_maps
from .dissecting import clustered_dissection
from .dissection import Dissection
from .layer_reader import LayerReader, chosen_layers
from .sampling import read_scan
from .semantic_attribution import (
    COHORT_BASELINE,
    METHODS,
    UNLABELLED_NAME,
    ConceptShare,
    LayerCase,
    UnitContributions,
    concept_shares,
    unit_contributions,
)
from .sentences import LARGEST_GAP, findings_sentence, gap_sentence
from .store import find_dissection

if TYPE_CHECKING:
    from ..tasks.explain_semantics import ExplainSemanticsOptions
    from ..tasks.task import Context, Outcome

MOST_UNITS = 50
PASSES_OF_CONDUCTANCE = 24


@dataclass(frozen=True, eq=False)
class SemanticExplanation:
    """Contributions by method (the first is the chosen one), their bars, and what they were made with."""

    view: ScanView
    target: Target
    rows: np.ndarray
    dissection: Dissection
    case: LayerCase
    found: tuple[UnitContributions, ...]
    shares: tuple[list[ConceptShare], ...]

    @property
    def sentence(self) -> str:
        return findings_sentence(self.target.name.split(" of ", 1)[-1], self.shares[0])


def explain_and_write(options: ExplainSemanticsOptions, context: Context) -> Outcome:
    """Explain one scan's prediction and write everything."""
    from ..tasks.task import Outcome

    methods = _methods(options.methods)
    context.progress.stage("Preparing")
    model = context.session.model(options.model, context.device, context.trust_model)
    model.capabilities.require("layers", "Semantic attribution")
    dissection = find_dissection(model, options.dissection, options.layer)
    view = view_scan(read_scan(options.volume, model), model)
    target = explained_target(view, options)
    rows, warning = choose_rows(view, target, options.slices, options.most_slices)
    for text in filter(None, [view.note, warning]):
        context.warn(text)
    explained = _explain(view, target, rows, dissection, methods, options, context)
    context.progress.stage("Writing", 3)
    _write(explained, options, context)
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
    baseline = None if options.baseline == COHORT_BASELINE else baseline_like(
        inputs, options.baseline, constant=options.baseline_value
    )  # fmt: skip
    with explainable(view.model.network):
        case = LayerCase(
            view.model, target, dissection.layer, inputs, baseline, dissection.mean,
            batch_size=options.batch_size, progress=context.progress,
        )  # fmt: skip
        if case.note:
            context.warn(case.note)
        _say_what_it_takes(case, dissection, methods, options, context)
        passes = {METHODS[method]: _passes(case, dissection, method, options) for method in methods}
        context.progress.plan([*passes.items(), ("Writing", 0.1 * sum(passes.values()))])
        groups = [dissection.units_of(number) for number in (*range(len(dissection.concepts)), -1)]
        found = []
        for method in methods:
            context.progress.stage(METHODS[method], passes[METHODS[method]])
            found.append(
                unit_contributions(method, case, groups, steps=options.steps, max_steps=options.max_steps)
            )
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
    """Groups of units that respond to the same places of this scan, where nobody has dissected the model."""
    model = view.model
    layer = chosen_layers(model, [options.layer], inputs)[0]
    context.warn(
        f"There is no dissection of {layer} of {model.name}; its units are grouped by what they respond to in this "
        "scan, without names. The task dissect gives names from images with masks."
    )
    activation = torch.cat([LayerReader(model, [layer])(row)[layer].cpu() for row in inputs.split(8)])
    label, share = cluster_units(
        sampled_places(activation, len(activation), context.seed), options.clusters, options.cluster_method,
        context.seed,
    )  # fmt: skip
    figures = UnitFigures()
    figures.add(0, 0, activation)
    settings = {"clusters": options.clusters, "cluster_method": options.cluster_method, "seed": context.seed}
    return clustered_dissection(
        layer, model, label, share, figures.mean, figures.maximum, figures.minimum, figures.top,
        (view.volume.name,), settings,
    )  # fmt: skip


def _write(explained: SemanticExplanation, options: ExplainSemanticsOptions, context: Context) -> None:
    _write_findings(explained, context)
    _write_units(explained, context)
    _write_methods(explained, context)
    first = explained.found[0]
    bypass = abs(float(first.bypass.sum())) / max(abs(float((first.score - first.start).sum())), 1e-12)
    text = f"{explained.sentence}\n{gap_sentence(first.relative_gap, bypass)}\n"
    write_text_atomically(context.output.path("sentence.txt"), text)
    context.output.add("text", "sentence.txt", "sentence", "sentence")
    if first.relative_gap > LARGEST_GAP:
        context.warn(f"{METHODS[first.method]}: {gap_sentence(first.relative_gap, bypass)}")
    context.progress.advance()
    draw_contributions(
        context.output.path("picture.png"), explained.shares[0], explained.sentence,
        f"{explained.target.name} ({METHODS[first.method].lower()})",
    )  # fmt: skip
    context.output.add("image", "picture.png", "findings (picture)", "picture")
    context.progress.advance()
    _write_maps(explained, options.most_maps, context)
    context.progress.advance()


def _write_findings(explained: SemanticExplanation, context: Context) -> None:
    rows = []
    for bars in zip(*_in_one_order(explained.shares)):
        first = bars[0]
        row: dict[str, Any] = {"finding": first.concept, "units": first.units}
        for found, bar in zip(explained.found, bars):
            name = METHODS[found.method].lower()
            row[name] = bar.contribution
            row[f"{name}, share of its side (%)"] = 100 * bar.share
            if found.joint is not None:
                row["ablation of all its units"] = bar.joint
        row["speaks"] = "for" if first.contribution > 0 else "against" if first.contribution < 0 else ""
        row["strongest units"] = " ".join(str(unit) for unit in first.strongest)
        rows.append(row)
    context.output.table(
        "findings.csv", list(rows[0]), rows, "findings", "findings", units=explained.target.unit,
        description=f"{explained.sentence} Mean over {len(explained.rows)} samples.",
    )  # fmt: skip
    context.output.add(
        "plot", "findings.csv", "findings (chart)", "findings-chart",
        display={"table": "findings", "x": "finding", "y": [METHODS[explained.found[0].method].lower()], "type": "bar",
                 "title": explained.sentence, "y_title": f"contribution to the {explained.target.name}"},
    )  # fmt: skip


def _in_one_order(shares: tuple[list[ConceptShare], ...]) -> list[list[ConceptShare]]:
    """The bars of every method in the order of the first."""
    order = [bar.concept for bar in shares[0]]
    return [sorted(bars, key=lambda bar: order.index(bar.concept)) for bars in shares]


def _write_units(explained: SemanticExplanation, context: Context) -> None:
    values = [found.values.mean(0) for found in explained.found]
    dissection = explained.dissection
    rows = []
    for unit in np.argsort(-np.abs(values[0]), kind="stable")[:MOST_UNITS]:
        label = int(dissection.concept_of_unit[unit])
        row: dict[str, Any] = {"unit": int(unit), "finding": dissection.concepts[label] if label >= 0 else ""}
        if dissection.kind == "masks":
            row["IoU"] = float(dissection.best_iou[unit])
        for found, mean in zip(explained.found, values):
            row[METHODS[found.method].lower()] = float(mean[unit])
        rows.append(row)
    context.output.table("units.csv", list(rows[0]), rows, "contributing units", "units")


def _write_methods(explained: SemanticExplanation, context: Context) -> None:
    rows = []
    for found in explained.found:
        rows.append(
            {
                "method": METHODS[found.method],
                "prediction": float(found.score.mean()),
                "baseline": float(found.start.mean()),
                "sum of the bars": float(found.values.sum(1).mean()),
                "gap": float(found.gap.mean()),
                "gap (%)": 100 * found.relative_gap,
                "passes by the layer": float(found.bypass.mean()),
                "steps": found.steps or None,
            }
        )
    context.output.table("methods.csv", list(rows[0]), rows, "methods", "methods")


def _write_maps(explained: SemanticExplanation, most: int, context: Context) -> None:
    bars = [bar for bar in explained.shares[0] if bar.concept != UNLABELLED_NAME and bar.contribution != 0][
        :most
    ]
    if not bars:
        return
    view, case, dissection = explained.view, explained.case, explained.dissection
    groups = [dissection.units_of(dissection.concepts.index(bar.concept)) for bar in bars]
    reader = LayerReader(view.model, [dissection.layer])
    grid = reader.grid(
        dissection.layer, view.samples[:1].to(view.model.device), tuple(case.activation.shape[2:])
    )
    maps = concept_maps(
        case.activation, explained.found[0].values, groups, grid, tuple(view.samples.shape[2:])
    )
    restored = []
    for number, bar in enumerate(bars):
        role = "map" if number == 0 else f"map-{_safe(bar.concept)}"
        explanation = _explanation(explained, bar, maps[:, number]).on(view.volume.grid)
        restored.append(explanation)
        write_volume(
            context.output.path(f"{role}.nrrd"), explanation.volume(f"{view.volume.name} {bar.concept}")
        )
        context.output.add(
            "volume", f"{role}.nrrd", f"{bar.concept} ({explained.target.name})", role, units=explanation.unit,
            description=f"Where {bar.concept} contributed {bar.contribution:+.3g} to the {explained.target.name}.",
            display=display_of(explanation),
        )  # fmt: skip
    draw_explanations(
        context.output.path("maps.png"), view.volume, restored, f"{view.volume.name}: {explained.target.name}"
    )
    context.output.add("image", "maps.png", "maps (picture)", "maps_picture")


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower()).strip("-") or "finding"


def _explanation(explained: SemanticExplanation, bar: ConceptShare, maps: np.ndarray) -> Explanation:
    view, first = explained.view, explained.found[0]
    unit = "logits" if explained.target.name.startswith("logit") else explained.target.unit or "score"
    return Explanation(
        map=view.volume_of(maps, explained.rows),
        grid=view.grid,
        method=f"semantic-{first.method}",
        title=bar.concept,
        target=explained.target.name,
        unit=f"{unit} per voxel",
    )


def _values(explained: SemanticExplanation) -> dict[str, Any]:
    first, bars = explained.found[0], explained.shares[0]
    named = [bar for bar in bars if bar.concept != UNLABELLED_NAME]
    spoke_for = [bar for bar in named if bar.contribution > 0]
    spoke_against = [bar for bar in named if bar.contribution < 0]
    total = sum(abs(bar.contribution) for bar in bars)
    unlabelled = abs(bars[-1].contribution)
    return {
        "explained_target": explained.target.name,
        "sentence": explained.sentence,
        "strongest_for": max(spoke_for, key=lambda bar: bar.contribution).concept if spoke_for else "",
        "strongest_against": min(spoke_against, key=lambda bar: bar.contribution).concept
        if spoke_against
        else "",
        "target_value": float(first.score.mean()),
        "unlabelled_share": 100 * unlabelled / total if total else 0.0,
        "completeness_gap": 100 * first.relative_gap,
        "explained_samples": len(explained.rows),
    }


def _provenance(explained: SemanticExplanation) -> dict[str, Any]:
    model, dissection = explained.view.model, explained.dissection
    return {
        "model": {"name": model.name, "digest": model.digest, "source": str(model.source)},
        "target": explained.target.name,
        "explained_samples": [int(row) for row in explained.rows],
        "dissection": {"layer": dissection.layer, "kind": dissection.kind, "images": len(dissection.images),
                       "settings": dissection.settings},
        "methods": {item.method: {"steps": item.steps, "gap": item.relative_gap} for item in explained.found},
    }  # fmt: skip
