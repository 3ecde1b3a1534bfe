"""From what a method gave to explanations in the patient's coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..inference.scan_view import ScanView
from .explanation import Explanation
from .forward import Attribution
from .lattice_maps import continued
from .runner import Finished
from .whole_case import WholeCase
from .window_case import WindowCase


def whole_explanation(finished: Finished, case: WholeCase, view: ScanView, rows: np.ndarray) -> Explanation:
    """A prediction's map on the grid that the network sees; those at further layers come as its extras."""
    found, method = finished.attribution, finished.method

    def volume(values: torch.Tensor) -> np.ndarray:
        return view.volume_of(values.sum(1).float().cpu().numpy(), rows)

    layers = case.bottleneck_layers if method.family == "information" else case.layers
    extras = {name: volume(values) for name, values in found.extras.items()}
    extras |= {other.layer: volume(other.map) for other in found.others}
    return Explanation(
        map=volume(found.map),
        grid=view.grid,
        method=method.name,
        title=method.title,
        target=case.target.name,
        unit=found.unit or method.unit,
        signed=method.signed,
        convergence=found.convergence,
        extras=extras,
        notes=found.notes + tuple(filter(None, [method.caution_for(case.kind)])),
        provenance={
            "method": method.name,
            "layers": list(layers) if method.uses_layers else [],
            "seconds": round(finished.seconds, 3),
            "device": finished.device,
            "batch_size": case.batch_size,
        },
        layer=found.layer,
        family=method.family,
    )


def window_explanations(finished: Finished, case: WindowCase) -> list[Explanation]:
    """A segmentation's maps, layer by layer and target by target, each on the grid that it was made on."""
    method = finished.method
    explanations = []
    for found in (*finished.attribution.others, finished.attribution):
        for row, chosen in enumerate(case.chosen):
            explanation = _placed(found, row, case)
            explanations.append(
                replace(
                    explanation,
                    method=method.name,
                    title=method.title,
                    target=chosen.target.name,
                    unit=found.unit or method.unit,
                    signed=method.signed,
                    convergence=found.by_row[row] if found.by_row else found.convergence,
                    notes=found.notes + tuple(filter(None, [method.caution_for(case.kind)])),
                    provenance={
                        "method": method.name,
                        "layers": [found.layer] if found.layer else [],
                        "seconds": round(finished.seconds, 3),
                        "device": finished.device,
                        "batch_size": case.scan.windows.batch_size,
                    },
                    layer=found.layer,
                    row=row,
                    family=method.family,
                )
            )
    return explanations


def _placed(found: Attribution, row: int, case: WindowCase) -> Explanation:
    values = found.map[row].detach().float().cpu().numpy()
    if found.lattice is not None:
        array, grid = continued(values[0], found.lattice.grid(case.scan.grid), found.lattice)
        return Explanation(array, grid, "", "", "")
    channels = values if len(values) > 1 else None
    extras = {name: extra[row].sum(0).detach().float().cpu().numpy() for name, extra in found.extras.items()}
    return Explanation(values.sum(0), case.scan.grid, "", "", "", extras=extras, channels=channels)


def tell_notes(explanation: Explanation, warn: Callable[[str], None]) -> None:
    """Report what a reader of a map must know. An all-zero map is reported, not scaled up."""
    for note in explanation.notes:
        warn(note if note.startswith(explanation.title) else f"{explanation.title}: {note}")
    if explanation.is_empty:
        warn(
            f"{explanation.title} is zero everywhere: it finds nothing in this scan that supports the "
            f"{explanation.target}."
        )
