"""``xai.methods``: names, units, needs, cost and sanity of the methods. Light to import."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ..attribution.registry import KINDS, METHODS, AttributionMethod, Passes
from ..core.errors import OptionError

EXAMPLE_SIDE = 64
"""Voxels along each axis of the volume that the listed costs are for."""


@dataclass(frozen=True)
class MethodInfo:
    """A method as a reader chooses it.

    Attributes:
        name, title, family: as users write it, and as it is shown.
        unit: of the map's values; ``signed`` maps are negative where there is evidence against the target.
        needs: of the model: ``differentiable``, ``layers``, ``free_batch``.
        cost: evaluations of the network for one volume of 64 voxels a side (or one window), a differentiated one
            counted three times; None where it depends on the model.
        reliable: whether its maps depend on what the model has learned; ``caution`` says it in words.
        recommended: whether it is the documented choice for the kind of model that was asked for.
        effect: agreement with what the model makes of each region of real X-rays, by kind of model, where measured.
        sanity: rank correlation with the map of a model with random weights, by kind of model, where measured.
        settings: the method's own settings with their defaults.
    """

    name: str
    title: str
    family: str
    unit: str
    signed: bool
    needs: tuple[str, ...]
    cost: float | None
    reliable: bool
    caution: str
    recommended: bool = False
    effect: Mapping[str, float] = field(default_factory=dict)
    sanity: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


class MethodList(Mapping[str, MethodInfo]):
    """Methods by name (other spellings too), in the order of their families; a notebook shows a table."""

    def __init__(self, items: Iterable[MethodInfo]) -> None:
        self._items = {item.name: item for item in items}

    def __getitem__(self, key: str) -> MethodInfo:
        method = METHODS.resolved(key)
        return self._items[key if method is None else method.name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        rows = [_HEADER, *(_cells(item) for item in self.values())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in _HEADER)
        body = "".join(f"<tr>{''.join(map(_cell, _cells(item)))}</tr>" for item in self.values())
        return f"<table><tr>{head}</tr>{body}</table>"


_HEADER = ("method", "family", "unit", "needs", "cost", "reliable")


def _cells(item: MethodInfo) -> tuple[str, ...]:
    cost = "" if item.cost is None else f"{item.cost:.0f}"
    return item.name, item.family, item.unit, ", ".join(item.needs), cost, _verdict(item)


def _verdict(item: MethodInfo) -> str:
    return "recommended" if item.recommended else "yes" if item.reliable else "no"


def _cell(text: str) -> str:
    return f"<td style='text-align:left'>{html.escape(text)}</td>"


def methods(task: str = "") -> MethodList:
    """The methods that can be asked for.

    Args:
        task: classification, multilabel, regression or segmentation, for which ``reliable`` is said; for all of them
            together if empty.

    Raises:
        OptionError: there is no such task.
    """
    kind = {"multilabel": "classification"}.get(task, task)
    if kind and kind not in KINDS:
        raise OptionError(f"There is no task called {task!r}.", f"Choose from {', '.join(KINDS)}, multilabel.")
    return MethodList(_info(method, kind) for method in METHODS.values())


def _info(method: AttributionMethod, kind: str) -> MethodInfo:
    unreliable = kind in method.unreliable_on if kind else bool(method.unreliable_on)
    return MethodInfo(
        name=method.name,
        title=method.title,
        family=method.family,
        unit=method.unit,
        signed=method.signed,
        needs=method.needs,
        cost=_cost(method, kind),
        reliable=not unreliable,
        caution=method.caution_for(kind) if kind else method.caution if unreliable else "",
        recommended=kind in method.recommended_on if kind else bool(method.recommended_on),
        effect=dict(method.effect),
        sanity=dict(method.sanity),
        settings={name: item.default for name, item in method.Settings.model_fields.items()},
    )


class _ExampleCase(SimpleNamespace):
    """One row of 64 x 64 x 64 voxels of 1 mm, as far as counting passes asks."""

    def __init__(self, kind: str) -> None:
        shape = (1, 1, *[EXAMPLE_SIDE] * 3)
        super().__init__(
            kind=kind or "classification",
            settings={},
            inputs=SimpleNamespace(shape=shape, ndim=5),
            spacing=(1.0, 1.0, 1.0),
            roi=None,
            seed=0,
            batch_size=1,
            layers=("layer",),
            bottleneck_layers=("layer",),
            usual_path_steps=16 if kind == "segmentation" else 48,
            default_block_mm=12.0 if kind == "segmentation" else EXAMPLE_SIDE / 8,
            mask_cells=(7, 7, 7),
            rowwise_passes=1.0,
        )

    def value_pass(self, rowwise: bool = False) -> Passes:
        return Passes(1)

    def gradient_pass(self, rowwise: bool = False) -> Passes:
        return Passes(1, 1)

    def changed_passes(self, boxes: Iterable[Any]) -> float:
        return float(len(list(boxes)))


def _cost(method: AttributionMethod, kind: str) -> float | None:
    try:
        counted = method.passes(_ExampleCase(kind))  # type: ignore[arg-type]
    except (AttributeError, KeyError, TypeError, IndexError):  # it asks for what only a model can say
        return None
    return counted.forward + 2 * counted.backward + 3 * counted.tail
