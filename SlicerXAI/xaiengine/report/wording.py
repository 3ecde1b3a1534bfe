"""Words for results: names instead of keys, the answer in one sentence, checks with what each means."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.job import Result
from ..core.number_text import significant
from .check_line import CheckLine, Light
from .result_files import ResultFolder, Table
from .stability_words import stability

UNITS = {"mm": "mm", "ml": "mL", "percent": "%", "seconds": "s", "gb": "GB", "bits": "bits"}
# Keys whose words say more than themselves.
NAMES = {
    "receptive_50_mm": ("Half of what the network can see lies within", "mm"),
    "receptive_90_mm": ("90 % of what the network can see lies within", "mm"),
    "receptive_rms_mm": ("Typical reach of the network (root mean square)", "mm"),
    "radius_50_mm": ("Half of |map| lies within, from the structure", "mm"),
    "radius_90_mm": ("90 % of |map| lies within, from the structure", "mm"),
    "outside_percent": ("Part of |map| outside the structure", "%"),
    "target_value": ("Explained value", ""),
    "target_ml": ("Volume of the structure", "mL"),
    "total_bits": ("Information in the whole map", "bits"),
    "map_sum": ("Sum of the map (for minus against)", ""),
    "peak": ("Strongest voxel (R, A, S in mm)", ""),
    "explained_target": ("Explained", ""),
    "explained_samples": ("Explained slices or windows", ""),
    "gap": ("Difference between the predictions for scan and reconstruction", ""),
    "speaks": ("The reconstruction is valid for this scan", ""),
    "spearman": ("Rank correlation of shift and prediction", ""),
    "reference_dice": ("Overlap with the reference (Dice)", ""),
    "reference_volume_error_percent": ("Larger than the reference by", "%"),
    "outside_reference_ml": ("Found outside the reference", "mL"),
    "reference_ml": ("Volume of the reference", "mL"),
    "uncertainty_source": ("Uncertainty was measured over", ""),
    "uncertainty_runs": ("Runs that were compared", ""),
    "in_lesions_percent": ("Part of the map that lies in the reported lesions", "%"),
}
HOW_TO_READ = {
    "heat": "Bright places are what the model used. A dark place is not proof that the model ignored it.",
    "diverging": "Red places support the explained answer, blue ones oppose it; pale ones count little.",
    "hatched": "Hatched places were not explained: no color there does not mean that there is no evidence.",
    "bits": "Bits are measured at a layer of the network and spread over the voxels that its cells cover: a lesion's "
    "border in the map is no sharper than such a cell.",
    "map": "A map shows what this model used on this scan. It does not show disease, nor that the model is right.",
    "synthetic": "Images marked SYNTHETIC were generated. They show what would change the model's answer, not how "
    "this patient looked or will look.",
    "uncertainty": "A map of SD shows where repeated explanations differ: where it is as bright as the map, do "
    "not rely on the map. A place that is stable need not be right.",
    "sides": "Planes are shown as radiologists look at them: the patient's right is on the left of the picture.",
}


@dataclass(frozen=True)
class NamedValue:
    """Title and unit of a value, as the task declares them."""

    title: str
    unit: str = ""
    description: str = ""


def words_of(name: str, declared: Mapping[str, NamedValue]) -> NamedValue:
    """Title and unit of a value by its key."""
    if name in declared:
        return declared[name]
    if name in NAMES:
        return NamedValue(*NAMES[name])
    words = re.split(r"[_\s-]+", name.strip("_"))
    unit = UNITS.get(words[-1].lower(), "") if len(words) > 1 else ""
    words = words[:-1] if unit else words
    title = " ".join(words)
    return NamedValue(title[:1].upper() + title[1:], unit)


def value_text(value: Any, unit: str = "", digits: int = 2) -> str:
    """A value for people: two significant digits, yes and no, and "none" for nothing."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        text = str(value)
    elif isinstance(value, float):
        text = significant(value, digits)
    else:
        return str(value)
    return f"{text} {unit}".strip()


def cell_text(cell: str, column: str = "") -> str:
    """A cell of a table for people; positions keep a tenth of a millimeter."""
    try:
        number = float(cell)
    except ValueError:
        return cell
    if re.fullmatch(r"[+-]?\d+", cell.strip()):
        return cell
    if not math.isfinite(number):
        return ""
    if column.endswith("(mm)") and re.search(r"\b[RASIJK]\b", column):
        return f"{number:.1f}"
    return significant(number)


def column_text(column: str) -> str:
    """A column's name for people: ``mean_hu`` is "mean HU"."""
    if "_" not in column:
        return column
    words = column.split("_")
    unit = UNITS.get(words[-1].lower(), "HU" if words[-1].lower() == "hu" else "")
    return " ".join(words[:-1]) + f" ({unit})" if unit and len(words) > 1 else " ".join(words)


def is_bare_grade(key: str, value: Any) -> bool:
    """A class CT-0 to CT-4 grades COVID-19 alone; without that word it would be read as a grade of any disease."""
    return key == "severity" and re.fullmatch(r"CT-[0-4]", str(value)) is not None


def answer(found: ResultFolder, declared: Mapping[str, NamedValue]) -> str:
    """The result in one sentence."""
    result, values = found.result, found.result.values
    if result.status == "failed":
        return f"The job failed: {result.error.message if result.error else 'no reason is given'}"
    if result.status == "cancelled":
        return "The job was cancelled before it had a result."
    sentence = _SENTENCES.get(result.task, lambda given: "")(values)
    if not sentence and values.get("verdict"):
        sentence = str(values["verdict"])
    if not sentence:
        told = [(name, value) for name, value in values.items() if not is_bare_grade(name, value)]
        shown = [(words_of(name, declared), value) for name, value in told[:2]]
        sentence = "; ".join(f"{name.title}: {value_text(value, name.unit)}" for name, value in shown)
    return sentence or "The job finished; it reports no single value."


def _lesions(values: Mapping[str, Any]) -> str:
    if "lesion_count" not in values:
        return ""
    count = int(values["lesion_count"])
    if not count:
        return "No lesion was found. This does not exclude one."
    share = value_text(float(values.get("burden_percent", 0)), "%")
    volume = value_text(float(values.get("burden_ml", 0)), "mL")
    lesions = f"{count} lesion{'s' * (count != 1)}"
    graded = f" {values['severity']}." if str(values.get("severity", "")).startswith("COVID") else ""
    return f"{lesions} of {volume}{' in all' * (count > 1)}, {share} of the lungs.{graded}"


def _prediction(values: Mapping[str, Any]) -> str:
    if "explained_target" not in values:
        return ""
    value = values.get("target_value")
    said = f" is {value_text(float(value))}" if value is not None else ""
    peak = f" The map is strongest at {values['peak']} mm." if values.get("peak") else ""
    return f"The model's {values['explained_target']}{said}.{peak}"


def _segmentation(values: Mapping[str, Any]) -> str:
    if "radius_50_mm" not in values:
        return ""
    near, far = (value_text(float(values[name]), "mm") for name in ("radius_50_mm", "radius_90_mm"))
    outside = value_text(float(values.get("outside_percent", 0)), "%")
    return f"Half of the map lies within {near} of the explained structure, 90 % within {far}; {outside} outside it."


def _counterfactual(values: Mapping[str, Any]) -> str:
    if "prediction" not in values:
        return ""
    before = value_text(float(values["prediction"]))
    after = values.get("counterfactual_prediction")
    what = values.get("explained_target", "prediction")
    moved = f", {value_text(float(after))} for the generated counterpart" if after is not None else ""
    valid = values.get("speaks") == "yes"
    tail = "" if valid else " The reconstruction differs from the scan: do not read it as this patient."
    return f"The {what} is {before} for the scan{moved}.{tail}"


_SENTENCES = {
    "quantify-lesions": _lesions,
    "explain-prediction": _prediction,
    "explain-segmentation": _segmentation,
    "explain-counterfactual": _counterfactual,
}


def checks(found: ResultFolder) -> list[CheckLine]:
    """Lights for what was checked and for what the program warned of."""
    result = found.result
    lines: list[CheckLine] = []
    if result.error is not None:
        lines.append(CheckLine("bad", "Failed", result.error.message, result.error.remedy))
    for table in found.tables.values():
        lines += _checks_of(table)
    methods = found.tables.get("methods")
    if methods is not None:
        lines += _convergence(methods)
    lines += stability(found)
    lines += [CheckLine("caution", "Note", text) for text in result.warnings]
    lines += [CheckLine("caution", "Missing file", f"{file} is not in the folder any more.") for file in found.missing]
    if result.values.get("speaks") in ("yes", "no"):
        valid = result.values["speaks"] == "yes"
        said = "The generated images stand for this scan." if valid else "They do not stand for this scan."
        lines.append(CheckLine("good" if valid else "bad", "Reconstruction", said))
    if not lines and result.status == "finished":
        text = "No check of faithfulness was run for this result; evaluate-explanation does that."
        lines.append(CheckLine("caution", "Not checked", text))
    return lines


def _checks_of(table: Table) -> list[CheckLine]:
    columns = list(table.columns)
    if not {"check", "result"} <= set(columns):
        return []
    meanings = table.column("meaning") if "meaning" in columns else [""] * len(table.rows)
    values = table.column("value") if "value" in columns else [""] * len(table.rows)
    bounds = table.column("threshold") if "threshold" in columns else [""] * len(table.rows)
    lines = []
    for name, outcome, meaning, value, bound in zip(
        table.column("check"), table.column("result"), meanings, values, bounds
    ):
        light: Light = "good" if outcome in ("passed", "yes") else "bad" if outcome in ("failed", "no") else "caution"
        measured = f" ({cell_text(value)}, passes {bound})" if value and bound else ""
        lines.append(CheckLine(light, name[:1].upper() + name[1:], f"{outcome}{measured}", meaning))
    return lines


def _convergence(table: Table) -> list[CheckLine]:
    """Completeness of gradient methods and convergence of bottlenecks, per method."""
    columns, lines = list(table.columns), []
    for row in table.rows:
        cells = dict(zip(columns, row))
        error, converged = cells.get("completeness_error", ""), cells.get("converged_share", "")
        if error:
            share = abs(float(error))
            light: Light = "good" if share < 0.05 else "caution" if share < 0.2 else "bad"
            meaning = "The map's sum should equal the change of the prediction from the baseline."
            lines.append(
                CheckLine(light, f"{cells['method']}: sum", f"off by {value_text(100 * share, '%')}", meaning)
            )
        if converged:
            share = float(converged)
            light = "good" if share > 0.95 else "caution"
            said = f"{value_text(100 * share, '%')} of the optimizations converged"
            lines.append(CheckLine(light, f"{cells['method']}: convergence", said, "The map no longer changed."))
    return lines


def how_to_read(result: Result) -> list[str]:
    """Sentences on how the maps of a result are read, those that concern it."""
    volumes = [item for item in result.artifacts if item.kind == "volume"]
    colors = {str(item.display.get("colors", "")) for item in volumes}
    kinds = ["sides"] if volumes else []
    kinds += [kind for kind in ("heat", "diverging") if kind in colors]
    kinds += ["hatched"] if result.artifact("explained") else []
    kinds += ["bits"] if any("bits" in item.units for item in volumes) else []
    kinds += ["uncertainty"] if result.artifact("uncertainty") else []
    kinds += ["map"] if volumes else []
    kinds += ["synthetic"] if result.task == "explain-counterfactual" else []
    return [HOW_TO_READ[kind] for kind in kinds]
