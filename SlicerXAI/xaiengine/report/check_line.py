"""A check as a reader sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Light = Literal["good", "caution", "bad"]


@dataclass(frozen=True)
class CheckLine:
    """A check as a traffic light: what was asked, what came out, and what it means."""

    light: Light
    title: str
    outcome: str
    meaning: str = ""
