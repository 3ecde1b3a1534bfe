"""Task: whether a map tells the truth about the model that it explains."""

from __future__ import annotations

from typing import Literal

from ..options import TaskOptions, given, option
from ..prediction_maps.options import CHECK_NAMES
from .task import Context, Outcome, OutputSpec, Task, ValueSpec


class EvaluateExplanationOptions(TaskOptions):
    volume: str = given("volume", "Scan", "The scan that was explained.")
    model: str = given("model", "Model", "The classifier or regressor that was explained.")
    explanation: str = given("volume", "Explanation", "The map to be checked, from explain-prediction or elsewhere.")
    truth: str = given(
        "segmentation",
        "Truth",
        "Where the cause is known to lie, for the check localisation. May be empty.",
        required=False,
        default="",
    )
    method: str = option(
        "",
        "Method",
        "Method that made the map, for the checks that explain again; read from the result.json beside the map if "
        "empty.",
    )
    checks: list[str] = option(list(CHECK_NAMES), "Checks", f"Any of: {', '.join(CHECK_NAMES)}.", choices=CHECK_NAMES)
    target: str = option("", "Target", "Output that was explained; that of result.json, or the model's own, if empty.")
    against: str = option("", "Against", "The output that it was compared with. May be empty.")
    most_samples: int = option(3, "Most slices", "Slices checked at most: those with the strongest maps.", ge=1)
    baseline: Literal["blurred", "mean", "zero", "constant"] = option(
        "blurred", "Baseline", "What hidden voxels are replaced by."
    )
    baseline_value: float = option(0.0, "Baseline value", "Of the constant baseline.", advanced=True)
    steps: int = option(40, "Curve points", "Of insertion, deletion and tiles.", ge=4, le=500, advanced=True)
    orders: int = option(5, "Random orders", "Random maps that insertion and deletion must beat.", ge=2, advanced=True)
    subsets: int = option(100, "Subsets", "Per number of voxels, of sensitivity-n.", ge=10, advanced=True)
    perturbations: int = option(128, "Perturbations", "Of infidelity.", ge=20, advanced=True)
    draws: int = option(6, "Draws", "Changed images of sensitivity-max.", ge=1, advanced=True)
    random_models: int = option(2, "Random models", "Of the randomisation check.", ge=1, advanced=True)
    seeds: int = option(3, "Seeds", "Of the check run to run.", ge=2, advanced=True)
    tile: int = option(8, "Tile", "Side of the tiles.", unit="voxels", ge=1, advanced=True)


class EvaluateExplanation(Task):
    """Faithfulness, stability and sanity of one map, see :mod:`xaiengine.faithfulness`."""

    name = "evaluate-explanation"
    title = "Evaluate explanation"
    description = (
        "Checks whether a map tells the truth about the model: does the prediction follow the voxels that it marks, "
        "is it stable, does it vanish with the model's knowledge? Each measure comes with its error and with what a "
        "random map and an edge filter reach."
    )
    Options = EvaluateExplanationOptions
    outputs = (
        OutputSpec("checks", "table", "Checks", "Each measure with error, controls, threshold and result."),
        OutputSpec("curves", "table", "Curves", "Insertion, deletion and tiles.", optional=True),
        OutputSpec("randomisation", "table", "Randomisation", "Similarity after each stage.", optional=True),
        OutputSpec("verdict", "text", "Verdict", "One line for readers."),
        OutputSpec("picture", "image", "Picture", "The curves."),
    )
    values = (
        ValueSpec("verdict", "Verdict", "One line for readers.", "string"),
        ValueSpec("checks_passed", "Checks passed", "How many.", "integer"),
        ValueSpec("checks_done", "Checks done", "How many.", "integer"),
    )

    def run(self, options: EvaluateExplanationOptions, context: Context) -> Outcome:
        from ..prediction_maps.evaluation_report import evaluate_and_write

        return evaluate_and_write(options, context)
