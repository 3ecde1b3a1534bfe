"""What all pictures share: themes, a figure that needs no screen, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.atomic import written_whole
from ..core.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_DPI = 110
FORMATS = (".png", ".svg", ".pdf")
ThemeName = Literal["dark", "print"]


@dataclass(frozen=True)
class Theme:
    """Colors of a picture. ``curves`` can be told apart with any color vision (Okabe and Ito)."""

    background: str
    text: str
    faint: str
    supporting: str
    opposing: str
    decision: str
    curves: tuple[str, ...]


THEMES: dict[str, Theme] = {
    "dark": Theme(
        "#101014",
        "#e8e8e8",
        "#70707a",
        "#ef6a5a",
        "#5fa8e0",
        "#ffb454",
        ("#56b4e9", "#e69f00", "#4fd1a5", "#f0e442", "#e59ac6", "#ff8a5c", "#ffffff"),
    ),
    "print": Theme(
        "#ffffff",
        "#1b1b1b",
        "#9a9aa2",
        "#b03020",
        "#1f6fae",
        "#b36b00",
        ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"),
    ),
}

OUTLINE_COLORS = ("#35e0d0", "#ffd21f", "#7ddc5a", "#f39ac7", "#9db8ff", "#ffffff")
"""Cold and light ones first: the warm colors of a map do not hide them."""

SEQUENTIAL, DIVERGING = "inferno", "RdBu_r"


def theme_of(name: str) -> Theme:
    """Raises OptionError for an unknown theme."""
    if name not in THEMES:
        raise OptionError(f"There is no theme called {name!r}.", f"Choose from {', '.join(THEMES)}.")
    return THEMES[name]


def new_figure(width: float, height: float, theme: Theme) -> Figure:
    """A figure of so many inches that draws without a screen and without the state of pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=theme.background, dpi=PICTURE_DPI)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write PNG, SVG or PDF, as the file's extension says, whole or not at all.

    Raises OptionError for another extension.
    """
    from matplotlib import rc_context

    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise OptionError(f"A picture cannot be written as {path.name}.", f"Use one of {', '.join(FORMATS)}.")
    without_date = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(kind)
    # The same picture gives the same file.
    with rc_context({"svg.hashsalt": "xaiengine"}), written_whole(path) as temporary:
        figure.savefig(temporary, format=kind[1:], facecolor=figure.get_facecolor(), metadata=without_date)
    return path


def plain_axes(axes: Axes, theme: Theme) -> None:
    """Axes of a curve or of bars in the theme's colors, without a box around them."""
    axes.set_facecolor(theme.background)
    axes.tick_params(colors=theme.text, labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    for side in axes.spines.values():
        side.set_edgecolor(theme.faint)
    for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
        text.set_color(theme.text)
    axes.set_prop_cycle(color=list(theme.curves))


def legend_of(axes: Axes, theme: Theme) -> None:
    axes.legend(fontsize=8, frameon=False, labelcolor=theme.text)


def readable() -> dict[str, Any]:
    """Light text with a dark edge, legible on bone, on air and on paper."""
    from matplotlib.patheffects import withStroke

    return {"color": "#f2f2f2", "path_effects": [withStroke(linewidth=2.5, foreground="black")]}


def burn_in(axes: Axes, text: str = "SYNTHETIC", heights: Sequence[float] = (0.5, 0.06)) -> None:
    """Write a word across an image, at parts of its height, so that no crop of it passes for a real one.

    In its middle the word is faint; small images have it at their borders, where it hides no finding.
    """
    for height in heights:
        axes.text(
            0.5,
            height,
            text,
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=9,
            weight="bold",
            alpha=0.4 if height == 0.5 else 0.8,
            **readable(),
        )


def outline_color(number: int, given: Sequence[float] | str | None = None) -> Any:
    return given if given is not None else OUTLINE_COLORS[number % len(OUTLINE_COLORS)]
