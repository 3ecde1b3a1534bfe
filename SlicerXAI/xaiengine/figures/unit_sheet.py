"""A sheet of the images that units respond to most, with outlines of where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .style import burn_in, new_figure, save_figure, theme_of

UNIT_COLOR, CONCEPT_COLOR = "#ffd21f", "#35e0d0"
TILE_INCHES = 1.7


@dataclass(frozen=True, eq=False)
class Tile:
    """``image`` (I, J) with the voxels above the unit's threshold and those of its concept, all (I, J)."""

    image: np.ndarray
    above: np.ndarray
    concept: np.ndarray | None
    caption: str


@dataclass(frozen=True, eq=False)
class SheetRow:
    title: str
    tiles: Sequence[Tile]


def draw_unit_sheet(
    path: Path, rows: Sequence[SheetRow], title: str, *, synthetic: bool = False, theme: str = "dark"
) -> None:
    """A row per unit, its strongest images from the left; the unit's outline is yellow, the concept's cyan, dashed.

    ``synthetic``: the images were generated, and say so.
    """
    colors = theme_of(theme)
    columns = max(len(row.tiles) for row in rows)
    size = (2.3 + TILE_INCHES * max(3, columns), 0.55 + (TILE_INCHES + 0.12) * len(rows))
    figure = new_figure(*size, colors)
    bottom, top = 0.02 / size[1], 1 - 0.5 / size[1]
    grid = figure.add_gridspec(
        len(rows),
        columns,
        left=2.25 / size[0],
        right=(2.25 + TILE_INCHES * columns) / size[0],
        bottom=bottom,
        top=top,
        wspace=0.03,
        hspace=0.08,
    )
    for line, row in enumerate(rows):
        for column, tile in enumerate(row.tiles):
            axes = figure.add_subplot(grid[line, column])
            _draw_tile(axes, tile)
            if synthetic:
                burn_in(axes)
        place = grid[line, 0].get_position(figure)
        figure.text(0.08 / size[0], (place.y0 + place.y1) / 2, row.title, color=colors.text, fontsize=8.5, va="center")
    figure.text(0.08 / size[0], 1 - 0.27 / size[1], title, color=colors.text, fontsize=10, weight="bold", va="center")
    save_figure(figure, path)


def _draw_tile(axes, tile: Tile) -> None:
    axes.set_axis_off()
    low, high = np.percentile(tile.image, (0.5, 99.5))
    axes.imshow(tile.image.T, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear")
    if tile.concept is not None and tile.concept.any():
        _outline(axes, tile.concept, CONCEPT_COLOR, "dashed")
    if tile.above.any():
        _outline(axes, tile.above, UNIT_COLOR, "solid")
    axes.text(
        0.02,
        0.02,
        tile.caption,
        color="white",
        fontsize=6,
        transform=axes.transAxes,
        bbox={"facecolor": "black", "alpha": 0.5, "pad": 0.8, "linewidth": 0},
    )


def _outline(axes, mask: np.ndarray, color: str, style: str) -> None:
    padded = np.pad(mask.T.astype(float), 1)  # regions at the border are closed
    y, x = np.arange(padded.shape[0]) - 1, np.arange(padded.shape[1]) - 1
    axes.contour(x, y, padded, [0.5], colors=color, linewidths=1.0, linestyles=style)
    axes.set_xlim(-0.5, mask.shape[0] - 0.5)
    axes.set_ylim(mask.shape[1] - 0.5, -0.5)
