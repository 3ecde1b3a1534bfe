"""Explains deep-learning models on medical scans; knows torch and MONAI and nothing of 3D Slicer.

    import xaiengine as xai

    scan = xai.read_volume("ct.nrrd")
    result = xai.explain(xai.load_model("my_bundle"), scan, methods=["iba", "gradcam"], target="lesion")
    result["iba"].on(scan.grid).save("attribution.nrrd")

Importing it imports nothing else: each name is looked up when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_NAMES = {
    "read_volume": "api.scans",
    "read_segmentation": "io.segmentation_files",
    "Volume": "io.volume",
    "Grid": "io.grid",
    "Segmentation": "io.segmentation",
    "load_model": "api.loading",
    "wrap": "api.modules",
    "shipped_models": "models",
    "explain": "api.explaining",
    "Explanation": "api.results",
    "Result": "api.results",
    "ExplanationWarning": "api.reporting",
    "Target": "api.asking",
    "at_point": "api.asking",
    "at_segment": "api.asking",
    "box": "api.asking",
    "boundary": "api.asking",
    "volume_of": "api.asking",
    "difference": "api.asking",
    "errors": "api.asking",
    "methods": "api.listing",
    "evaluate": "api.evaluating",
    "cohort": "app.commands_cohort",
    "Cohort": "app.commands_cohort",
    "similar_cases": "app.commands_similar",
    "fit_reference": "api.references",
    "XAIError": "core.errors",
    "register": "attribution.registry",
    "AttributionMethod": "attribution.registry",
}

__all__ = [
    "__version__",
    "read_volume",
    "read_segmentation",
    "Volume",
    "Grid",
    "Segmentation",
    "load_model",
    "wrap",
    "shipped_models",
    "explain",
    "Explanation",
    "Result",
    "ExplanationWarning",
    "Target",
    "at_point",
    "at_segment",
    "box",
    "boundary",
    "volume_of",
    "difference",
    "errors",
    "methods",
    "evaluate",
    "cohort",
    "Cohort",
    "similar_cases",
    "fit_reference",
    "XAIError",
    "register",
    "AttributionMethod",
]

if TYPE_CHECKING:
    from .api.asking import Target, at_point, at_segment, boundary, box, difference, errors, volume_of
    from .api.evaluating import evaluate
    from .api.explaining import explain
    from .api.listing import methods
    from .api.loading import load_model
    from .api.modules import wrap
    from .api.references import fit_reference
    from .api.reporting import ExplanationWarning
    from .api.results import Explanation, Result
    from .api.scans import read_volume
    from .app.commands_cohort import Cohort, cohort
    from .app.commands_similar import similar_cases
    from .attribution.registry import AttributionMethod, register
    from .core.errors import XAIError
    from .io.grid import Grid
    from .io.segmentation import Segmentation
    from .io.segmentation_files import read_segmentation
    from .io.volume import Volume
    from .models import shipped_models


def __getattr__(name: str) -> object:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f".{_NAMES[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
