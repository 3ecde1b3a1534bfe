"""What the engine can be asked to do: one file per task, found by name, loaded when first asked for."""

from __future__ import annotations

import difflib
from importlib import import_module

from ..core.errors import OptionError
from .task import Context, Outcome, OutputSpec, Task, ValueSpec

__all__ = ["Context", "Outcome", "OutputSpec", "Task", "ValueSpec", "TASKS", "find_task"]

TASKS = {
    "quantify-lesions": "quantify_lesions.task:QuantifyLesions",
    "fit-reference": "fit_reference.task:FitReference",
    "explain-prediction": "explain_prediction.task:ExplainPrediction",
    "evaluate-explanation": "evaluate_explanation.task:EvaluateExplanation",
    "explain-segmentation": "explain_segmentation.task:ExplainSegmentation",
    "dissect": "dissect.task:Dissect",
    "explain-semantics": "explain_semantics.task:ExplainSemantics",
    "find-directions": "find_directions.task:FindDirections",
    "explain-counterfactual": "explain_counterfactual.task:ExplainCounterfactual",
    "train-generator": "train_generator.task:TrainGenerator",
}


def find_task(name: str) -> Task:
    """The task of this name. Raises OptionError with the nearest names when there is none."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=3, cutoff=0.3) or sorted(TASKS)
        raise OptionError(f"There is no task called {name!r}.", f"Did you mean {' or '.join(near)}?")
    module, _, attribute = TASKS[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)()
