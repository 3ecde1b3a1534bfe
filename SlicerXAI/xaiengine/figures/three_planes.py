"""Maps over a scan: a row for each map with axial, coronal and sagittal plane through one point, and a color bar.

Every task draws its maps with this. Letters, slice position and scale bar are those of the patient in mm; voxels have
their size whatever the scan's spacing; what was not explained is hatched, so that it does not pass for "no evidence".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.number_text import significant
from ..io.grid import Grid
from ..io.volume import Volume
from .gray_window import GrayWindow, gray_window
from .planes import Cut, cut_through, knows_its_sides, planes_of, position_text
from .style import DIVERGING, SEQUENTIAL, Theme, burn_in, new_figure, outline_color, readable, save_figure, theme_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

MOST_ROWS = 8
"""Maps in one picture; more are drawn on further sheets."""
LARGEST_OPACITY = 0.65
CLOSE_UP = 1 / 3
"""Field of the close-ups as a share of the whole plane's."""
SCALE_BARS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_MARGIN, _BAR, _LINE = 0.12, 1.0, 0.24
"""Inches: border, color bar with its numbers, line of text."""
_RAISED = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


@dataclass(frozen=True, eq=False)
class MapLayer:
    """A map as it is drawn.

    ``values`` (I, J, K) lie on the scan's grid, NaN where nothing was explained; ``explained`` (bool) says the same
    for maps that hold 0 there. The map is transparent up to ``threshold`` and its colors end at ``upper`` (default:
    what all but the strongest half percent of the voxels stay below). A map with negative values is diverging.
    """

    values: np.ndarray
    title: str = ""
    unit: str = ""
    threshold: float = 0.0
    upper: float | None = None
    explained: np.ndarray | None = None

    @property
    def diverging(self) -> bool:
        return has_opposing(self.values)

    @property
    def end(self) -> float:
        return color_end(self.values, self.threshold) if self.upper is None else self.upper

    def unexplained(self) -> np.ndarray | None:
        missing = ~np.asarray(self.explained, bool) if self.explained is not None else ~np.isfinite(self.values)
        return missing if missing.any() else None


@dataclass(frozen=True, eq=False)
class Outline:
    """A region whose border is drawn: ``mask`` (I, J, K) bool on the scan's grid."""

    mask: np.ndarray
    name: str
    color: Sequence[float] | str | None = None


@dataclass(frozen=True)
class PictureText:
    """Lines above and below the planes, and whether the scan is a generated one (burnt into every plane)."""

    title: str = ""
    caption: str = ""
    synthetic: bool = False


@dataclass(eq=False)
class _Sheet:
    figure: Figure
    cuts: list[Cut]
    scan: Volume
    window: GrayWindow
    theme: Theme
    center: np.ndarray
    outlines: Sequence[Outline]
    named: bool
    legend: dict[str, Any] = field(default_factory=dict)


def has_opposing(values: np.ndarray) -> bool:
    """Whether a map has values below zero that are more than rounding."""
    finite = values[np.isfinite(values)]
    return bool(finite.size) and float(finite.min()) < -1e-6 * max(float(np.abs(finite).max()), 1e-30)


def color_end(values: np.ndarray, threshold: float = 0.0) -> float:
    """The value at which colors end: all but the strongest half percent of the voxels that count stay below."""
    amount = np.abs(values[np.isfinite(values)])
    counted = amount[amount > max(threshold, 0.0)]
    reached = float(np.quantile(counted, 0.995)) if counted.size else 0.0
    return max(reached, 1.5 * threshold) or 1.0


def strongest_point(grid: Grid, values: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """RAS position of a map's strongest voxel; the scan's middle where it has none above the threshold."""
    filled = np.nan_to_num(np.abs(values))
    strongest = np.unravel_index(int(filled.argmax()), filled.shape)
    return grid.index_to_ras(np.array(strongest)) if filled[strongest] > threshold else grid.center


def middle_of(mask: np.ndarray, grid: Grid) -> np.ndarray | None:
    """RAS position of the voxel of a mask nearest to its middle; None for an empty mask."""
    voxels = np.argwhere(mask)
    if not len(voxels):
        return None
    return grid.index_to_ras(voxels[np.argmin(((voxels - np.median(voxels, axis=0)) ** 2).sum(1))])


def draw_three_planes(
    path: Path | str,
    scan: Volume,
    layers: Sequence[MapLayer],
    outlines: Sequence[Outline] = (),
    *,
    text: PictureText = PictureText(),
    center_ras: Sequence[float] | np.ndarray | None = None,
    window: GrayWindow | str = "auto",
    close_up: bool = False,
    theme: str = "dark",
) -> list[Path]:
    """Write the pictures (PNG, SVG or PDF by the extension) and return their paths: one for every eight maps.

    ``center_ras``: the point in mm that the planes share; by default the strongest voxel of the first map.
    ``close_up`` adds a row with the scan alone around that point. Without ``layers`` the scan alone is drawn.
    """
    path = Path(path)
    parts = [list(layers[start : start + MOST_ROWS]) for start in range(0, len(layers), MOST_ROWS)] or [[]]
    center = _center(scan, layers, center_ras)
    written = []
    for number, part in enumerate(parts):
        figure = three_planes(
            scan, part, outlines, text=text, center_ras=center, window=window, close_up=close_up, theme=theme
        )
        name = path if number == 0 else path.with_name(f"{path.stem}-{number + 1}{path.suffix}")
        written.append(save_figure(figure, name))
    return written


def three_planes(
    scan: Volume,
    layers: Sequence[MapLayer],
    outlines: Sequence[Outline] = (),
    *,
    text: PictureText = PictureText(),
    center_ras: Sequence[float] | np.ndarray | None = None,
    window: GrayWindow | str = "auto",
    close_up: bool = False,
    theme: str = "dark",
) -> Figure:
    """The picture as a matplotlib figure; see :func:`draw_three_planes`."""
    center = _center(scan, layers, center_ras)
    chosen = gray_window(scan, window) if isinstance(window, str) else window
    cuts = [cut_through(scan.grid, center, plane) for plane in planes_of(scan.grid)]
    rows = max(1, len(layers)) + close_up
    height = 4.4 if rows <= 2 else 3.3
    widths = [cut.extent[1] for cut in cuts]
    tallest = max(cut.extent[3] for cut in cuts)
    inches = [max(1.2, height * width / tallest) for width in widths]
    total = max(sum(inches) + 0.08 * len(cuts) + (_BAR if layers else 0.0) + 2 * _MARGIN, 5.2)
    title = wrap(text.title, int(total * 8.4)) or []
    captions = [line for part in text.caption.split("\n") for line in wrap(part, int(total * 10.5))]
    below = _LINE * (len(captions) + 1) + 0.12
    above = 0.3 * len(title) + 0.1
    gap = 0.5 if len(layers) > 1 else 0.3
    whole = rows * (height + gap) + above + below
    figure = new_figure(total, whole, theme_of(theme))
    sheet = _Sheet(figure, cuts, scan, chosen, theme_of(theme), center, outlines, bool(len(layers) > 1), legend={})
    grid = figure.add_gridspec(
        rows,
        len(cuts) + 1,
        width_ratios=[*inches, 0.16],
        left=_MARGIN / total,
        right=1 - ((_BAR - 0.2) if layers else _MARGIN) / total,
        top=1 - (above + gap - 0.04) / whole,
        bottom=below / whole,
        wspace=0.08 * len(cuts) / max(sum(inches), 1e-6) * 1.2,
        hspace=gap / height,
    )
    for row in range(rows - close_up):
        layer = layers[row] if layers else None
        for column, cut in enumerate(cuts):
            _panel(sheet, figure.add_subplot(grid[row, column]), cut, layer, text.synthetic)
        if layer is not None:
            _color_bar(sheet, figure.add_subplot(grid[row, len(cuts)]), layer)
    if close_up:
        for column, cut in enumerate(cuts):
            axes = figure.add_subplot(grid[rows - 1, column])
            _draw_scan(sheet, axes, cut)
            _narrow(sheet, axes, cut)
            if text.synthetic:
                burn_in(axes)
    for number, line in enumerate(title):
        place = 1 - (0.24 + 0.3 * number) / whole
        figure.text(_MARGIN / total, place, line, color=sheet.theme.text, fontsize=12.5, weight="bold", va="center")
    for number, line in enumerate(captions):
        place = (below - 0.2 - _LINE * number) / whole
        figure.text(_MARGIN / total, place, line, color=sheet.theme.text, fontsize=10, va="center")
    _foot(sheet, total, whole)
    return figure


def _center(scan: Volume, layers: Sequence[MapLayer], given: Sequence[float] | np.ndarray | None) -> np.ndarray:
    if given is not None:
        return np.asarray(given, float)
    return strongest_point(scan.grid, layers[0].values, layers[0].threshold) if layers else scan.grid.center


def _panel(sheet: _Sheet, axes: Axes, cut: Cut, layer: MapLayer | None, synthetic: bool) -> None:
    _draw_scan(sheet, axes, cut)
    if layer is not None:
        _draw_map(axes, cut, layer, sheet.scan.grid)
        _hatch(sheet, axes, cut, layer)
    _draw_outlines(sheet, axes, cut)
    # A line of its own, so that a long name runs over the other planes and not into their titles.
    name = f"{layer.title}\n" if layer is not None and sheet.named and cut is sheet.cuts[0] else ""
    sided = knows_its_sides(sheet.scan)
    where = f"{cut.plane.name}, {position_text(cut.plane, sheet.center)}" if len(sheet.cuts) > 1 else ""
    axes.set_title(f"{name}{where}".rstrip(), color=sheet.theme.text, fontsize=9.5, pad=4, loc="left")
    _, width, _, height = cut.extent
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    if sided:
        _letters(axes, cut)
    if len(sheet.cuts) > 1:
        _mark_center(axes, cut)
    _scale_bar(axes, "mm" if sided else "px")
    if synthetic:
        burn_in(axes)


def _draw_scan(sheet: _Sheet, axes: Axes, cut: Cut) -> None:
    axes.set_axis_off()
    axes.set_anchor("N")
    low, high = sheet.window.low, sheet.window.high
    channels = sheet.scan.channels_first()
    if len(channels) == 3 and sheet.scan.channels == 3 and not knows_its_sides(sheet.scan):  # a picture in color
        planes = [cut.sample(np.asarray(channel), sheet.scan.grid, outside=low) for channel in channels]
        shown = np.clip((np.stack(planes, -1) - low) / max(high - low, 1e-9), 0, 1)
    else:
        shown = cut.sample(np.asarray(channels[0]), sheet.scan.grid, outside=low)
    axes.imshow(shown, cmap="gray", vmin=low, vmax=high, extent=cut.extent, interpolation="bilinear")


def _colors(layer: MapLayer) -> ScalarMappable:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low = -layer.end if layer.diverging else 0.0
    return ScalarMappable(Normalize(low, layer.end), DIVERGING if layer.diverging else SEQUENTIAL)


def _draw_map(axes: Axes, cut: Cut, layer: MapLayer, grid: Grid) -> None:
    values = cut.sample(np.nan_to_num(layer.values), grid)
    colors = _colors(layer).to_rgba(values)
    colors[..., 3] = _opacity(values, layer.threshold, layer.end)
    axes.imshow(colors, extent=cut.extent, interpolation="nearest")


def _opacity(values: np.ndarray, threshold: float, end: float) -> np.ndarray:
    """0 up to the threshold, then rising over a third of the range to the largest opacity."""
    amount = np.abs(values)
    share = np.clip((amount - threshold) / max((end - threshold) / 3.0, 1e-12), 0.0, 1.0)
    start = 0.35 if threshold > 0 else 0.0
    return np.where(amount > threshold, LARGEST_OPACITY * (start + (1 - start) * share), 0.0)


def _hatch(sheet: _Sheet, axes: Axes, cut: Cut, layer: MapLayer) -> None:
    missing = layer.unexplained()
    if missing is None:
        return
    shown = cut.sample(missing, sheet.scan.grid, order=0)
    if shown.max() < 0.5:
        return
    padded = np.pad(shown, 1)
    drawn = axes.contourf(
        padded, [0.5, 1.5], colors="none", hatches=["///"], extent=_padded(cut), origin="upper", antialiased=True
    )
    drawn.set_edgecolor("#8c8c96")
    drawn.set_linewidth(0.0)
    if hasattr(drawn, "set_hatch_linewidth"):  # matplotlib 3.10
        drawn.set_hatch_linewidth(0.5)
    from matplotlib.patches import Patch

    sheet.legend["not explained"] = Patch(facecolor="none", edgecolor="#8c8c96", hatch="///", label="not explained")


def _padded(cut: Cut) -> tuple[float, float, float, float]:
    _, width, _, height = cut.extent
    return -cut.pixel, width + cut.pixel, -cut.pixel, height + cut.pixel


def _draw_outlines(sheet: _Sheet, axes: Axes, cut: Cut) -> None:
    from matplotlib.lines import Line2D

    for number, outline in enumerate(sheet.outlines):
        color = outline_color(number, outline.color)
        shown = cut.sample(outline.mask, sheet.scan.grid)
        if shown.max() > 0.5:
            # regions that touch the border are closed there
            axes.contour(np.pad(shown, 1), [0.5], colors=[color], linewidths=1.2, extent=_padded(cut), origin="upper")
        sheet.legend.setdefault(outline.name, Line2D([], [], color=color, linewidth=1.6, label=outline.name))


def _letters(axes: Axes, cut: Cut) -> None:
    _, width, _, height = cut.extent
    left, right, top, bottom = cut.plane.letters
    inset = 0.035 * max(width, height)
    # Beside the ticks of the other planes, where they would meet.
    across, up = (
        size / 2 + (1.2 * inset if abs(at - size / 2) < inset else 0.0)
        for at, size in zip(cut.center, (width, height))
    )
    for letter, x, y in (
        (left, inset, up),
        (right, width - inset, up),
        (top, across, height - inset),
        (bottom, across, inset),
    ):
        axes.text(x, y, letter, fontsize=11, weight="bold", ha="center", va="center", **readable())


def _mark_center(axes: Axes, cut: Cut) -> None:
    """Short ticks at the borders where the other two planes cut this one."""
    _, width, _, height = cut.extent
    x, y = cut.center
    tick = 0.03 * max(width, height)
    for xs, ys in (
        ((x, x), (0, tick)),
        ((x, x), (height - tick, height)),
        ((0, tick), (y, y)),
        ((width - tick, width), (y, y)),
    ):
        axes.plot(xs, ys, color="#35e0d0", linewidth=1.0, clip_on=True)


def _narrow(sheet: _Sheet, axes: Axes, cut: Cut) -> None:
    """Show the surroundings of the center alone, kept inside the picture."""
    _draw_outlines(sheet, axes, cut)
    lows = [
        float(np.clip(at - CLOSE_UP * size / 2, 0.0, (1 - CLOSE_UP) * size))
        for at, size in zip(cut.center, cut.extent[1::2])
    ]
    axes.set_xlim(lows[0], lows[0] + CLOSE_UP * cut.extent[1])
    axes.set_ylim(lows[1], lows[1] + CLOSE_UP * cut.extent[3])
    title = f"{cut.plane.name}, close-up of the scan"
    axes.set_title(title, color=sheet.theme.text, fontsize=9.5, pad=4, loc="left")
    _scale_bar(axes, "mm" if knows_its_sides(sheet.scan) else "px")


def _scale_bar(axes: Axes, unit: str) -> None:
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    inset = 0.035 * max(right - left, top - bottom)
    length = max((step for step in SCALE_BARS if step <= 0.3 * (right - left)), default=SCALE_BARS[0])
    start, height = left + inset, bottom + inset
    axes.plot([start, start + length], [height] * 2, color="black", linewidth=4.5, solid_capstyle="butt")
    axes.plot([start, start + length], [height] * 2, color="#f2f2f2", linewidth=2.2, solid_capstyle="butt")
    middle = start + length / 2
    axes.text(middle, height + 0.3 * inset, f"{length:g} {unit}", fontsize=8, ha="center", va="bottom", **readable())


def _color_bar(sheet: _Sheet, axes: Axes, layer: MapLayer) -> None:
    bar = sheet.figure.colorbar(_colors(layer), cax=axes)
    bar.outline.set_edgecolor(sheet.theme.faint)
    bar.ax.tick_params(colors=sheet.theme.text, labelsize=8.5)
    bar.ax.set_ylabel(bar_label(layer), color=sheet.theme.text, fontsize=9)
    power = power_of_ten(layer.end)
    bar.ax.yaxis.set_major_formatter(lambda value, _place: f"{value / 10.0**power:.3g}")
    if 0.0 < layer.threshold < layer.end:
        from matplotlib.lines import Line2D

        bar.ax.axhline(layer.threshold, color="#35e0d0", linewidth=2)
        value = "" if sheet.named else f"{significant(layer.threshold)} {layer.unit} "
        name = f"threshold {value}(on the color bar)".replace("  ", " ")
        sheet.legend[name] = Line2D([], [], color="#35e0d0", linewidth=2.5)


def bar_label(layer: MapLayer) -> str:
    """What the numbers of a color bar are, along the bar: unit with its power of ten, and what the ends mean."""
    unit, power = layer.unit or "attribution", power_of_ten(layer.end)
    if power:
        unit = f"10{str(power).translate(_RAISED)} {unit}"
    return f"opposes  \u2190  {unit}  \u2192  supports" if layer.diverging else unit


def power_of_ten(end: float) -> int:
    """The power that is taken out of a bar's numbers, where they would be long: 0 from 0.01 to 10,000."""
    power = math.floor(math.log10(end)) if end > 0 and math.isfinite(end) else 0
    return 0 if -2 <= power < 4 else power


def _foot(sheet: _Sheet, total: float, whole: float) -> None:
    """The legend of outlines on the left, what the gray values mean on the right."""
    if sheet.legend:
        sheet.figure.legend(
            handles=list(sheet.legend.values()),
            labels=list(sheet.legend),
            loc="lower left",
            bbox_to_anchor=(_MARGIN / total / 2, 0.0),
            ncols=6,
            fontsize=8.5,
            frameon=False,
            labelcolor=sheet.theme.text,
            handlelength=1.6,
            columnspacing=1.3,
        )
    notes = [sheet.window.text]
    notes += [] if knows_its_sides(sheet.scan) else ["sides and mm are not stored in this picture"]
    place = (1 - _MARGIN / total, 0.13 / whole)
    note = "; ".join(note for note in notes if note)
    sheet.figure.text(*place, note, color=sheet.theme.faint, fontsize=8, ha="right", va="center")
