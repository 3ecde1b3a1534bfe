"""Writes the places that the map shows and that are not counted as lesions, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.number_text import significant
from ...io.segmentation import Mask, Segmentation
from ...io.segmentation_files import write_segmentation

if TYPE_CHECKING:
    from ...io.volume import Volume
    from ...lesions.pipeline import LesionFindings
    from ..task import Context

COLOR = (0.62, 0.62, 0.66)
MOST_NAMED = 3


def write_doubtful_places(found: LesionFindings, volume: Volume, context: Context) -> None:
    """A segmentation and a table of what is not counted, and a warning that names the largest; nothing without any."""
    doubtful = found.doubtful
    if doubtful is None or not doubtful.lesions:
        return
    masks = [
        Mask(f"Not counted {lesion.label}", doubtful.labels == lesion.label, COLOR, id=f"not_counted_{lesion.label}")
        for lesion in doubtful.lesions
    ]
    name = "not_counted.seg.nrrd"
    segmentation = Segmentation.from_masks(masks, found.regions.lungs.grid, f"{volume.name} not counted")
    write_segmentation(context.output.path(name), segmentation)
    context.output.add(
        "segmentation",
        name,
        "not counted",
        "not_counted",
        description="Places that the map shows and that are not counted as lesions; the table has the reasons.",
        display={"visible": False},
    )
    rows: list[dict[str, Any]] = [
        {**lesion.row(), **evidence.row(), "not counted, because": evidence.reason}
        for lesion, evidence in zip(doubtful.lesions, doubtful.evidence)
    ]
    context.output.table("not_counted.csv", list(rows[0]), rows, "places not counted", "not_counted_table")
    context.warn(doubtful_sentence(found))


def doubtful_sentence(found: LesionFindings) -> str:
    """What was not counted, where and why, largest first; "" without any."""
    if found.doubtful is None or not found.doubtful.lesions:
        return ""
    parts = []
    for lesion, evidence in list(zip(found.doubtful.lesions, found.doubtful.evidence))[:MOST_NAMED]:
        axes = zip(("RL", "AP", "SI"), lesion.centroid_ras)
        place = " ".join(f"{letters[int(value < 0)]} {abs(value):.0f}" for letters, value in axes)
        parts.append(f"{significant(lesion.volume_ml)} mL at {place} mm, because {evidence.reason}")
    count = len(found.doubtful.lesions)
    more = f"; {count - MOST_NAMED} more in the table" if count > MOST_NAMED else ""
    places = "1 place that the map shows is" if count == 1 else f"{count} places that the map shows are"
    return f"{places} not counted as a lesion: {'; '.join(parts)}{more}."
