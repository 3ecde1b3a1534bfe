"""What the API gives back: explanations that show and save themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution.explanation import Explanation as PlacedMap
from ..attribution.registry import METHODS
from ..core.errors import OptionError
from ..core.job import write_text_atomically
from ..io.grid import Grid
from ..io.volume import Volume
from ..io.volume_files import write_volume
from .notebook import html_page, map_figure, png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..figures.three_planes import Outline
    from .questions import Question


@dataclass(frozen=True, eq=False)
class Explanation(PlacedMap):
    """What a method says of one target of one scan; a notebook shows it as three planes.

    Attributes:
        map: (I, J, K) float32 on ``grid``, in ``unit``; below 0 is evidence against the target where ``signed``.
        grid: where the map lies in the patient: ``shape``, ``affine`` (voxel to RAS mm), ``spacing``.
        convergence: figures that say how far the map can be trusted (completeness, steps, standard errors).
        notes: what a reader must know.
        extras: further maps on the same grid, by name (variance, other layers).
        scan: the scan that was explained.
    """

    scan: Volume | None = field(default=None, repr=False)
    question: Question | None = field(default=None, repr=False)
    structure: np.ndarray | None = field(default=None, repr=False)

    @property
    def uncertainty(self) -> np.ndarray | None:
        """SD of the map over repeated runs, (I, J, K) in its unit; None where ``uncertainty`` was not asked for."""
        return self.extras.get("uncertainty")

    def on(self, grid: Grid | Volume) -> Explanation:
        """The explanation on another grid of the same patient (a scan stands for its grid), 0 outside its own.

        Interpolated linearly; amounts per voxel are scaled, so that sums over a region stay.
        """
        return super().on(grid.grid if isinstance(grid, Volume) else grid)  # type: ignore[return-value]

    def save(self, path: str | Path) -> Path:
        """Write the map as NRRD, in the geometry of its grid.

        Raises InputError for a name that does not end in .nrrd, ResourceError when the disk is full.
        """
        return write_volume(Path(path).expanduser(), self.volume())

    def figure(self, theme: str = "dark") -> Figure:
        """Three planes through the strongest voxel, as a matplotlib figure. ``theme`` is ``dark`` or ``print``."""
        return map_figure([self], self.scan, self._outlines(), theme)

    def _outlines(self) -> list[Outline]:
        if self.structure is None:
            return []
        from ..figures.three_planes import Outline

        return [Outline(self.structure, self.target)]

    def _repr_png_(self) -> bytes:
        return png_bytes(self.figure())

    def _repr_html_(self) -> str:
        rows = {"method": self.title, "target": self.target, "unit": self.unit, **_rounded(self.convergence)}
        return html_page(rows, self.notes, self._repr_png_())


class Result(Mapping[str, Explanation]):
    """Explanations by method: ``result["iba"]``, other spellings too (``result["Grad-CAM"]``).

    Several targets or layers give keys such as ``"hirescam/vessel"`` or ``"gradcam/layer4"``.

    Attributes:
        scan: the scan that was explained.
        target: the explained number in words.
        value: that number for the scan; None for several targets.
        prediction: what the model says: probabilities by label, or volumes in mL.
        notes: what was assumed and must be known, of all methods.
        seconds: that the methods took.
    """

    def __init__(
        self,
        explanations: Mapping[str, Explanation],
        scan: Volume,
        *,
        target: str,
        value: float | None,
        prediction: Mapping[str, float],
        notes: tuple[str, ...],
        provenance: Mapping[str, Any],
    ) -> None:
        self._explanations = dict(explanations)
        self.scan, self.target, self.value = scan, target, value
        self.prediction, self.notes, self.provenance = dict(prediction), notes, dict(provenance)
        self.seconds = float(sum({item.method: item.provenance["seconds"] for item in self.values()}.values()))

    @property
    def uncertainty(self) -> Mapping[str, Any] | None:
        """The runs over which the uncertainty was measured, SDs of target and prediction; None where it was not."""
        return self.provenance.get("uncertainty")

    def __getitem__(self, key: str) -> Explanation:
        if key in self._explanations:
            return self._explanations[key]
        method = METHODS.resolved(key)
        if method is not None and method.name in self._explanations:
            return self._explanations[method.name]
        raise KeyError(f"{key!r}; there are {', '.join(self._explanations)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._explanations)

    def __len__(self) -> int:
        return len(self._explanations)

    def __repr__(self) -> str:
        return f"<Result: {', '.join(self)} of {self.target} in {self.scan.name or 'the scan'}>"

    def figure(self, theme: str = "dark") -> Figure:
        """All maps, a row of three planes for each, as a matplotlib figure (the first eight of them)."""
        items = list(self.values())
        return map_figure(items, self.scan, items[0]._outlines(), theme, f"{self.scan.name} {self.target}".strip())

    def save(self, folder: str | Path, theme: str = "dark") -> Path:
        """Write every map (NRRD, on the scan's grid), the picture, and ``summary.json`` into a folder.

        Raises OptionError when it is a file, ResourceError when the disk is full.
        """
        folder = Path(folder).expanduser()
        if folder.exists() and not folder.is_dir():
            raise OptionError(f"{folder} is a file, not a folder.", "Name a folder for the results.")
        folder.mkdir(parents=True, exist_ok=True)
        for key, item in self.items():
            item.on(self.scan.grid).save(folder / f"{key.replace('/', '-')}.nrrd")
        (folder / "picture.png").write_bytes(png_bytes(self.figure(theme)))
        write_text_atomically(folder / "summary.json", json.dumps(self.summary(), indent=2, ensure_ascii=False) + "\n")
        return folder

    def report(self, path: str | Path = "report.html", *, with_scan: bool = True) -> Path:
        """Write one HTML page about the result and return its path: answer, checks, interactive planes, tables.

        It asks nothing of the network. ``with_scan=False`` leaves the planes, and every voxel of the scan, out.

        Raises ResourceError when it cannot be written.
        """
        from .report_folder import report_of

        return report_of(self, Path(path).expanduser(), with_scan)

    def summary(self) -> dict[str, Any]:
        """Everything but the maps, as plain values."""
        return {
            "scan": self.scan.name,
            "target": self.target,
            "value": self.value,
            "prediction": self.prediction,
            "maps": {
                key: {
                    "method": item.method,
                    "target": item.target,
                    "unit": item.unit,
                    "layer": item.layer,
                    "convergence": {name: _plain(value) for name, value in item.convergence.items()},
                    "notes": list(item.notes),
                    "seconds": item.provenance["seconds"],
                }
                for key, item in self.items()
            },
            "notes": list(self.notes),
            "provenance": self.provenance,
        }

    def _repr_png_(self) -> bytes:
        return png_bytes(self.figure())

    def _repr_html_(self) -> str:
        rows: dict[str, Any] = {"scan": self.scan.name, "target": self.target}
        if self.value is not None:
            rows["value"] = f"{self.value:.4g}"
        rows |= {f"prediction, {label}": f"{found:.3g}" for label, found in list(self.prediction.items())[:8]}
        return html_page(rows, self.notes, self._repr_png_())


def explanation_from(placed: PlacedMap, **more: Any) -> Explanation:
    """A method's map as an explanation of the API."""
    known = {name: getattr(placed, name) for name in PlacedMap.__dataclass_fields__}
    return replace(Explanation(**known), **more)


def _rounded(figures: Mapping[str, float]) -> dict[str, str]:
    return {name.replace("_", " "): f"{value:.3g}" for name, value in figures.items()}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
