"""Train the counterfactual demo: classifier of planted consolidations, generator and encoder of chest X-rays.

    python Testing/training/chest_counterfactual/train.py --xrays chest_xray_64.npz [--work FOLDER] [--output MODELS]

One thread of a CPU, fixed seeds; started again after an end by force, the generator's training goes on from its last
state in the work folder. Writes the classifier's bundle, the generator's folder with its directions, and the held-out
X-rays of the tests; every figure is measured on held-out X-rays.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "SlicerXAI")]
import bundle
import classifier
import cohort
from xaiengine.core.progress import Progress
from xaiengine.counterfactual.directions.directions import FinderSettings
from xaiengine.counterfactual.directions.store import FILE_NAME, DirectionSet
from xaiengine.counterfactual.explained_score import TrainingScore, model_features, training_score
from xaiengine.counterfactual.generator.checkpoint import GeneratorDescription, save_generator
from xaiengine.counterfactual.generator.generator import GeneratorSettings
from xaiengine.counterfactual.generator.latent_space import LatentSpace
from xaiengine.counterfactual.generator_context import load_setting
from xaiengine.counterfactual.series.slice_replacement import blank_frame
from xaiengine.counterfactual.training.checkpoint import fingerprint
from xaiengine.counterfactual.training.images import TrainingImages
from xaiengine.counterfactual.training.metrics import held_out_figures, sample_grid, write_grid
from xaiengine.counterfactual.training.run import TrainingRun
from xaiengine.counterfactual.training.settings import JOINT_RATES, TrainingSettings
from xaiengine.counterfactual.training.training import GeneratorTrainer
from xaiengine.models import load_model
from xaiengine.tasks.find_directions.finding import find_directions, generated_answer

NAME = "chest_xray_counterfactual"
WINDOW = (0.0, 255.0)
SHAPE = GeneratorSettings(
    size=64, latent_size=64, mapping_layers=0, width=16, maximum_width=96, noise=False, code_channels=6, code_size=16
)
STEPS = 13_000
DIRECTION_METHODS, DIRECTION_SAMPLES = ["logistic", "covariance", "gradient"], 4000
HELD_OUT = ROOT / "Testing" / "data" / "chest_xray_held_out.npz"
LICENCE = "CC BY-SA 4.0 (trained on chest X-rays of MedNIST, B. Erickson, Mayo Clinic)"


def settings(steps: int, seed: int) -> TrainingSettings:
    return TrainingSettings(**JOINT_RATES, steps=steps, seed=seed, augmentation="none", low_precision=True)


def as_training_images(images: np.ndarray) -> TrainingImages:
    """(n, 64, 64) uint8, rows and columns, in the engine's order."""
    return TrainingImages(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 2, 1)))[:, None])


def train_classifier(training: cohort.Cohort, held_out: cohort.Cohort, folder: Path, seed: int) -> dict[str, float]:
    """Write the bundle; returns figures on held-out X-rays."""
    network = classifier.train(classifier.as_input(training.images), training.probability, seed=seed)
    network = network.to(memory_format=torch.contiguous_format)
    bundle.write_bundle(folder, network, classifier.as_input(training.images[::13]))
    figures = classifier_figures(network, held_out)
    write_card(
        folder,
        "classifier_card.md",
        **figures,
        parameters=parameters(network),
        steps=classifier.STEPS,
        held_out=len(held_out.images),
    )
    return figures


def classifier_figures(network: torch.nn.Module, held_out: cohort.Cohort) -> dict[str, float]:
    found = classifier.probability_of(network, classifier.as_input(held_out.images))
    wanted, planted = held_out.probability, held_out.burden > 0
    ranks = stats.rankdata(found)
    auc = (ranks[planted].sum() - planted.sum() * (planted.sum() + 1) / 2) / (planted.sum() * (~planted).sum())
    return {
        "auc": float(auc),
        "spearman_with_burden": float(stats.spearmanr(found[planted], held_out.burden[planted])[0]),
        "mean_difference_to_label": float(np.abs(found - wanted).mean()),
        "median_without": float(np.median(found[~planted])),
        "median_with": float(np.median(found[planted])),
    }


def score_of(folder: Path, images: TrainingImages) -> TrainingScore:
    frame = blank_frame(SHAPE.size, 1, "axial", WINDOW, None)
    return training_score(load_model(folder), frame, images.chosen(slice(0, 4000)))


def train_generator(
    training: TrainingImages, held_out: torch.Tensor, score: TrainingScore, work: Path, steps: int, seed: int
) -> tuple[LatentSpace, int]:
    """The trained latent space, and the step that an earlier run had come to."""
    trainer = GeneratorTrainer(SHAPE, settings(steps, seed), training, score.target)
    model = score.answer.predictor.model
    run = TrainingRun(
        trainer,
        work,
        fingerprint(trainer, model_digest=model.digest),
        held_out[:300],
        model_features(score),
        score.target,
        score.shown,
        save_every=500,
        figures_every=2000,
        log=lambda text: print(text, flush=True),
    )
    run.resume()
    run.run()
    return trainer.latent_space(), run.resumed_at


def write_generator(
    folder: Path, space: LatentSpace, score: TrainingScore, held_out: torch.Tensor, **training: float
) -> dict[str, float]:
    """Write the generator's folder (float16), its figures on all held-out X-rays, and sample pictures."""
    model = score.answer.predictor.model
    figures = held_out_figures(space, held_out, model_features(score), score.target, score.shown)
    figures |= steering_figures(space, score, held_out)
    described = {name: value for name, value in figures.items() if not name.startswith("domain_")}
    described["domain"] = {"l1": figures["domain_l1"], "distance": figures["domain_distance"]}
    described["frechet_features"] = model_features(score).name
    description = GeneratorDescription(
        name=NAME,
        settings=SHAPE,
        modality="frontal chest X-ray, 64 x 64",
        window=WINDOW,
        explained_model=model.digest,
        target=score.name,
        score_mean=score.mean,
        score_deviation=score.deviation,
        license=LICENCE,
        training=described | training,
        notes=["X-rays with planted consolidations: a demonstration, not a diagnostic tool."],
    )
    save_generator(folder, space, description, torch.float16)
    write_card(
        folder,
        "model_card.md",
        **described,
        **training,
        held_out=len(held_out),
        generator_parameters=parameters(space.generator),
        encoder_parameters=parameters(space.encoder),
    )
    write_grid(folder / "docs" / "samples.png", sample_grid(space, held_out, score.target))
    return figures


def write_directions(folder: Path, model_folder: Path, seed: int) -> DirectionSet:
    """Directions beside the generator, the default first, as the task find-directions finds them."""
    setting, model = load_setting(str(folder), torch.device("cpu")), load_model(model_folder)
    answer = generated_answer(setting, model, classifier.LABELS[classifier.TARGET], "", None)
    found = find_directions(
        setting,
        answer,
        DIRECTION_METHODS,
        FinderSettings(leading=setting.moving("auto")),
        samples=DIRECTION_SAMPLES,
        seed=seed,
        judged=40,
        reach=4.0,
        progress=Progress(),
    )
    found.save(folder / FILE_NAME)
    return found


def write_card(folder: Path, template: str, **figures: object) -> None:
    """``docs/README.md`` from a template beside this script."""
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    text = (Path(__file__).parent / template).read_text(encoding="utf-8").format(**figures)
    (folder / "docs" / "README.md").write_text(text, encoding="utf-8", newline="\n")


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@torch.no_grad()
def steering_figures(space: LatentSpace, score: TrainingScore, images: torch.Tensor) -> dict[str, float]:
    """Set the score latent of held-out X-rays to clear and to consolidation: how often the model follows."""
    latents = torch.cat([space.encode(part) for part in images.split(64)])
    told = torch.cat([score.target.score(part) for part in images.split(64)])
    said = {}
    for name, asked in (("clear", score.target.low), ("consolidation", score.target.high)):
        moved = latents.clone()
        moved[:, 0] = asked / 2
        said[name] = torch.cat([score.target.score(space.decode(part)) for part in moved.split(64)])
    flipped = torch.where(told > 0, said["clear"] < 0, said["consolidation"] > 0)
    return {"steered_flip_rate": float(flipped.float().mean())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xrays", type=Path, required=True, help="chest_xray_64.npz of MedNIST")
    parser.add_argument("--work", type=Path, default=Path("chest_counterfactual_training"))
    parser.add_argument("--output", type=Path, default=ROOT / "SlicerXAI" / "Resources" / "Models")
    parser.add_argument("--held-out", type=Path, default=HELD_OUT, help="file for the X-rays of the tests")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep-classifier", action="store_true", help="explain the bundle that is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    xrays = cohort.read_xrays(arguments.xrays)
    held_out, training = cohort.held_out(xrays), cohort.training(xrays, seed=arguments.seed)
    print(f"{len(training.images)} training images, {len(held_out.images)} held-out X-rays", flush=True)
    cohort.write_held_out(held_out, arguments.held_out)
    folder = arguments.output / bundle.NAME
    if not arguments.keep_classifier:
        print(json.dumps(train_classifier(training, held_out, folder, arguments.seed), indent=2))
    images, others = as_training_images(training.images), as_training_images(held_out.images).chosen(slice(None))
    score = score_of(folder, images)
    start = time.process_time()
    space, done = train_generator(images, others, score, arguments.work, arguments.steps, arguments.seed)
    share = 1 - min(done, arguments.steps - 1) / arguments.steps  # what this run did of the training
    minutes = round((time.process_time() - start) / share / 60, 1)
    figures = write_generator(
        arguments.output / NAME, space, score, others, steps=arguments.steps, cpu_minutes=minutes
    )
    print(json.dumps(figures, indent=2))
    found = write_directions(arguments.output / NAME, folder, arguments.seed)
    print(json.dumps(found.directions[0].figures, indent=2))


if __name__ == "__main__":
    main()
