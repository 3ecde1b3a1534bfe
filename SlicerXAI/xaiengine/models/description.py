"""A small JSON file beside weights that says what they are: ``network.json`` beside ``network.pth``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..core.errors import ModelError, TrustError
from .assembly import with_layers
from .construction import build_network
from .explained_model import Capabilities, ExplainedModel, Inferer, ModelTask
from .files import SingleFile
from .fitting import load_weights
from .formats.metadata import task_of_network
from .formats.weights import read_state
from .network_facts import input_channels, output_channels, spatial_dims
from .refusals import refuse_unexplainable
from .settings import ExplanationSettings, usual_activation
from .transforms import Preprocessing, preprocessing_of
from .trust.expressions import TRUST_REMEDY
from .trust.safe_config import Component, SafeConfig, parse_config
from .understanding import prediction_shape, understood

if TYPE_CHECKING:
    from torch import nn


class ModelDescription(ExplanationSettings):
    """Settings of a model whose file holds no more than weights or a graph.

    ``network`` names an allowed network and its arguments as a MONAI ``_target_`` entry; ``weights`` is the file
    with its state dict, beside the description. ``preprocessing`` lists MONAI transforms as ``_target_`` entries.
    ``input_size`` is the spatial size of the network's input where it is fixed. ``code`` names a Python file beside
    the description that defines the network's class; it is run for trusted models only.
    """

    weights: str = ""
    code: str = ""
    network: dict[str, Any] | None = None
    preprocessing: list[dict[str, Any]] = Field(default_factory=list)
    spatial_dims: int | None = Field(None, ge=1, le=3)
    in_channels: int | None = Field(None, ge=1, le=1024)
    input_size: list[int] = Field(default_factory=list, max_length=3)

    def transforms(self) -> Preprocessing:
        """The preprocessing, read with the same restrictions as a bundle's."""
        config = SafeConfig({"preprocessing": self.preprocessing})
        return preprocessing_of(config.resolve("preprocessing"))


def description_of(path: Path) -> ModelDescription:
    """The description beside a model's file (``net.json`` for ``net.pth``), or an empty one."""
    for candidate in (path.with_suffix(".json"), path.with_name(path.name + ".json")):
        if candidate.is_file() and candidate != path:
            return read_description(candidate)
    return ModelDescription()


def read_description(path: Path) -> ModelDescription:
    """A description by its own path. Raises ModelError naming every entry that does not fit."""
    text = SingleFile(path).text(path.name)
    if not isinstance(parse_config(text, path.name), Mapping):
        raise ModelError(f"{path.name} is not a mapping.", "Write it with: xaiengine describe-model")
    return ModelDescription.parse(text, path.name)


def load_described(path: Path, trust: bool = False) -> ExplainedModel:
    """A model from its description and state dict; ``path`` is either of the two files.

    ``trust`` reads a checkpoint that holds more than weights.

    Raises:
        ModelError: there is no description, it names no network, or the weights do not fit.
        TrustError: the network is not on the list of allowed ones, or the weights hold code.
    """
    described = path if path.suffix.lower() == ".json" else None
    description = read_description(path) if described else description_of(path)
    if description.code:
        raise TrustError(
            f"{path.name} needs the code of {description.code} to be run, which defines its network.", TRUST_REMEDY
        )
    if description.network is None:
        raise ModelError(
            f"{path.name} holds weights alone; which network they belong to is not known.",
            f"Describe it: xaiengine describe-model {path.name} --network UNet --argument spatial_dims=3 ...",
        )
    weights = weights_path(described, description) if described else path
    component = SafeConfig({"network": description.network}).resolve("network")
    if isinstance(component, Component):
        refuse_unexplainable(component.target, description.task or "")
    else:
        raise ModelError(f"The entry network of {path.name} is not a _target_ entry.", "Name a network of MONAI.")
    files = SingleFile(weights)
    network = build_network(component, files.size(weights.name))
    notes = load_weights(network, read_state(files, weights.name, trust), weights.name)
    found = replace_known(description, component, network)
    return assemble_described(path, files, found, network, "state dict", notes=notes, kind=component.short_name)


def replace_known(description: ModelDescription, component: Component, network: nn.Module) -> ModelDescription:
    """The description with what the network's own arguments say filled in."""
    return description.model_copy(
        update={
            "spatial_dims": description.spatial_dims or spatial_dims(component.arguments, network),
            "in_channels": description.in_channels or input_channels(component.arguments, network) or 1,
            "labels": description.labels or _numbered(output_channels(component.arguments, network)),
        }
    )


def _numbered(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)] if count > 1 else []


def weights_path(path: Path, description: ModelDescription) -> Path:
    """The weights beside a description. Raises ModelError when they are missing or lie elsewhere."""
    name = description.weights
    if name and (Path(name).name != name or name in (".", "..")):
        raise ModelError(f"{path.name} names weights outside its folder: {name}.", "Put the files side by side.")
    candidates = [path.with_name(name)] if name else [path.with_suffix(end) for end in (".safetensors", ".pth", ".pt")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ModelError(
        f"The weights {candidates[0].name} of {path.name} are missing.", "Put them beside the description."
    )


def assemble_described(
    path: Path,
    files: SingleFile,
    description: ModelDescription,
    network: nn.Module,
    format: str,
    *,
    capabilities: Capabilities | None = None,
    notes: tuple[str, ...] = (),
    kind: str = "",
) -> ExplainedModel:
    """An explained model of a network and its description; what is not described is found by running it once."""
    dims = description.spatial_dims or spatial_dims({}, network)
    task: ModelTask = description.task or task_of_network(kind or type(network).__name__)
    inferer = description.inference.inferer() if description.inference else Inferer()
    described = path.with_suffix(".json")
    model = ExplainedModel(
        name=description.name or path.stem,
        network=network,
        task=task,
        labels=tuple(description.labels),
        digest=digest_with(files, described),
        source=path,
        format=format,
        spatial_dims=dims,
        in_channels=description.in_channels or input_channels({}, network) or 1,
        channel_names=tuple(description.channel_names),
        preprocessing=description.transforms(),
        inferer=inferer,
        capabilities=capabilities or Capabilities(),
        defaults=description.defaults,
        target=description.target,
        notes=(*description.notes, *notes),
        reference=description.reference,
        axis_order=description.axis_order or "",
        grading=description.grading,
    )
    model = with_layers(model, description.layers, description.input_size)
    if not model.labels or description.task is None:
        model = _completed(model, description)
    return understood(
        replace(model, activation=usual_activation(model.task, len(model.labels))),
        activation=description.activation,
        output=description.output,
        passes=description.passes,
        probe=capabilities is None,
    )


def _completed(model: ExplainedModel, description: ModelDescription) -> ExplainedModel:
    """Task and labels from what the network gives for its example input."""
    shape = prediction_shape(model, len(description.labels), description.output)
    count = shape[1] if len(shape) > 1 else 1
    is_map = len(shape) > 2 and max(shape[2:]) > 1
    task = description.task or ("segmentation" if is_map else model.task)
    if task == "segmentation" and not is_map:
        task = "classification"
    labels = model.labels or tuple(_numbered(count)) or ("output",)
    return replace(model, task=task, labels=labels)


def digest_with(files: SingleFile, description: Path) -> str:
    """SHA-256 over the model's file and its description, if there is one."""
    import hashlib

    total = hashlib.sha256(files.digest(files.names).encode())
    if description.is_file():
        total.update(description.read_bytes())
    return total.hexdigest()
