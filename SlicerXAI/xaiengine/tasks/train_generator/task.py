"""Task: train a generator of a modality's images, with or without an encoder and the explained model."""

from __future__ import annotations

from ..task import Context, Outcome, OutputSpec, Task, ValueSpec
from .options import TrainGeneratorOptions


class TrainGenerator(Task[TrainGeneratorOptions]):
    """See :mod:`xaiengine.tasks.train_generator.training_task`."""

    name = "train-generator"
    title = "Train generator"
    description = (
        "Trains a generator of images (StyleGAN2 with an encoder) on a folder, for counterfactual explanations of a "
        "model. A stopped training goes on when it is started again with the same output folder. For research, not "
        "for diagnosis."
    )
    Options = TrainGeneratorOptions
    outputs = (
        OutputSpec("generator", "data", "Generator", "generator.json: the output folder is the generator."),
        OutputSpec("weights", "data", "Weights", "Of the generator, safetensors."),
        OutputSpec("encoder", "data", "Encoder", "Weights, safetensors.", optional=True),
        OutputSpec("log", "table", "Log", "Losses and figures by step."),
        OutputSpec("images", "table", "Images", "The files used, and those that could not be, with the reason."),
        OutputSpec("samples", "image", "Samples", "Held-out images, reconstructions, sampled images."),
    )
    values = (
        ValueSpec("images_used", "Images", "Images trained on.", "integer"),
        ValueSpec("steps_done", "Steps", "Steps of the training.", "integer"),
        ValueSpec("frechet", "Fréchet distance", "Of sampled to held-out images, on the features named beside it."),
        ValueSpec("features", "Features", "What the distance was measured on.", "string"),
        ValueSpec("sample_precision", "Precision", "Share of sampled images that look real."),
        ValueSpec("sample_recall", "Recall", "Share of held-out images that are covered."),
        ValueSpec("l1", "Reconstruction error", "Mean absolute difference of held-out images; their range is 2."),
        ValueSpec("ssim", "SSIM", "Of reconstructions of held-out images."),
        ValueSpec("prediction_difference", "Prediction difference", "Median |f(x) - f(G(x))| of held-out images."),
    )
    needs_model = False

    def run(self, options: TrainGeneratorOptions, context: Context) -> Outcome:
        from .training_task import train_and_write

        return train_and_write(options, context)
