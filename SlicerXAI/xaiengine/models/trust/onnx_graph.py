"""What the graph of an untrusted ONNX model may hold: known operators, sizes in proportion, names that are names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...core.errors import TrustError
from .expressions import TRUST_REMEDY

if TYPE_CHECKING:
    from onnx import ModelProto

LARGEST_CONSTANT = 2**28
MOST_NODES = 10_000
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


def check_graph(proto: ModelProto, name: str) -> None:
    """Refuse custom operators, and constants larger than the file that holds them."""
    for tensor in [*proto.graph.initializer, *constants(proto.graph)]:
        count = 1
        for size in tensor.dims:
            count *= max(int(size), 0)
        if count > LARGEST_CONSTANT * 8:
            raise TrustError(f"The weight {tensor.name} of {name} has {count} values.", TRUST_REMEDY)
    _check_budget(proto, name)
    foreign = sorted({node.domain for node in _nodes(proto.graph) if node.domain not in _DOMAINS})
    if foreign:
        raise TrustError(f"{name} uses operators of {', '.join(foreign)[:100]}, which are not known.", TRUST_REMEDY)
    if proto.functions:
        raise TrustError(f"{name} defines functions of its own.", "Export it with standard operators only.")


def _check_budget(proto: ModelProto, name: str) -> None:
    """Refuse more nodes than a network has, constants made out of proportion, and names that are no names.

    The converter writes names into Python code that it then runs; a quotation mark would end them there.
    """
    count = 0
    values = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.output:
            values.update((node.output[0], item.t) for item in node.attribute if item.HasField("t"))
    for node in _nodes(proto.graph):
        count += 1
        if count > MOST_NODES:
            raise TrustError(f"{name} has more than {MOST_NODES} operators.", TRUST_REMEDY)
        if node.op_type in ("Loop", "Scan", "If"):
            raise TrustError(f"{name} holds the operator {node.op_type}, whose end is not known.", TRUST_REMEDY)
        if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "Upsample", "Range"):
            for source in node.input:
                if source in values and _largest(values[source], node.op_type) > LARGEST_CONSTANT:
                    raise TrustError(f"{name}: {node.op_type} makes a tensor out of proportion.", TRUST_REMEDY)
        for text in (node.name, node.op_type, *node.input, *node.output):
            _check_name(text, name)
    for tensor in values:
        _check_name(tensor, name)


def _largest(tensor: Any, operator: str) -> int:
    """The number of values that sizes in this tensor ask for; 0 for tensors that hold no sizes."""
    import math

    from onnx import numpy_helper

    if len(tensor.dims) > 1 or math.prod(tensor.dims) > 64 or tensor.data_type not in (6, 7):
        return 0
    sizes = [abs(int(size)) for size in numpy_helper.to_array(tensor).reshape(-1)]
    return math.prod(max(size, 1) for size in sizes) if operator != "Pad" else max(sizes, default=0)


def _check_name(text: str, name: str) -> None:
    if len(text) > 2000 or any(letter in text for letter in "\"'\\\n\r\0`$"):
        raise TrustError(f"{name} holds the name {text[:60]!r}, which is no name of a layer.", TRUST_REMEDY)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def constants(graph: Any) -> Iterator[Any]:
    for node in _nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
