"""The task train-generator: read the folder, train, write the generator and its figures."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError

from ...core.errors import OptionError
from ...core.job import explain
from ...core.output import disk_errors
from ...counterfactual.explained_score import TrainingScore, model_features, training_score
from ...counterfactual.generator.checkpoint import (
    DESCRIPTION,
    ENCODER_FILE,
    GENERATOR_FILE,
    GeneratorDescription,
    save_generator,
)
from ...counterfactual.generator.generator import GeneratorSettings
from ...counterfactual.generator.generator_metrics import Features, RandomFeatures
from ...counterfactual.series.slice_replacement import blank_frame
from ...counterfactual.training.checkpoint import LOG_FILE, fingerprint
from ...counterfactual.training.image_folder import FEW, FolderChoice, FolderImages, read_folder
from ...counterfactual.training.images import TrainingImages
from ...counterfactual.training.metrics import sample_grid, write_grid
from ...counterfactual.training.run import TrainingRun
from ...counterfactual.training.settings import JOINT_RATES, TrainingSettings
from ...counterfactual.training.training import GeneratorTrainer
from ...models.explained_model import ExplainedModel

if TYPE_CHECKING:
    from ..task import Context, Outcome
    from .options import TrainGeneratorOptions

FOLDER = "training"
"""In the output folder: states, log and sample pictures of the running training."""
_MOST_HELD_OUT = 500
_LEAST_HELD_OUT = 4
_TIMED = 3


def train_and_write(options: TrainGeneratorOptions, context: Context) -> Outcome:
    """The task train-generator."""
    from ..task import Outcome

    context.progress.plan([("Reading the images", 0.02), ("Training", 0.97), ("Writing", 0.01)])
    context.progress.stage("Reading the images")
    shape, settings = training_shape(options), training_settings(options, context)
    read = read_folder(Path(options.images), _choice(options), context.progress.check)
    shape = shape.model_copy(update={"channels": read.images.channels})
    training, held_out = divided(read.images, options.held_out)
    if len(training) < FEW:
        context.warn(
            f"{len(training)} training images are few: the generator may remember them rather than learn what can "
            f"vary. {FEW} and more are advised."
        )
    score = _score(options, context, read, held_out) if options.model else None
    features: Features = (model_features(score) if score else None) or RandomFeatures(shape.channels)
    trainer = GeneratorTrainer(shape, settings, training, score.target if score else None, context.device)
    folder = context.output.folder / FOLDER
    digest = score.answer.predictor.model.digest if score else ""
    run = TrainingRun(
        trainer,
        folder,
        fingerprint(trainer, model_digest=digest),
        held_out,
        features,
        score.target if score else None,
        score.shown if score else torch.sigmoid,
        options.save_every,
        options.figures_every,
        context.progress,
        context.log,
    )
    if options.restart and folder.exists() and not context.only_estimate:
        shutil.rmtree(folder)
    _estimate_work(trainer, context)
    with disk_errors(folder):
        run.resume()
        context.progress.stage("Training", settings.steps)
        start = time.process_time()
        figures = run.run()
    context.progress.stage("Writing")
    figures["features"] = features.name
    minutes = (time.process_time() - start) / 60
    _write(run, read, score, figures, options, context, minutes)
    values = {"images_used": len(training), "steps_done": settings.steps}
    named = {"precision": "sample_precision", "recall": "sample_recall"}  # precision is an option, too
    values |= {named.get(name, name): value for name, value in figures.items() if not name.startswith("domain_")}
    return Outcome(
        values={name: value for name, value in values.items() if name != "prediction_correlation"},
        provenance={"settings": settings.model_dump(), "shape": shape.model_dump(), "resumed_at": run.resumed_at},
    )


def training_shape(options: TrainGeneratorOptions) -> GeneratorSettings:
    """The generator's shape. Raises OptionError if the options do not fit together."""
    try:
        return GeneratorSettings(
            size=int(options.size),
            latent_size=options.latent_size,
            width=options.width,
            maximum_width=options.maximum_width,
            mapping_layers=0 if options.encoder else 4,
            noise=not options.encoder,
            code_channels=options.code_channels if options.encoder else 0,
            code_size=int(options.code_size),
        )
    except ValidationError as error:
        raise OptionError(f"The generator's shape does not fit: {explain(error)}.", "Change these options.") from error


def training_settings(options: TrainGeneratorOptions, context: Context) -> TrainingSettings:
    """Settings from options; rates and weights that are left open are those of the kind of training."""
    content: dict[str, Any] = dict(JOINT_RATES) if options.encoder else {}
    if options.learning_rate:
        content["generator_rate"] = options.learning_rate
    if options.adversarial >= 0:
        content["adversarial"] = options.adversarial
    mixed = options.precision == "mixed" or (options.precision == "auto" and context.device.type == "cuda")
    return TrainingSettings(
        **content,
        steps=options.steps,
        batch=options.batch,
        seed=context.seed,
        encoder=options.encoder,
        r1=options.r1,
        augmentation=options.augmentation,
        mirror=options.mirror,
        low_precision=mixed,
    )


def _choice(options: TrainGeneratorOptions) -> FolderChoice:
    low, high = options.window_low, options.window_high
    if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
        raise OptionError(
            f"The window from {low} to {high} is not one.", "Give both ends, the lower one first, or neither."
        )
    if options.first_slice > options.last_slice:
        raise OptionError(
            f"Slices from {options.first_slice:g} to {options.last_slice:g} of the extent are none.",
            "Give the smaller part first.",
        )
    window = None if low is None or high is None else (low, high)
    return FolderChoice(
        int(options.size),
        options.plane,
        options.first_slice,
        options.last_slice,
        options.every_slice,
        options.pixel,
        window,
    )


def divided(images: TrainingImages, part: float) -> tuple[TrainingImages, torch.Tensor]:
    """Images to train on, and evenly spread ones that are not; neighboring slices of a volume stay alike, though."""
    count = len(images)
    kept = min(max(_LEAST_HELD_OUT, round(part * count)), _MOST_HELD_OUT, count // 2)
    chosen = torch.linspace(0, count - 1, kept).round().long()
    mask = torch.ones(count, dtype=torch.bool)
    mask[chosen] = False
    return TrainingImages(images.images[mask]), images.chosen(chosen.numpy())


def _score(
    options: TrainGeneratorOptions, context: Context, read: FolderImages, held_out: torch.Tensor
) -> TrainingScore | None:
    if not options.encoder:
        raise OptionError(
            "A model was given, but the training is without an encoder: the model has no part in it.",
            "Train with the encoder, or without the model.",
        )
    model: ExplainedModel = context.session.model(options.model, context.device, context.trust_model)
    pixel = (options.pixel, options.pixel) if options.pixel else None
    frame = blank_frame(int(options.size), read.images.channels, read.plane or "axial", read.window, pixel)
    score = training_score(model, frame, held_out, options.target)
    for note in score.notes:
        context.warn(note)
    return score


def _estimate_work(trainer: GeneratorTrainer, context: Context) -> None:
    """Say how long the training takes, from timed steps on a copy of its state."""
    import copy

    state = copy.deepcopy(trainer.state())
    trainer.step()
    start = time.perf_counter()
    for _ in range(_TIMED):
        trainer.step()
    seconds = (time.perf_counter() - start) / _TIMED
    trainer.restore(state)
    left = seconds * trainer.settings.steps
    context.expect(
        f"{trainer.settings.steps} steps of {seconds:.2f} s: about {left / 3600:.1f} hours, more once the "
        "discriminator takes part.",
        left,
    )


def _write(
    run: TrainingRun,
    read: FolderImages,
    score: TrainingScore | None,
    figures: dict[str, Any],
    options: TrainGeneratorOptions,
    context: Context,
    minutes: float,
) -> None:
    space = run.trainer.latent_space()
    model = score.answer.predictor.model if score else None
    training = {name: value for name, value in figures.items() if not name.startswith("domain_")}
    training |= {"steps": run.trainer.settings.steps, "images": len(run.trainer.images), "cpu_minutes": minutes}
    if "domain_l1" in figures:
        training["domain"] = {"l1": figures["domain_l1"], "distance": figures["domain_distance"]}
    description = GeneratorDescription(
        name=Path(options.images).name,
        settings=space.settings,
        modality=options.modality,
        window=read.window,
        spacing=(options.pixel, options.pixel),
        plane=read.plane,
        license=options.license,
        training=training,
        explained_model=model.digest if model else "",
        target=score.name if score else "",
        score_mean=score.mean if score else 0.0,
        score_deviation=score.deviation if score else 1.0,
    )
    target = context.output.path(DESCRIPTION).parent
    with disk_errors(context.output.folder):
        save_generator(target, space, description)
        shutil.copyfile(run.folder / LOG_FILE, context.output.path("training_log.csv"))
        write_grid(context.output.path("samples.png"), sample_grid(space, run.held_out, run.target))
    add = context.output.add
    add("data", DESCRIPTION, "generator", "generator", description="The output folder is the generator.")
    add("data", GENERATOR_FILE, "weights", "weights")
    if space.encoder is not None:
        add("data", ENCODER_FILE, "encoder", "encoder")
    add("table", "training_log.csv", "training log", "log", description="Losses and figures by step.")
    context.output.table("files.csv", ["file", "images", "note"], read.rows, "training images", "images")
    add("image", "samples.png", "samples", "samples", description="Held-out images, reconstructions, samples.")
