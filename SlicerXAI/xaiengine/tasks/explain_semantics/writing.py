"""What the task explain-semantics writes: bars, tables, maps and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...attribution.explanation import Explanation
from ...core.job import write_text_atomically
from ...figures.charts import draw_contributions
from ...figures.prediction_picture import display_of, draw_explanations
from ...inference.scan_view import ScanView
from ...io.volume_files import write_volume
from ...semantics.concept_maps import concept_maps
from ...semantics.dissection.dissection import Dissection
from ...semantics.dissection.layer_reader import LayerReader
from ...semantics.semantic_attribution import METHODS, UNLABELED_NAME, ConceptShare, LayerCase, UnitContributions
from ...semantics.sentences import LARGEST_GAP, findings_sentence, gap_sentence
from ...targets.targets import Target

if TYPE_CHECKING:
    from ..task import Context
    from .options import ExplainSemanticsOptions

MOST_UNITS = 50


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


def write_semantics(explained: SemanticExplanation, options: ExplainSemanticsOptions, context: Context) -> None:
    """Tables, pictures, maps and the sentence of one explanation."""
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
        context.output.path("picture.png"),
        explained.shares[0],
        explained.sentence,
        f"{explained.target.name} ({METHODS[first.method].lower()})",
    )
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
        "findings.csv",
        list(rows[0]),
        rows,
        "findings",
        "findings",
        units=explained.target.unit,
        description=f"{explained.sentence} Mean over {len(explained.rows)} samples.",
    )
    context.output.add(
        "plot",
        "findings.csv",
        "findings (chart)",
        "findings-chart",
        display={
            "table": "findings",
            "x": "finding",
            "y": [METHODS[explained.found[0].method].lower()],
            "type": "bar",
            "title": explained.sentence,
            "y_title": f"contribution to the {explained.target.name}",
        },
    )


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
    bars = [bar for bar in explained.shares[0] if bar.concept != UNLABELED_NAME and bar.contribution != 0][:most]
    if not bars:
        return
    view, case, dissection = explained.view, explained.case, explained.dissection
    groups = [dissection.units_of(dissection.concepts.index(bar.concept)) for bar in bars]
    reader = LayerReader(view.model, [dissection.layer])
    grid = reader.grid(dissection.layer, view.samples[:1].to(view.model.device), tuple(case.activation.shape[2:]))
    maps = concept_maps(case.activation, explained.found[0].values, groups, grid, tuple(view.samples.shape[2:]))
    restored = []
    for number, bar in enumerate(bars):
        role = "map" if number == 0 else f"map-{_safe(bar.concept)}"
        explanation = _explanation(explained, bar, maps[:, number]).on(view.volume.grid)
        restored.append(explanation)
        write_volume(context.output.path(f"{role}.nrrd"), explanation.volume(f"{view.volume.name} {bar.concept}"))
        context.output.add(
            "volume",
            f"{role}.nrrd",
            f"{bar.concept} ({explained.target.name})",
            role,
            units=explanation.unit,
            description=f"Where {bar.concept} contributed {bar.contribution:+.3g} to the {explained.target.name}.",
            display=display_of(explanation),
        )
    caption = f"{view.volume.name}: {explained.target.name}"
    for number, path in enumerate(
        draw_explanations(context.output.path("maps.png"), view.volume, restored, caption), start=1
    ):
        more = f"-{number}" if number > 1 else ""
        context.output.add("image", path.name, f"maps (picture{more})", f"maps_picture{more}")


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
