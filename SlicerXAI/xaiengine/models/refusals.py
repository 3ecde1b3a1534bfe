"""Networks that give no answer to explain, or not one that can be explained yet: refused by name, with the reason."""

from __future__ import annotations

from ..core.errors import ModelError

GENERATORS = frozenset(
    """
    Generator VarAutoEncoder AutoEncoder AutoencoderKL AutoencoderKlMaisi VQVAE VarFullyConnectedNet
    DiffusionModelUNet DiffusionModelUNetMaisi ControlNet ControlNetMaisi DiffusionModelEncoder SPADEDiffusionModelUNet
    SPADEAutoencoderKL SPADENet DecoderOnlyTransformer MaskedAutoEncoderViT ViTAutoEnc
    """.split()
)
CRITICS = frozenset(["Discriminator", "Critic", "PatchDiscriminator", "MultiScalePatchDiscriminator"])
DETECTORS = frozenset(["RetinaNet", "RetinaNetDetector", "retinanet_resnet50_fpn_detector"])
PROMPTED = frozenset(["VISTA3D", "vista3d132", "Vista3d", "SAM", "CellSamWrapper", "Nuclick", "HoVerNet", "HoverNet"])
REGISTRATIONS = frozenset(["LocalNet", "GlobalNet", "RegUNet", "VoxelMorph", "VoxelMorphUNet"])


def refuse_unexplainable(name: str, described_task: str = "") -> None:
    """Raise ModelError for a network, by its class, whose output is no prediction.

    ``described_task`` is what its user says that it does; an autoencoder that is said to classify or to segment is one
    that was trained to.
    """
    short = name.rpartition(".")[2]
    if short in GENERATORS and not described_task:
        raise ModelError(
            f"{short} makes or restores images: it gives no prediction that could be explained.",
            "Give a classifier, a segmentation or a regression. If this network was trained as one, say so in its "
            'settings: {"task": "segmentation"}.',
        )
    if short in CRITICS:
        raise ModelError(
            f"{short} tells real images from generated ones while a generator is trained: it is no model of findings.",
            "Give a classifier, a segmentation or a regression.",
        )
    if short in DETECTORS:
        raise ModelError(
            f"{short} detects boxes; explanations of detections are not supported.",
            "Give a classifier of patches around the detections, or a segmentation.",
        )
    if short in PROMPTED:
        raise ModelError(
            f"{short} needs more than an image (clicks, prompts) or returns instances; it is not supported.",
            "Give a network of one image: a classifier, a segmentation or a regression.",
        )
    if short in REGISTRATIONS:
        raise ModelError(
            f"{short} registers two images; it gives no prediction of one image that could be explained.",
            "Give a classifier, a segmentation or a regression.",
        )
