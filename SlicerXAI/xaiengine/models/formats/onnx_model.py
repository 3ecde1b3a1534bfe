"""Loads ONNX models by converting them to PyTorch with onnx2torch (an optional package)."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...core.errors import ModelError, TrustError
from ..description import ModelDescription, assemble_described, description_of, digest_with
from ..explained_model import ExplainedModel
from ..files import SingleFile, read_regular
from ..probing import abilities
from ..trust.expressions import TRUST_REMEDY
from ..trust.onnx_graph import check_graph, constants

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_ONNX = 2 * 2**30
"""Protocol buffers hold no more."""

KNOWN_VERSIONS = (17, 16, 13)
"""Sets of operators that onnx2torch knows nearly whole, the newest first."""

MOST_CHANNELS = 4


class ChannelsLast(nn.Module):
    """A network whose input has its channels at the end (NHWC, as Keras models), fed with channels first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> Any:
        return self.network(batch.movedim(1, -1))


def load_onnx(path: Path, trust: bool = False) -> ExplainedModel:
    """An ONNX model as PyTorch modules, with layers.

    Raises:
        TrustError: it refers to files outside, or holds custom operators or tensors out of proportion.
        ModelError: a package is missing, an operator is not supported, or its input is no image.
    """
    proto, files = _read(path, trust)
    name, sizes = _input(proto, path.name)
    network = _converted(proto, path.name)
    description = description_of(path)
    last = len(sizes) in (4, 5) and 0 < sizes[-1] <= MOST_CHANNELS < sizes[1]
    if last:
        network = ChannelsLast(network)
        sizes = [sizes[0], sizes[-1], *sizes[1:-1]]
    network.eval()
    shape = _example(sizes, description)
    capabilities = abilities(digest_with(files, path.with_suffix(".json")), network, shape)
    updated = {"spatial_dims": len(shape) - 2, "in_channels": shape[1]}
    if not description.input_size and not resized_to_described(description) and min(sizes[2:]) > 0:
        updated["input_size"] = list(shape[2:])
    notes = []
    if last:
        notes.append("Its graph takes channels last; they are put there.")
    return assemble_described(
        path,
        files,
        description.model_copy(update=updated),
        network,
        "ONNX",
        capabilities=capabilities,
        notes=tuple(notes),
    )


def resized_to_described(description: ModelDescription) -> bool:
    """Whether the description's preprocessing brings scans to a size of its own."""
    return any("Resize" in str(step.get("_target_", "")) for step in description.preprocessing)


def _read(path: Path, trust: bool) -> tuple[ModelProto, SingleFile]:
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            "ONNX models need the packages onnx and onnx2torch, which are not installed.",
            "Install them with: pip install onnx && pip install --no-deps onnx2torch",
        ) from error
    content = SingleFile(path).read(path.name, LARGEST_ONNX)
    try:
        proto = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own errors
        raise ModelError(f"{path.name} is not a readable ONNX file: {error}.", "Export it again.") from error
    files = FileWithData(path, _data_files(proto, path))
    _fill_all(_external(proto), files)
    if not trust:
        check_graph(proto, path.name)
    return proto, files


class FileWithData(SingleFile):
    """An ONNX file with the files of its weights beside it, as PyTorch's exporter writes large models."""

    def __init__(self, path: Path, data: Sequence[str]) -> None:
        super().__init__(path)
        self.names = (path.name, *data)

    def size(self, name: str) -> int:
        return self.path.with_name(name).stat().st_size

    def _read(self, name: str, limit: int) -> bytes:
        return read_regular(self.path.with_name(name), limit)


def _external(proto: ModelProto) -> list[Any]:
    tensors = [*proto.graph.initializer, *constants(proto.graph)]
    return [tensor for tensor in tensors if tensor.data_location == 1 or tensor.external_data]


def _data_files(proto: ModelProto, path: Path) -> list[str]:
    """Names of the files beside the model that hold its weights.

    Raises:
        TrustError: a weight lies in another folder.
        ModelError: such a file is missing.
    """
    names = []
    for tensor in _external(proto):
        place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if not place or Path(place).name != place or "\\" in place or ":" in place or place in (".", ".."):
            raise TrustError(
                f"{path.name} keeps the weight {tensor.name} in {place[:100]!r}, outside its folder.",
                "Save the model as one file, or with its weights beside it.",
            )
        if not path.with_name(place).is_file():
            raise ModelError(f"The weights {place} of {path.name} are missing.", "Copy that file beside the model.")
        if path.with_name(place).is_symlink() and not path.is_symlink():
            raise TrustError(f"The weights {place} of {path.name} are a link.", "Copy the file itself.")
        names.append(place)
    return list(dict.fromkeys(names))


def _fill_all(tensors: Sequence[Any], files: SingleFile) -> None:
    """Put weights that lie in files beside the model into the model; each file is read once.

    Raises:
        ModelError: a weight lies beyond the end of its file, or together they are larger than a model of one file.
    """
    contents: dict[str, bytes] = {}
    total = 0
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        place = entries["location"]
        if place not in contents:
            contents[place] = files.read(place)
        part = _part(entries, contents[place], tensor.name)
        total += len(part)
        if total > 2 * sum(map(len, contents.values())):  # weights may be shared, not copied without end
            raise TrustError(f"The weights in {place} are used over and over.", TRUST_REMEDY)
        tensor.raw_data = part
        del tensor.external_data[:]
        tensor.data_location = 0


def _part(entries: Mapping[str, str], content: bytes, name: str) -> bytes:
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        offset, length = -1, -1
    length = len(content) - offset if length < 0 else length
    if offset < 0 or length < 0 or offset + length > len(content):
        raise ModelError(f"The weight {name} lies beyond the end of {entries['location']}.", "Export it again.")
    return content[offset : offset + length]


def _input(proto: ModelProto, name: str) -> tuple[str, list[int]]:
    """The image input and its sizes, 0 where they vary."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in weights]
    sizes = [[int(part.dim_value) for part in item.type.tensor_type.shape.dim] for item in inputs]
    if len(inputs) != 1 or not 3 <= len(sizes[0]) <= 5:
        raise ModelError(
            f"{name} takes {len(inputs)} inputs of {' and '.join(map(str, sizes))}; one image was expected.",
            "Export a model of one image.",
        )
    return inputs[0].name, sizes[0]


def _example(sizes: list[int], description: ModelDescription) -> tuple[int, ...]:
    from ..layer_survey import DEFAULT_SIZES

    dims = len(sizes) - 2
    given = list(description.input_size) or [0] * dims
    spatial = [asked or size or DEFAULT_SIZES[dims][0] for asked, size in zip(given, sizes[2:])]
    return (1, sizes[1] or description.in_channels or 1, *spatial)


def import_converter() -> Any:
    """onnx2torch's ``convert``. Raises ModelError where it is not installed."""
    try:
        with _without_torchvision():
            from onnx2torch import convert
    except ImportError as error:
        raise ModelError(
            "ONNX models need the package onnx2torch, which is not installed.",
            "Install it with: pip install --no-deps onnx2torch",
        ) from error
    return convert


def _converted(proto: ModelProto, name: str) -> nn.Module:
    convert = import_converter()
    try:
        return _convert(convert, proto)
    except NotImplementedError as error:
        raise ModelError(
            f"{name} uses an operator that cannot be converted: {str(error)[:300]}.",
            "Export it from its framework as TorchScript or with torch.export instead.",
        ) from error
    except Exception as error:  # converters raise many kinds
        raise ModelError(f"{name} cannot be converted: {str(error)[:300]}.", "Check it with onnx.checker.") from error


def _convert(convert: Any, proto: ModelProto) -> nn.Module:
    """The converted network; operators of versions newer than the converter's are brought to older ones first."""
    from onnx import version_converter

    try:
        return convert(proto)
    except NotImplementedError as error:
        for version in KNOWN_VERSIONS:
            with contextlib.suppress(Exception):  # the converters raise many kinds
                return convert(version_converter.convert_version(proto, version))
        raise error


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let onnx2torch be imported where torchvision is not: it needs it for box operators alone."""
    if importlib.util.find_spec("torchvision") is not None or "onnx2torch" in sys.modules:
        yield
        return
    stand_in, operators = ModuleType("torchvision"), ModuleType("torchvision.ops")
    operators.roi_align = None  # type: ignore[attr-defined]
    stand_in.ops = operators  # type: ignore[attr-defined]
    sys.modules.update({"torchvision": stand_in, "torchvision.ops": operators})
    try:
        yield
    finally:
        for module in ("torchvision", "torchvision.ops"):
            sys.modules.pop(module, None)
