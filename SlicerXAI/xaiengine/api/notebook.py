"""Pictures and HTML of explanations, as notebooks show them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution.explanation import Explanation
from ..io.volume import Volume

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..figures.three_planes import Outline

MOST_ROWS = 8


def map_figure(
    explanations: Sequence[Explanation],
    scan: Volume | None,
    outlines: Sequence[Outline] = (),
    theme: str = "dark",
    title: str = "",
) -> Figure:
    """A row of three planes for each of the first eight maps, over the scan; over nothing where there is none."""
    from ..figures.prediction_picture import layer_of
    from ..figures.three_planes import PictureText, three_planes

    first = explanations[0]
    below = scan or Volume(np.zeros(first.grid.shape, np.float32), first.grid, "")
    layers = [layer_of(item.on(below.grid)) for item in explanations[:MOST_ROWS]]
    text = PictureText(title or f"{below.name} {first.title}: {first.target}".strip())
    return three_planes(below, layers, outlines, text=text, theme=theme)


def png_bytes(figure: Figure) -> bytes:
    """A figure as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor())
    return stream.getvalue()


def html_page(rows: Mapping[str, Any], notes: Sequence[str], picture: bytes | None = None) -> str:
    """A table of facts, the picture, and what must be known, as a piece of HTML without network."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{html.escape(str(name))}</th>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in rows.items()
        if value != ""
    )
    said = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode("ascii")
        image = f"<img alt='three planes through the map' style='max-width:100%' src='data:image/png;base64,{data}'>"
    return f"<div><table>{cells}</table>{image}{f'<ul>{said}</ul>' if said else ''}</div>"
