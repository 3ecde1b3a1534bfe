"""Chooses, of all that a network returns, the prediction: once, by what is known of it, and then always the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from ..core.errors import ModelError
from .endings import Ending, logits_of
from .outputs import USUAL_KEYS, OutputSelector

Key = int | str
MOST_OUTPUTS = 64


@dataclass(frozen=True)
class Candidate:
    """A tensor in what a network returns, and the keys that lead to it."""

    path: tuple[Key, ...]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        where = "".join(f"[{key!r}]" for key in self.path) or "the output"
        return f"{where} {' x '.join(map(str, self.shape))}"


@dataclass(frozen=True)
class FixedOutput:
    """Takes the prediction (N, C, ...) at a known place; probabilities become logits (see :func:`logits_of`)."""

    path: tuple[Key, ...] = ()
    ending: Ending = "scores"

    def __call__(self, output: Any) -> torch.Tensor:
        return logits_of(taken(output, self.path), self.ending)


def taken(output: Any, path: tuple[Key, ...]) -> torch.Tensor:
    """The tensor at a place; (N,) becomes (N, 1). A tensor by itself was taken from its place by somebody else."""
    for key in () if isinstance(output, torch.Tensor) else path:
        output = output[key]
    if output.ndim == 1:
        output = output[:, None]
    return output


def candidates(output: Any, path: tuple[Key, ...] = ()) -> Iterator[Candidate]:
    """Every tensor with an image's axis in tuples, lists and dictionaries, in their order."""
    if isinstance(output, torch.Tensor):
        if output.ndim >= 1 and output.is_floating_point():
            yield Candidate(path, tuple(output.shape))
        return
    items: Any = ()
    if isinstance(output, Mapping):
        items = output.items()
    elif isinstance(output, (tuple, list)):
        items = enumerate(output)
    for key, value in items:
        if isinstance(key, (int, str)):
            yield from candidates(value, (*path, key))


def chosen(
    output: Any, outputs: int, heads: Sequence[int], selector: OutputSelector, named: Key = "", as_map: bool = False
) -> Candidate:
    """The prediction among what a network returned.

    ``outputs`` is how many channels it has, 0 if that is not known; ``heads`` are the channels of the network's last
    layers with weights, the very last first. ``named`` is the place that the model's description gives;
    ``as_map`` says that a prediction for every position is wanted.

    Raises:
        ModelError: nothing fits, or several do that differ; what was returned is listed.
    """
    found = list(candidates(output))[:MOST_OUTPUTS]
    if named != "":
        return _named(found, named)
    if not found:
        selector(output)  # raises, saying what it is
        raise ModelError("The network returned no numbers.", "Give a network that returns a tensor.")
    if len(found) == 1:
        return found[0]
    for count in [outputs] if outputs else heads:
        fitting = [item for item in found if _channels(item) == count]
        if fitting:
            return _finest(fitting, selector, as_map)
    keyed = [item for key in USUAL_KEYS for item in found if item.path and item.path[0] == key]
    if keyed:
        return _finest(keyed, selector, as_map)
    if isinstance(output, Mapping) and len(found) > 1:
        raise ModelError(
            f"The network returns {listed(found)}: which of them is the prediction is not known.",
            'Name it in the description: "output": "logits", or give the names of the outputs (labels).',
        )
    maps = [item for item in found if len(item.shape) >= 2]
    return _finest(maps or found, selector, as_map)


def _named(found: list[Candidate], named: Key) -> Candidate:
    for item in found:
        if item.path and (item.path[0] == named or ".".join(map(str, item.path)) == str(named)):
            return item
    raise ModelError(
        f"The description takes the output {named!r}, the network returns {listed(found)}.",
        "Name one of these in the description: output.",
    )


def _channels(item: Candidate) -> int:
    return item.shape[1] if len(item.shape) > 1 else 1


def _finest(items: list[Candidate], selector: OutputSelector, as_map: bool) -> Candidate:
    """A row of numbers if ``as_map`` is false and there is one; else the map with most positions.

    Deep supervision returns maps of several sizes; attention maps (N, heads, T, T) stand beside a row of scores.
    """
    flat = [item for item in items if len(item.shape) <= 2]
    if flat and (not as_map or len(flat) == len(items)):
        return flat[0] if selector.preferred == "first" else flat[-1]
    maps = [item for item in items if len(item.shape) > 2]
    most = max(prod(item.shape[2:]) for item in maps)
    finest = [item for item in maps if prod(item.shape[2:]) == most]
    return finest[0] if selector.preferred == "first" else finest[-1]


def listed(found: list[Candidate]) -> str:
    """The candidates for a reader."""
    return f"{len(found)} tensors: " + "; ".join(str(item) for item in found[:8]) + ("; ..." if len(found) > 8 else "")
