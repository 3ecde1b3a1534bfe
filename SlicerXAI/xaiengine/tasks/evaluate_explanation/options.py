"""Options of the task evaluate-explanation. Light to import."""

from __future__ import annotations

from typing import Literal

from ...core.options import TaskOptions, given, option
from ...evaluation.check_names import CHECK_NAMES
from ...evaluation.evaluation_budget import Effort
from ..prediction_options import channels_option, series_option


class EvaluateExplanationOptions(TaskOptions):
    volume: str = given("volume", "Scan", "The scan that was explained.")
    model: str = given("model", "Model", "The model that was explained.")
    explanation: str = given(
        "volume", "Explanation", "The map to be checked, from explain-prediction, explain-segmentation or elsewhere."
    )
    truth: str = given(
        "segmentation",
        "Truth",
        "Where the cause is known to lie, for the check localization. May be empty.",
        required=False,
        default="",
    )
    method: str = option(
        "",
        "Method",
        "Method that made the map, for the checks that explain again; read from the result.json beside the map if "
        "empty.",
    )
    channels: list[str] = channels_option()
    series: str = series_option()
    checks: list[str] = option(list(CHECK_NAMES), "Checks", f"Any of: {', '.join(CHECK_NAMES)}.", choices=CHECK_NAMES)
    target: str = option(
        "", "Target", "Output or class that was explained; that of result.json, or the model's own, if empty."
    )
    against: str = option("", "Against", "The output that it was compared with. May be empty.")
    most_samples: int = option(3, "Maximum slices", "Slices checked at most: those with the strongest maps.", ge=1)
    baseline: Literal["blurred", "mean", "zero", "constant"] = option(
        "blurred", "Baseline", "What hidden voxels are replaced by."
    )
    baseline_value: float = option(0.0, "Baseline value", "Of the constant baseline.", advanced=True)
    steps: int = option(40, "Curve points", "Of insertion, deletion and tiles.", ge=4, le=500, advanced=True)
    orders: int = option(5, "Random orders", "Random maps that insertion and deletion must beat.", ge=2, advanced=True)
    subsets: int = option(100, "Subsets", "Per number of voxels, of sensitivity-n.", ge=10, advanced=True)
    perturbations: int = option(128, "Perturbations", "Of infidelity.", ge=20, advanced=True)
    draws: int = option(6, "Draws", "Changed images of sensitivity-max.", ge=1, advanced=True)
    random_models: int = option(2, "Random models", "Of the randomization check.", ge=1, advanced=True)
    seeds: int = option(3, "Seeds", "Of the check run to run.", ge=2, advanced=True)
    tile: int = option(8, "Tile", "Side of the tiles.", unit="voxels", ge=1, advanced=True)

    def effort(self) -> Effort:
        """How much work goes into each sampled measure."""
        return Effort(
            self.steps,
            self.orders,
            self.subsets,
            self.perturbations,
            self.draws,
            self.random_models,
            self.seeds,
            self.tile,
        )
