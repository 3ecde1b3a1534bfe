"""Loads the chest X-ray classifiers of TorchXRayVision from their weight files, without that package.

The files are pickles of whole networks, from which only the weights are taken; these go into MONAI's DenseNet-121,
which has the same architecture (Cohen et al., TorchXRayVision, MIDL 2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...core.errors import ModelError
from ..assembly import with_layers
from ..description import description_of, digest_with
from ..explained_model import ExplainedModel
from ..files import SingleFile
from ..fitting import load_weights
from ..trust.stateless_unpickling import read_hollow
from ..understanding import understood
from .weights import globals_in

if TYPE_CHECKING:
    from monai.data import MetaTensor

PATHOLOGIES = (
    "Atelectasis",
    "Consolidation",
    "Infiltration",
    "Pneumothorax",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Effusion",
    "Pneumonia",
    "Pleural_Thickening",
    "Cardiomegaly",
    "Nodule",
    "Mass",
    "Hernia",
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
)
SIZE = 224
LARGEST_VALUE = 1024.0
"""Images go to the network scaled to -1024..1024."""

_NETWORKS = ("torchxrayvision.models DenseNet", "models DenseNet", "xrv.models DenseNet")


class CalibratedNetwork(nn.Module):
    """A multi-label network whose sigmoid is stretched so that each output's operating point lies at 0.5.

    The output is the logit of the stretched probability p/(2t) for p < t, 1 - (1-p)/(2(1-t)) else.
    """

    def __init__(self, network: nn.Module, thresholds: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("thresholds", thresholds.float().reshape(1, -1))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        probability = self.network(batch).sigmoid()
        below = probability / (2 * self.thresholds)
        above = 1 - (1 - probability) / (2 * (1 - self.thresholds))
        stretched = torch.where(probability < self.thresholds, below, above)
        return torch.logit(stretched.clamp(1e-6, 1 - 1e-6))


class XrayPreparation:
    """A chest X-ray (1, I, J, 1) as the network takes it: rows first, -1024..1024, 224 x 224 of the middle square."""

    def __call__(self, image: MetaTensor) -> MetaTensor:
        from monai.data import MetaTensor
        from monai.transforms import CenterSpatialCrop, Resize

        if image.shape[0] != 1 or image.shape[3] != 1:
            raise ModelError(
                f"The chest X-ray model takes one gray two-dimensional image, not {tuple(image.shape)}.",
                "Choose an X-ray (DICOM, PNG, JPEG).",
            )
        low, high = float(image.min()), float(image.max())
        top = next((2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if low >= 0 and high < 2**bits), 0.0)
        values = image / top if top else (image - low) / max(high - low, 1e-6)
        affine = image.affine.clone()
        affine[:, [0, 1]] = image.affine[:, [1, 0]]
        turned = MetaTensor((values * 2 - 1).as_tensor().transpose(1, 2) * LARGEST_VALUE, affine=affine)
        side = min(turned.shape[1:3])
        square = CenterSpatialCrop((side, side, 1))(turned)
        return Resize((SIZE, SIZE, 1), mode="area")(square)


@dataclass(frozen=True)
class XrayPreprocessing:
    """Makes the transform of chest X-rays."""

    def __call__(self) -> list[Any]:
        return [XrayPreparation()]


def is_xrayvision(path: Path) -> bool:
    """Whether a weights file is a pickled TorchXRayVision DenseNet, or a state dict of one."""
    if path.suffix.lower() not in (".pt", ".pth"):
        return False
    return any(name in _NETWORKS for name in globals_in(SingleFile(path).read(path.name), path.name))


def load_xrayvision(path: Path) -> ExplainedModel:
    """A TorchXRayVision DenseNet-121 as a multi-label model of 18 pathologies.

    Raises:
        TrustError: the pickle holds other objects than networks are made of.
        ModelError: it is another architecture.
    """
    from monai.networks.nets import DenseNet121

    state, attributes = read_hollow(SingleFile(path).read(path.name), path.name)
    thresholds = state.pop("op_threshs", attributes.get("op_threshs"))
    if "classifier.weight" not in state:
        raise ModelError(
            f"{path.name} is not a DenseNet of TorchXRayVision.", "Its DenseNet-121 models are supported."
        )
    outputs = len(state["classifier.weight"])
    network: nn.Module = DenseNet121(spatial_dims=2, in_channels=1, out_channels=outputs)
    notes = load_weights(network, {_monai_name(key): value for key, value in state.items()}, path.name)
    if isinstance(thresholds, torch.Tensor) and bool(torch.isfinite(thresholds).all()):
        network = CalibratedNetwork(network, thresholds)
        notes = (*notes, "Probabilities are stretched so that each finding's operating point lies at 0.5.")
    description = description_of(path)
    names = attributes.get("pathologies") or attributes.get("targets") or PATHOLOGIES
    labels = tuple(description.labels) or (tuple(map(str, names)) if len(names) == outputs else ())
    model = ExplainedModel(
        name=description.name or path.stem,
        network=network.eval(),
        task="multilabel",
        labels=tuple(label or f"unnamed {number}" for number, label in enumerate(labels))
        or tuple(f"finding {number}" for number in range(outputs)),
        digest=digest_with(SingleFile(path), path.with_suffix(".json")),
        source=path,
        format="TorchXRayVision DenseNet-121",
        activation="sigmoid",
        preprocessing=XrayPreprocessing(),
        target=description.target,
        notes=notes,
    )
    patterns = description.layers or [f"*features.denseblock{number}" for number in (2, 1, 3, 4)]
    return understood(with_layers(model, patterns, (SIZE, SIZE)))


def _monai_name(key: str) -> str:
    """torchvision's names of the layers as MONAI's."""
    key = key.replace("classifier.", "class_layers.out.")
    parts = key.split(".")
    if len(parts) > 3 and parts[2].startswith("denselayer"):
        parts.insert(3, "layers")
    return ".".join(parts)
