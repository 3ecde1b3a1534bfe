"""Loads MONAI bundles (folder or .zip, Model Zoo layout) without running what they hold."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, TrustError
from ..assembly import with_layers
from ..construction import build_network
from ..explained_model import ExplainedModel, Inferer, ModelTask
from ..files import ModelFiles, open_model
from ..fitting import load_weights
from ..inference import inferer_of
from ..network_facts import input_channels, output_channels, spatial_dims
from ..refusals import refuse_unexplainable
from ..settings import SETTINGS_FILE, ExplanationSettings, usual_activation
from ..transforms import Preprocessing, preprocessing_of
from ..trust.expressions import TRUST_REMEDY
from ..trust.malicious_config import check_configuration, check_logging, is_cleanup
from ..trust.safe_config import Component, SafeConfig, merged, parse_config
from ..understanding import numbered_labels, understood
from .auto3dseg import auto3dseg_inferer, auto3dseg_labels, auto3dseg_preprocessing, is_auto3dseg
from .metadata import METADATA_FILE, Metadata, read_metadata, task_of_network
from .weights import read_checkpoint, read_state

if TYPE_CHECKING:
    from torch import nn

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")
CONFIG_ORDER = ("inference", "evaluate", "eval", "predict", "test", "train", "hyper_parameters", "network")
NETWORK_ENTRIES = ("network_def", "network", "net", "model", "model_def")
PREPROCESSING_ENTRIES = (
    "preprocessing",
    "preprocess",
    "pre_transforms",
    "inference_transforms",
    "transforms_infer",
    "test_transforms",
    "validate::preprocessing",
    "evaluate::preprocessing",
    "validate::deterministic_transforms",
    "val_transforms",
)
INFERER_ENTRIES = ("inferer", "validate::inferer", "evaluate::inferer", "val_inferer")
WEIGHT_ORDER = ("model.safetensors", "model.pt", "model.pth", "best_metric_model.pt", "model_final.pt", "model.ckpt")
_WRAPPED = re.compile(r"\$@(\w+)(?:\.(?:to|eval|cpu|cuda|float)\([^()]*\))+")


def is_bundle(files: ModelFiles) -> bool:
    """Whether these files are laid out as a MONAI bundle."""
    return any(name.startswith("configs/") and name.endswith(CONFIG_SUFFIXES) for name in files.names)


def load_bundle(path: Path, trust: bool = False) -> ExplainedModel:
    """The model of a bundle, without running its code; ``trust`` reads checkpoints that hold more than weights.

    Raises:
        TrustError: it cannot be used without running code of the bundle.
        ModelError: something is missing or does not fit.
    """
    files = open_model(path, trust)
    contents, unused = _read_configs(files)
    config = _config(files, contents)
    refuse_unexplainable(_network_name(config), _described_task(files))
    component = _network_component(config)
    weights = weights_file(files)
    network = build_network(component, files.size(weights))
    notes = (*load_weights(network, read_state(files, weights, trust), weights), *unused)
    return assemble_parts(
        path,
        files,
        contents,
        network,
        component.arguments,
        weights,
        notes,
        preprocessing=_preprocessing(config),
        inferer=_inferer(config),
        class_names=lambda outputs: auto3dseg_labels(config, outputs) if is_auto3dseg(config) else (),
        kind=component.short_name,
    )


def _read_configs(files: ModelFiles) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Every configuration file of the bundle, parsed and looked through; and notes on files that are not used.

    What would run a program or delete files is refused where it is needed. In a file that is none of inference (the
    usual ``evaluate`` and ``train``) it is never evaluated, and is only mentioned.
    """
    contents = {}
    for name in files.names:
        if not name.startswith("configs/"):
            continue
        if name.endswith(CONFIG_SUFFIXES):
            contents[name] = parse_config(files.text(name), name)
        elif name.endswith((".conf", ".ini", ".cfg")):
            check_logging(files.text(name), name)
    used = {METADATA_FILE, SETTINGS_FILE, *used_files(contents)}
    notes = []
    for name, content in contents.items():
        try:
            check_configuration(content, name)
        except TrustError as error:
            if name in used or not is_cleanup(content):
                raise
            notes.append(f"{error.message} The engine never reads this entry.")
    return contents, tuple(notes)


def chosen_content(files: ModelFiles, contents: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of inference: the file of that name, else the most likely other one.

    Raises:
        ModelError: there is none.
    """
    chosen = used_files(contents)
    if not chosen:
        raise ModelError(
            f"{files.name} has no configuration of its network (configs/inference.json).",
            "Complete the bundle, or describe the network with: xaiengine describe-model.",
        )
    content: dict[str, Any] = {}
    for name in reversed(chosen):
        content = merged(content, contents[name])
    content.setdefault("bundle_root", ".")
    return content


def used_files(contents: Mapping[str, Any]) -> list[str]:
    """The files whose entries are read, the most telling one first; Auto3DSeg spreads its entries over several."""
    names = [name for name in contents if name not in (METADATA_FILE, SETTINGS_FILE)]
    names = [name for name in names if isinstance(contents[name], Mapping)]

    def rank(name: str) -> int:
        stem = PurePosixPath(name).stem
        if stem.endswith("_trt"):
            return len(CONFIG_ORDER) + 1
        return next((number for number, word in enumerate(CONFIG_ORDER) if stem.startswith(word)), len(CONFIG_ORDER))

    ordered = sorted(names, key=lambda name: (rank(name), name))
    if ordered and any(entry in contents[ordered[0]] for entry in NETWORK_ENTRIES):
        return ordered[:1]
    return ordered


def _described_task(files: ModelFiles) -> str:
    if SETTINGS_FILE not in files:
        return ""
    return str(ExplanationSettings.parse(files.text(SETTINGS_FILE), SETTINGS_FILE).task or "")


def _network_name(config: SafeConfig) -> str:
    """The class of the network as the configuration names it, without building or allowing it."""
    for entry in NETWORK_ENTRIES:
        if entry in config:
            raw = config.raw(entry)
            wrapped = _WRAPPED.fullmatch(raw.strip()) if isinstance(raw, str) else None
            raw = config.raw(wrapped[1]) if wrapped and wrapped[1] in config else raw
            return str(raw.get("_target_", "")) if isinstance(raw, Mapping) else ""
    return ""


def _config(files: ModelFiles, contents: Mapping[str, Any]) -> SafeConfig:
    content = chosen_content(files, contents)

    def read_file(name: str) -> Any:
        for candidate in (name, f"configs/{name}"):
            inside = posixpath.normpath(candidate.replace("\\", "/"))
            if inside.startswith(("..", "/")) or ":" in inside:
                raise TrustError(f"The configuration asks for {name}, outside the model.", TRUST_REMEDY)
            if inside in files:
                return parse_config(files.text(inside), inside)
        raise ModelError(f"The configuration asks for {name}, which {files.name} does not have.", "Complete it.")

    def read_tensors(name: str) -> Any:
        inside = posixpath.normpath(name.replace("\\", "/"))
        if inside.startswith(("..", "/")) or ":" in inside:
            raise TrustError(f"The configuration calls torch.load for {name}, outside the model.", TRUST_REMEDY)
        return read_checkpoint(files.read(inside), inside)

    return SafeConfig(content, read_file, read_tensors)


def _network_component(config: SafeConfig) -> Component:
    for entry in NETWORK_ENTRIES:
        if entry not in config:
            continue
        raw = config.raw(entry)
        wrapped = _WRAPPED.fullmatch(raw.strip()) if isinstance(raw, str) else None
        value = config.resolve(wrapped[1] if wrapped else entry)
        if isinstance(value, Component):
            return value
        raise ModelError(f"The entry {entry} of the configuration is not a _target_ entry.", "Correct it.")
    raise ModelError(
        "The configuration has no network_def.",
        "Complete the bundle, or describe the network: xaiengine describe-model.",
    )


def weights_file(files: ModelFiles) -> str:
    """The name of the weights: the usual ones first, else the only one there is. Raises ModelError for none."""
    found = files.first(f"models/{name}" for name in WEIGHT_ORDER)
    if found:
        return found
    suffixes = (".safetensors", ".pt", ".pth", ".ckpt")
    others = [name for name in files.names if name.startswith(("models/", "model/")) and name.endswith(suffixes)]
    others = [name for name in others if not _is_statistics(name)] or [
        name for name in files.names if name.endswith(suffixes) and not _is_statistics(name)
    ]
    if len(others) == 1:
        return others[0]
    if not others:
        raise ModelError(
            f"{files.name} has no weights (models/model.safetensors or models/model.pt).",
            "Put the file of the trained weights there.",
        )
    best = [name for name in others if "best" in name]
    if len(best) == 1:
        return best[0]
    raise ModelError(
        f"{files.name} has several files of weights: {', '.join(others[:6])}.", "Name the one to use models/model.pt."
    )


def _is_statistics(name: str) -> bool:
    return "reference" in name or name.endswith(".ts")


def assemble_parts(
    path: Path,
    files: ModelFiles,
    contents: Mapping[str, Any],
    network: nn.Module,
    arguments: Mapping[str, Any],
    weights: str,
    notes: tuple[str, ...],
    preprocessing: Any,
    inferer: Inferer | None,
    class_names: Callable[[int], tuple[str, ...]] = lambda outputs: (),
    kind: str = "",
) -> ExplainedModel:
    """An explained model from a network with its weights and what the bundle's other files say.

    ``arguments`` are those of the network; ``class_names`` gives labels for a number of outputs, or none.
    """
    settings = ExplanationSettings.parse(files.text(SETTINGS_FILE), SETTINGS_FILE) if SETTINGS_FILE in files else None
    settings = settings or ExplanationSettings()
    metadata = read_metadata(files.text(METADATA_FILE)) if METADATA_FILE in files else Metadata()
    outputs = output_channels(arguments, network) or metadata.outputs or len(settings.labels)
    task: ModelTask = settings.task or metadata.task or task_of_network(kind or type(network).__name__)
    metadata = replace(metadata, labels=metadata.labels or class_names(outputs))
    labels = _labels(settings, metadata, task, outputs)
    chosen = settings.inference.inferer() if settings.inference else inferer
    model = ExplainedModel(
        name=settings.name or metadata.name or Path(files.name).stem,
        network=network,
        task=task,
        labels=labels,
        digest=files.digest([weights, *contents]),
        source=path,
        format="MONAI bundle",
        spatial_dims=spatial_dims(arguments, network),
        in_channels=input_channels(arguments, network) or metadata.in_channels or 1,
        channel_names=tuple(settings.channel_names)
        or getattr(preprocessing, "channel_names", ())
        or metadata.channel_names,
        activation=settings.activation or _activation(contents, task, len(labels)),
        preprocessing=preprocessing,
        inferer=chosen or Inferer(),
        defaults=settings.defaults,
        target=settings.target,
        notes=(*settings.notes, *notes),
        files=files,
        reference=settings.reference,
        axis_order=settings.axis_order or "",
        grading=settings.grading,
    )
    model = with_layers(model, settings.layers, _input_size(arguments, model.spatial_dims))
    is_named = labels != numbered_labels(outputs, task)
    return understood(
        model,
        activation=settings.activation,
        output=settings.output,
        passes=settings.passes,
        named=is_named,
    )


def _input_size(arguments: Mapping[str, Any], dims: int) -> tuple[int, ...]:
    """The input size that transformers and autoencoders are built for."""
    size = arguments.get("img_size", arguments.get("in_shape"))
    if isinstance(size, int):
        return (size,) * dims
    sizes = tuple(size) if isinstance(size, (list, tuple)) else ()
    return sizes[-dims:] if all(isinstance(item, int) for item in sizes) else ()


def _first(config: SafeConfig, entries: tuple[str, ...]) -> Any:
    for entry in entries:
        if entry in config:
            return config.resolve(entry)
    return None


def _inferer(config: SafeConfig) -> Inferer | None:
    if is_auto3dseg(config):
        return auto3dseg_inferer(config)
    return inferer_of(_first(config, INFERER_ENTRIES))


def _preprocessing(config: SafeConfig) -> Preprocessing:
    if is_auto3dseg(config):
        return auto3dseg_preprocessing(config)
    return preprocessing_of(_first(config, PREPROCESSING_ENTRIES))


def _labels(settings: ExplanationSettings, metadata: Metadata, task: ModelTask, outputs: int) -> tuple[str, ...]:
    for labels in (tuple(settings.labels), metadata.labels):
        if labels and outputs and len(labels) != outputs:
            if labels is metadata.labels:
                continue  # Model Zoo metadata often omits the background
            raise ModelError(
                f"{SETTINGS_FILE} names {len(labels)} labels, the network has {outputs} outputs.", "Name every output."
            )
        if labels:
            return labels
    return numbered_labels(outputs, task)


def _activation(contents: Mapping[str, Any], task: ModelTask, outputs: int):
    """Sigmoid where the (otherwise unused) postprocessing says so; the task's usual one else."""
    if any(isinstance(value, Mapping) and value.get("sigmoid") is True for value in contents.values()):
        return "sigmoid"  # Auto3DSeg
    pending: list[Any] = [value for name, value in contents.items() if "inference" in name or "evaluate" in name]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            target = str(value.get("_target_", "")).rpartition(".")[2]
            if target in ("Activationsd", "Activations", "ActivationsD"):
                return "sigmoid" if value.get("sigmoid") is True else "softmax"
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return usual_activation(task, outputs)
