"""The task explain-counterfactual from options to written files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...counterfactual.generator_context import check_channels, load_setting
from ...models.provenance import model_provenance

if TYPE_CHECKING:
    from ..task import Context, Outcome
    from .options import ExplainCounterfactualOptions
from .explaining import PLAN, explain, read_scan, region_mask


def explain_and_write(options: ExplainCounterfactualOptions, context: Context) -> Outcome:
    """The task explain-counterfactual."""
    from ..task import Outcome
    from .writing import write_counterfactual

    context.progress.plan(PLAN)
    context.progress.stage("Preparing")
    model = context.session.model(options.model, context.device, context.trust_model)
    setting = load_setting(options.generator, context.device)
    check_channels(setting, model)
    scan = read_scan(options.volume, setting, options.series)
    found = explain(setting, model, scan, options, context)
    region = region_mask(options.region, found.frame)
    context.progress.stage("Writing")
    values = write_counterfactual(found, options, context, region)
    inversion = found.inversion
    return Outcome(
        values=values,
        provenance={
            "model": model_provenance(model),
            "generator": {"name": setting.name, "digest": setting.digest},
            "slice": {"plane": found.frame.plane, "index": found.frame.index, "axis": found.frame.axis},
            "direction": found.direction.name if found.direction else "gradient path of this image",
            "inversion": {"steps": inversion.steps, "answer_in_loss": inversion.answer_in_loss, "in": options.refine},
            "model_passes": found.answer.predictor.passes,
        },
    )
