"""Loads nnU-Net v2 trainings: the network from its plans, all folds averaged, nnU-Net's own preprocessing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, TrustError
from ..assembly import with_layers
from ..construction import limited
from ..explained_model import ExplainedModel, Inferer
from ..files import ModelFiles, SubFiles, open_model
from ..fitting import load_weights
from ..settings import NNUNET_SETTINGS_FILE, ExplanationSettings
from ..trust.allowed import find_network_class
from ..trust.expressions import TRUST_REMEDY
from ..understanding import understood
from .averaging import AveragedNetwork, MirroredNetwork
from .nnunet_plans import REMEDY, Plan, parse_json, read_channels, read_labels, read_plan
from .nnunet_preparation import NnunetPreprocessing
from .weights import read_checkpoint, tensors_of

if TYPE_CHECKING:
    from torch import nn

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
_FOLD = re.compile(r"fold_(\d+|all)/([^/]+\.pth)$")


_TRAINING = re.compile(r"(?:(.*)/)?fold_(?:\d+|all)/checkpoint_\w+\.pth$")


def nnunet_training(files: ModelFiles) -> str | None:
    """The folder (relative, "" for the files' own) of the nnU-Net v2 training that these files hold; None without one.

    A dataset's folder (``Dataset001_X``) and the archive of nnU-Net's export have it one or two levels below.

    Raises:
        ModelError: several trainings are there, or one lacks plans.json or dataset.json.
    """
    found = sorted({match[1] or "" for name in files.names if (match := _TRAINING.match(name))})
    parents = {name.rpartition("/")[0] for name in files.names if name.endswith("plans.json")}
    found = found or sorted(
        parent for parent in parents if (f"{parent}/dataset.json" if parent else "dataset.json") in files
    )
    if not found:
        return None
    if len(found) > 1 and "" not in found:
        listed = "; ".join(found[:8]) + ("; ..." if len(found) > 8 else "")
        raise ModelError(f"{files.name} holds {len(found)} nnU-Net trainings: {listed}.", "Give the folder of one.")
    folder = "" if "" in found else found[0]
    missing = [
        name for name in ("plans.json", "dataset.json") if (f"{folder}/{name}" if folder else name) not in files
    ]
    if missing:
        raise ModelError(
            f"The nnU-Net training {folder or files.name} lacks {' and '.join(missing)}.",
            "Copy it from the training's folder, where nnU-Net wrote it beside the folds.",
        )
    return folder


def nnunet_folder(path: Path) -> tuple[Path, str]:
    """The training's folder and the one fold asked for ('' for all): ``fold_x`` may be given by itself."""
    if path.is_dir() and re.fullmatch(r"fold_(\d+|all)", path.name) and (path.parent / "plans.json").is_file():
        return path.parent, path.name
    if path.is_file() and is_checkpoint_of_fold(path):
        return path.parent.parent, path.parent.name
    return path, ""


def is_checkpoint_of_fold(path: Path) -> bool:
    """Whether a file lies in a fold of a training, where nnU-Net's plans are needed beside the folds."""
    return bool(_TRAINING.search(path.as_posix())) and bool(re.fullmatch(r"fold_(\d+|all)", path.parent.name))


def load_nnunet(path: Path, trust: bool = False, training: str = "") -> ExplainedModel:
    """The model of an nnU-Net v2 results folder (or .zip), or of one of its folds.

    ``training`` is the folder, relative to ``path``, where its plans lie.

    ``explanation.json`` beside ``plans.json`` may choose ``folds``, ``mirroring`` and layers.

    Raises:
        ModelError: files are missing, the configuration is a cascade, or a part is not reproduced here.
        TrustError: a checkpoint holds more than weights and plain values.
    """
    folder, fold = nnunet_folder(path)
    files = open_model(folder, trust)
    if not training:
        nnunet_training(files)  # says what is missing
    else:
        files, folder = SubFiles(files, training), folder / training
    plans = parse_json(files.text("plans.json"), "plans.json")
    dataset = parse_json(files.text("dataset.json"), "dataset.json")
    settings = ExplanationSettings()
    if NNUNET_SETTINGS_FILE in files:
        settings = ExplanationSettings.parse(files.text(NNUNET_SETTINGS_FILE), NNUNET_SETTINGS_FILE)
    names = _checkpoints(files, [fold] if fold else [f"fold_{number}" for number in settings.folds])
    channels, labels = read_channels(dataset), read_labels(dataset)

    networks: list[nn.Module] = []
    plan: Plan | None = None
    axes: tuple[int, ...] = ()
    notes: list[str] = []
    for name in names:
        checkpoint = read_checkpoint(files.read(name), name, trust=trust)
        if plan is None:
            plan = read_plan(plans, _configuration(checkpoint, plans, folder), len(channels))
            axes = tuple(int(axis) for axis in checkpoint.get("inference_allowed_mirroring_axes") or ())
            notes += _trainer_notes(checkpoint)
        with limited(files.size(name)):
            network = _network(plan, len(channels), len(labels.names))
        notes += load_weights(network, tensors_of(checkpoint, name), name)
        networks.append(network)
    assert plan is not None  # there is at least one checkpoint
    network = networks[0] if len(networks) == 1 else AveragedNetwork(networks)
    if settings.mirroring and axes:
        network = MirroredNetwork(network, axes)
    elif axes:
        notes.append("nnU-Net's test-time mirroring is off; it multiplies the passes by up to 8 (explanation.json).")
    network.eval()
    model = ExplainedModel(
        name=settings.name or str(plans.get("dataset_name") or folder.name),
        network=network,
        task="segmentation",
        labels=tuple(settings.labels) or labels.names,
        digest=files.digest(["plans.json", "dataset.json", *names, *_present(files, NNUNET_SETTINGS_FILE)]),
        source=path,
        format=f"nnU-Net v2, {plan.name}, {len(names)} fold{'s' if len(names) > 1 else ''}",
        spatial_dims=plan.dims,
        in_channels=len(channels),
        channel_names=channels,
        activation="sigmoid" if labels.regions else "softmax",
        preprocessing=NnunetPreprocessing(plan),
        inferer=Inferer("sliding_window", "axial", plan.patch, 0.5, "gaussian", scheme="nnunet"),
        defaults=settings.defaults,
        target=settings.target or (labels.names[0] if labels.regions else labels.names[min(1, len(labels.names) - 1)]),
        notes=(*([f"The training {training} is used."] if training else []), *dict.fromkeys(notes)),
        files=files,
        reference=settings.reference,
        grading=settings.grading,
    )
    return understood(with_layers(model, settings.layers), output=settings.output)


def _present(files: ModelFiles, name: str) -> list[str]:
    return [name] if name in files else []


def _checkpoints(files: ModelFiles, folds: list[str]) -> list[str]:
    """One checkpoint for each fold: the final one, else the best one."""
    found: dict[str, list[str]] = {}
    for name in files.names:
        if match := _FOLD.match(name):
            found.setdefault(f"fold_{match[1]}", []).append(name)
    available = [fold for fold, names in found.items() if any(f"{fold}/{item}" in names for item in CHECKPOINTS)]
    wanted = folds or [fold for fold in available if fold != "fold_all"] or available
    missing = [fold for fold in wanted if fold not in available]
    if missing or not wanted:
        raise ModelError(
            f"{files.name} has no checkpoint for {', '.join(missing) or 'any fold'} ({' or '.join(CHECKPOINTS)}).",
            REMEDY if not available else f"It has {', '.join(sorted(available))}.",
        )
    return [next(f"{fold}/{item}" for item in CHECKPOINTS if f"{fold}/{item}" in files) for fold in sorted(wanted)]


def _configuration(checkpoint: Any, plans: Any, folder: Path) -> str:
    """The configuration's name: from the checkpoint, else from ``Trainer__Plans__3d_fullres``, else the only one."""
    arguments = checkpoint.get("init_args") if isinstance(checkpoint, dict) else None
    if isinstance(arguments, dict) and arguments.get("configuration"):
        return str(arguments["configuration"])
    parts = folder.name.split("__")
    known = list(plans.get("configurations") or {})
    if len(parts) == 3 and parts[2] in known:
        return parts[2]
    if len(known) == 1:
        return known[0]
    raise ModelError(f"Which of the configurations {', '.join(known)} was trained is not said anywhere.", REMEDY)


def _trainer_notes(checkpoint: Any) -> list[str]:
    trainer = str(checkpoint.get("trainer_name", "nnUNetTrainer"))
    if trainer == "nnUNetTrainer" or re.fullmatch(r"nnUNetTrainer_\d+epochs?", trainer):
        return []
    return [f"It was trained by {trainer}; its network is taken from the plans, as nnU-Net's own trainer does."]


def _network(plan: Plan, channels: int, outputs: int) -> nn.Module:
    cls = _network_class(plan.network)
    arguments = dict(plan.arguments)
    for name in plan.imports:
        if arguments.get(name) is not None:
            arguments[name] = _layer_class(str(arguments[name]))
    try:
        return cls(input_channels=channels, num_classes=outputs, deep_supervision=False, **arguments)
    except (TrustError, ModelError):
        raise
    except Exception as error:
        raise ModelError(f"The network of plans.json cannot be built: {error}.", "Copy plans.json again.") from error


def _network_class(name: str) -> Any:
    short = name.rpartition(".")[2]
    if short not in NETWORKS or not (short == name or name.startswith("dynamic_network_architectures.")):
        raise TrustError(
            f"plans.json asks for the network {name[:100]!r}; {', '.join(NETWORKS)} are known.", TRUST_REMEDY
        )
    try:
        from dynamic_network_architectures.architectures import unet
    except ImportError as error:
        raise ModelError(
            "nnU-Net models need the package dynamic-network-architectures, which is not installed.",
            "Install it with: pip install --no-deps dynamic-network-architectures",
        ) from error
    return vars(unet)[short]


def _layer_class(name: str) -> Any:
    found = find_network_class(name) if name.startswith("torch.nn.") else None
    if found is None:
        raise TrustError(f"plans.json asks for {name[:100]!r}, which is no layer of torch.nn.", TRUST_REMEDY)
    return found
