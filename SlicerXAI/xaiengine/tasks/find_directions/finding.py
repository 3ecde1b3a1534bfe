"""The task find-directions: sample, find, judge on held-out latents, write; and directions found on the way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...core.errors import OptionError
from ...core.progress import Progress
from ...counterfactual.directions.directions import METHODS, Direction, FinderSettings, extra_passes, find, resolved
from ...counterfactual.directions.scoring import SHIFTS, score_direction
from ...counterfactual.directions.store import FILE_NAME, DirectionSet, kept_path
from ...counterfactual.expected_work import JUDGED, directions_work, fitting_operations
from ...counterfactual.explained_images import ImageAnswer, image_predictor
from ...counterfactual.generator.latent_sample import LatentSample, draw_sample
from ...counterfactual.generator_context import Setting, check_channels, load_setting
from ...counterfactual.scalar_output import Answer, choose_answer
from ...models.explained_model import ExplainedModel
from ...models.provenance import model_provenance
from ..counterfactual_cost import estimate_work, fitting_seconds, measure_cost

if TYPE_CHECKING:
    from ..explain_counterfactual.options import ExplainCounterfactualOptions
    from ..task import Context, Outcome
    from .options import FindDirectionsOptions

STAGES = ("Asking the model of generated images", "Finding directions", "Judging directions")
COLUMNS = (
    "direction",
    "method",
    "auc",
    "r2",
    "pair_accuracy",
    "flip_rate",
    "up",
    "down",
    "spearman",
    "slope",
    "images",
)


def find_and_write(options: FindDirectionsOptions, context: Context) -> Outcome:
    """The task find-directions."""
    from ..task import Outcome

    context.progress.stage("Preparing")
    model = context.session.model(options.model, context.device, context.trust_model)
    setting = load_setting(options.generator, context.device)
    answer = generated_answer(setting, model, options.target, options.against, options.decision)
    for note in answer.predictor.notes:
        context.warn(note)
    settings = FinderSettings(
        count=options.attributes,
        leading=setting.moving(options.subspace),
        gradients=options.gradients,
        style_images=options.style_images,
        channels=options.channels,
    )
    methods = chosen_methods(options.methods, answer.answer.is_class)

    def tell(image_seconds: float) -> None:
        searched = methods, setting.space, settings, options.samples
        cost = measure_cost(setting.space, answer, "gradient" in methods, image_seconds)
        fitting = fitting_seconds(fitting_operations(*searched))
        estimate_work(directions_work(*searched, options.judged), cost, answer, context, fitting)

    found = find_directions(
        setting,
        answer,
        methods,
        settings,
        samples=options.samples,
        seed=context.seed,
        judged=options.judged,
        reach=options.reach,
        progress=context.progress,
        timed=tell,
    )
    found.save(context.output.path(FILE_NAME))
    context.output.add(
        "data", FILE_NAME, "directions", "directions", description="Directions for the task explain-counterfactual."
    )
    rows = [figures_row(direction) for direction in found.directions]
    context.output.table(
        "directions.csv",
        COLUMNS,
        rows,
        "directions",
        "table",
        description="On held-out latents: AUC or R² of the surrogate, flips within reach, rank correlation.",
    )
    for text in weak_points(found.directions[0]):
        context.warn(text)
    first = found.directions[0].figures
    values = {name: first[name] for name in ("auc", "r2", "flip_rate", "spearman") if first.get(name) is not None}
    return Outcome(
        values={"explained_target": answer.answer.name, **values},
        provenance={
            "model": model_provenance(model),
            "generator": {"name": setting.name, "digest": setting.digest},
            "model_passes": answer.predictor.passes,
        },
    )


def chosen_methods(names: list[str], is_class: bool) -> list[str]:
    """The methods of a list, each once. Raises OptionError for an unknown name or an empty list."""
    methods = list(dict.fromkeys(resolved(name.strip(), is_class) for name in names if name.strip()))
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        found = f"The method {unknown[0]!r} is not known." if unknown else "No method was named."
        raise OptionError(found, f"Use one or several of {', '.join(METHODS)}.")
    return methods


def generated_answer(
    setting: Setting, model: ExplainedModel, target: str, against: str, decision: float | None
) -> ImageAnswer:
    """The answer of the model to generated images, where there is no scan. Raises ModelError or OptionError."""
    check_channels(setting, model)
    examples = setting.examples()
    predictor = image_predictor(model, setting.blank_frame(), examples)
    output = predictor.outputs(examples[:1])
    return ImageAnswer(predictor, choose_answer(model, output, target, against, decision))


def find_directions(
    setting: Setting,
    answer: ImageAnswer,
    methods: list[str],
    settings: FinderSettings,
    *,
    samples: int,
    seed: int,
    judged: int,
    reach: float,
    progress: Progress,
    timed: Callable[[float], None] = lambda seconds: None,
) -> DirectionSet:
    """Directions by several methods from one sample, each with its figures on held-out latents.

    ``timed``: see :func:`latent_sample.draw_sample`.
    """
    space, geometry = setting.space, setting.geometry
    extra = sum(extra_passes(method, space, settings) for method in methods)
    judging = len(methods) * settings.count * judged * 2 * len(SHIFTS)
    progress.plan(list(zip(STAGES, (samples, max(extra, 0.02 * samples), judging))))
    progress.stage(STAGES[0], samples)
    sample = draw_sample(space, answer, samples, seed=seed, leading=settings.leading, progress=progress, timed=timed)
    fitted, held_out = sample.divided()
    progress.stage(STAGES[1], extra)
    found: list[Direction] = []
    with torch.no_grad():
        for method in methods:
            found += find(method, space, answer, geometry, fitted, settings, progress)
    progress.stage(STAGES[2], judging)
    scored = tuple(
        direction.with_figures(
            score_direction(
                direction,
                space,
                answer,
                geometry,
                held_out,
                images=judged,
                reach=reach,
                values_range=answers_range(sample),
                progress=progress,
            )
        )
        for direction in found
    )
    return DirectionSet(
        directions=scored,
        model_digest=answer.predictor.model.digest,
        generator_digest=setting.digest,
        target=target_key(answer.answer),
        values_mean=float(sample.values.mean()),
        values_spread=sample.spread,
        settings={
            "methods": methods,
            "samples": samples,
            "seed": seed,
            "moving_latents": settings.leading,
            "values_range": list(answers_range(sample)),
        },
    )


def known_directions(
    setting: Setting, model: ExplainedModel, answer: ImageAnswer, options: ExplainCounterfactualOptions, seed: int
) -> DirectionSet | None:
    """Directions that are given, lie beside the generator or were found before; None where there are none, and for
    the gradient path.
    """
    target = target_key(answer.answer)
    if options.directions:
        given = DirectionSet.load(Path(options.directions))
        given.check(model.digest, setting.digest, target, Path(options.directions).name)
        return given
    if options.method == "local":
        return None
    beside = setting.stored.source / FILE_NAME
    if beside.is_file():
        shipped = DirectionSet.load(beside)
        fits = (shipped.model_digest, shipped.generator_digest, shipped.target) == (
            model.digest,
            setting.digest,
            target,
        )
        if fits and options.method == "auto" and options.subspace == "auto":
            return shipped
    kept = _kept_path(setting, answer, options, seed)
    if not kept.is_file():
        return None
    found = DirectionSet.load(kept)
    found.check(model.digest, setting.digest, target)
    return found


def _kept_path(setting: Setting, answer: ImageAnswer, options: ExplainCounterfactualOptions, seed: int) -> Path:
    """Where directions that are found now are kept for later runs."""
    method = f"{resolved(options.method, answer.answer.is_class)}-{setting.moving(options.subspace)}"
    digest, target = answer.predictor.model.digest, target_key(answer.answer)
    return kept_path(digest, setting.digest, target, method, options.samples, seed)


def new_directions(
    setting: Setting,
    model: ExplainedModel,
    answer: ImageAnswer,
    options: ExplainCounterfactualOptions,
    context: Context,
) -> DirectionSet:
    """Directions for one explanation, found by its method and kept for later ones."""
    context.log(f"Directions are found on {options.samples} generated images; later runs use them again.")
    generated = generated_answer(setting, model, options.target, options.against, options.decision)
    found = find_directions(
        setting,
        generated,
        [resolved(options.method, answer.answer.is_class)],
        FinderSettings(leading=setting.moving(options.subspace)),
        samples=options.samples,
        seed=context.seed,
        judged=JUDGED,
        reach=options.reach,
        progress=context.progress,
    )
    kept = _kept_path(setting, answer, options, context.seed)
    kept.parent.mkdir(parents=True, exist_ok=True)
    found.save(kept)
    return found


def target_key(answer: Answer) -> str:
    """What directions belong to: the same target whatever its decision is."""
    return answer.name


def figures_row(direction: Direction) -> dict[str, Any]:
    figures = direction.figures
    named = {name: figures.get(name) for name in COLUMNS if name in figures}
    return {"direction": direction.name, "method": direction.method, "slope": direction.slope, **named}


def weak_points(direction: Direction) -> list[str]:
    """What the user must know of a direction that does not do well."""
    figures, found = direction.figures, []
    if figures.get("flip_rate", 1.0) < 0.9:
        sides = [f"{name} {figures[name]:.0%}" for name in ("up", "down") if figures.get(name) is not None]
        found.append(
            f"The direction '{direction.name}' turns the answer over in {figures['flip_rate']:.0%} of "
            f"{figures['images']} held-out images only ({', '.join(sides)})."
        )
    if figures.get("spearman") is not None and figures["spearman"] < 0.9:
        found.append(
            f"Along the direction '{direction.name}' the answer does not rise steadily in held-out images "
            f"(mean Spearman {figures['spearman']:.2f} over them)."
        )
    return found


def answers_range(sample: LatentSample) -> tuple[float, float]:
    """Between which moved answers 98 % of sampled images lie."""
    low, high = sample.values.quantile(torch.tensor([0.01, 0.99]).to(sample.values))
    return float(low), float(high)
