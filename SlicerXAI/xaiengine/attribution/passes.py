"""Kinds of models, and how the work of a method is counted. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["classification", "regression", "segmentation"]
KINDS: tuple[Kind, ...] = ("classification", "regression", "segmentation")


@dataclass(frozen=True)
class Passes:
    """What a method takes, in evaluations of the network on one sample (or one window).

    ``backward`` of the ``forward`` passes are also differentiated; ``tail`` passes run forward and back through the
    layers after a bottleneck only.
    """

    forward: float = 0.0
    backward: float = 0.0
    tail: float = 0.0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward, self.tail + other.tail)

    def __mul__(self, times: float) -> Passes:
        return Passes(times * self.forward, times * self.backward, times * self.tail)

    __rmul__ = __mul__
