"""Which classes an untrusted configuration may name: an explicit list, and the check that a name is what it says."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, TrustError
from .expressions import TRUST_REMEDY

if TYPE_CHECKING:
    from torch import nn

NETWORKS = frozenset(
    """
    AHNet AttentionUnet AutoEncoder AutoencoderKL BasicUNet BasicUNetPlusPlus Classifier Critic DAF3D DenseNet
    DenseNet121 DenseNet169 DenseNet201 DenseNet264 DiNTS Discriminator DynUNet EfficientNet EfficientNetBN
    EfficientNetBNFeatures FlexibleUNet FullyConnectedNet Generator HighResBlock HighResNet HoVerNet MedNeXt
    MaskedAutoEncoderViT NetAdapter PatchDiscriminator Quicknat Regressor ResNet ResNetFeatures SENet SENet154
    SEResNet50 SEResNet101 SEResNet152 SEResNext50 SEResNext101 SEResNeXt50 SEResNeXt101 SegResNet SegResNetDS
    SegResNetDS2 SegResNetVAE SwinUNETR TopologyInstance TorchVisionFCModel UNETR UNet VNet VarAutoEncoder
    VarFullyConnectedNet ViT ViTAutoEnc
    """.split()
)
"""Networks of ``monai.networks.nets`` whose construction reads no file and runs no code given as an argument."""

NETWORK_FUNCTIONS = frozenset(
    """
    resnet10 resnet18 resnet34 resnet50 resnet101 resnet152 resnet200
    MedNeXtS MedNeXtB MedNeXtM MedNeXtL MedNeXtSmall MedNeXtBase MedNeXtMedium MedNeXtLarge
    """.split()
)
"""Functions of ``monai.networks.nets`` that build a network."""

_NETWORK_PACKAGES = ("monai.networks.nets", "monai.networks.blocks", "monai.networks.layers", "torch.nn")
_REFUSED_MODULES = frozenset({"DataParallel", "DistributedDataParallel", "LLTM", "Lambda", "Module", "CRF", "MCFCN"})
_DOWNLOADING = ("pretrained", "pretrained_url", "pretrained_path", "progress")

_FORMER_NAMES: dict[str, dict[str, str]] = {
    "SwinUNETR": {"img_size": ""},
    "UNETR": {"pos_embed": "proj_type"},
    "ViT": {"pos_embed": "proj_type"},
    "ViTAutoEnc": {"pos_embed": "proj_type"},
    "UNet": {"dimensions": "spatial_dims"},
    "BasicUNet": {"dimensions": "spatial_dims"},
}
"""Arguments that MONAI has renamed or dropped (empty) since the older bundles of the Model Zoo were written."""

_PACKAGES = ("monai.networks", "monai.transforms", "monai.inferers", "torch.nn")


def refuse_target(target: Any, where: str) -> TrustError:
    """The error for a ``_target_`` that is not allowed."""
    return TrustError(
        f"The model's configuration asks for {_shown(target)} at {where}. Without trust, only networks, transforms "
        f"and inferers of MONAI and layers of torch.nn are built.",
        TRUST_REMEDY,
    )


def check_target(target: Any, where: str) -> str:
    """The dotted or short name of a component, checked for shape only.

    A short name ("UNet") is looked up later, in the table of its kind. Raises TrustError for names of other packages.
    """
    if not isinstance(target, str) or not target or len(target) > 200:
        raise refuse_target(target, where)
    parts = target.split(".")
    if not all(part.isidentifier() and not part.startswith("_") for part in parts):
        raise refuse_target(target, where)
    if len(parts) > 1 and not any(target.startswith(package + ".") for package in _PACKAGES):
        raise refuse_target(target, where)
    return target


def network_class(target: str, where: str) -> Any:
    """The network or layer class (or building function) of this name.

    The object must really be defined in the package that the name gives: an attribute chain such as
    ``monai.networks.nets.torch.os.system`` reaches none of the lists.

    Raises:
        TrustError: it is not on the list of allowed networks.
    """
    found = find_network_class(target)
    if found is not None:
        return found
    name = target.rpartition(".")[2]
    if "." not in target or target.startswith("monai.networks.nets"):
        near = difflib.get_close_matches(name, NETWORKS | NETWORK_FUNCTIONS, 3, 0.7)
        refusal = refuse_target(target, where)
        if near and name not in NETWORKS:
            refusal.remedy = f"Did you mean {' or '.join(near)}? Otherwise: {refusal.remedy}"
        raise refusal
    raise refuse_target(target, where)


def find_network_class(target: str) -> Any:
    """As :func:`network_class`, but None for a name that is not allowed."""
    package, _, name = target.rpartition(".")
    if not package:
        package = "monai.networks.nets" if name in NETWORKS | NETWORK_FUNCTIONS else "torch.nn"
    if not any(package == allowed or package.startswith(allowed + ".") for allowed in _NETWORK_PACKAGES):
        return None
    home = next(allowed for allowed in _NETWORK_PACKAGES if (package + ".").startswith(allowed + "."))
    found = vars(importlib.import_module(home)).get(name)
    if found is None:
        found = _from_submodule(package, home, name)
    return found if _is_allowed(found, home, name) else None


def _from_submodule(package: str, home: str, name: str) -> Any:
    """An object of an already imported submodule, found without following attributes and without new imports."""
    import sys

    module = sys.modules.get(package)
    if module is None or not package.startswith(home):
        return None
    return vars(module).get(name)


def _is_allowed(found: Any, home: str, name: str) -> bool:
    from torch import nn

    defined_in = getattr(found, "__module__", "") or ""
    if home == "monai.networks.nets":
        real_name = getattr(found, "__name__", "")
        if inspect.isfunction(found):
            return name in NETWORK_FUNCTIONS and defined_in.startswith(home + ".")
        return inspect.isclass(found) and real_name in NETWORKS and defined_in.startswith(home + ".")
    if not (inspect.isclass(found) and issubclass(found, nn.Module)) or found.__name__ in _REFUSED_MODULES:
        return False
    return defined_in.startswith("torch.nn.modules." if home == "torch.nn" else home + ".")


def safe_arguments(cls: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a network, without any that would fetch weights or trade memory for recomputation.

    The weights come from the model's own file, so ``pretrained`` may be left out; ``use_checkpoint`` changes no
    value, but hides the layers' activations from hooks.
    """
    chosen = dict(arguments)
    accepted = inspect.signature(cls).parameters
    for old, new in _FORMER_NAMES.get(getattr(cls, "__name__", ""), {}).items():
        if old in chosen and old not in accepted:
            value = chosen.pop(old)
            if new:
                chosen.setdefault(new, value)
    for name in _DOWNLOADING:
        chosen.pop(name, None)
    if getattr(cls, "__name__", "") == "TorchVisionFCModel":
        chosen.pop("weights", None)  # would be fetched
    if "device" in accepted:
        chosen["device"] = "cpu"  # where every network is built
    for name in ("pretrained", "use_checkpoint"):
        if name in accepted:
            chosen[name] = False
    return chosen


def instantiate(cls: Any, arguments: Mapping[str, Any], where: str, positional: Sequence[Any] = ()) -> nn.Module:
    """The network built from its arguments. Raises ModelError with the reason when they do not fit."""
    if cls.__name__ == "TorchVisionFCModel":
        _check_torchvision(arguments, where)
    try:
        return cls(*positional, **safe_arguments(cls, arguments))
    except (TrustError, ModelError):
        raise
    except ImportError as error:
        raise ModelError(
            f"{cls.__name__} at {where} needs a package that is not installed: {error}.",
            "Install it with pip into the environment of the engine.",
        ) from error
    except Exception as error:
        raise ModelError(
            f"{cls.__name__} at {where} cannot be built: {type(error).__name__}: {str(error)[:300]}.",
            "Check the network's arguments in the model's configuration.",
        ) from error


_TORCHVISION_NETWORKS = re.compile(
    r"(resnet|resnext|wide_resnet|densenet|vgg|inception_v|efficientnet_|mobilenet_v|shufflenet_v|squeezenet|"
    r"regnet_|convnext_|mnasnet|googlenet|alexnet|swin_|vit_)\w*$"
)


def _check_torchvision(arguments: Mapping[str, Any], where: str) -> None:
    """TorchVisionFCModel builds a network of torchvision by its name."""
    name = arguments.get("model_name", "resnet18")
    if not isinstance(name, str) or not _TORCHVISION_NETWORKS.match(name):
        raise refuse_target(f"torchvision.models.{name}", where)
    if importlib.util.find_spec("torchvision") is None:
        raise ModelError(
            f"TorchVisionFCModel ({name}) at {where} needs the package torchvision, which is not installed.",
            "Install the torchvision that fits this PyTorch: pip install torchvision.",
        )


def _shown(target: Any) -> str:
    text = str(target)
    return repr(text if len(text) <= 100 else text[:97] + "...")
