"""Settings of methods given as keywords: checked against the methods that were asked for. Light to import."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ..attribution.registry import AttributionMethod, find_methods
from ..core.errors import OptionError
from ..core.job import explain as complaints

DEFAULT_METHODS = {"segmentation": ["integrated_gradients", "hirescam"]}


REFERENCED_REGRESSION = ["reference_shapley"]
"""Of regression models of which healthy reference scans are known."""


def chosen_methods(
    methods: str | Sequence[str] | None, task: str, referenced: bool = False
) -> list[AttributionMethod]:
    """The methods of a name, of several, or the usual ones of a kind of model, ``referenced`` with healthy scans.

    Raises OptionError with near names for one that is not known.
    """
    if methods is None:
        methods = DEFAULT_METHODS.get(task, ["iba"])
        if task == "regression" and referenced:
            methods = REFERENCED_REGRESSION
    return find_methods([methods] if isinstance(methods, str) else list(methods))


def method_settings(methods: Sequence[AttributionMethod], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of all methods by name, the given ones in place of the defaults.

    Raises OptionError for a setting that none of the methods has, or a value that it cannot have.
    """
    known = sorted({name for method in methods for name in method.Settings.model_fields})
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 2, 0.5)
            remedy = f"Did you mean {' or '.join(near)}?" if near else f"They have: {', '.join(known) or 'none'}."
            asked = ", ".join(method.name for method in methods)
            raise OptionError(f"There is no setting {name!r} of {asked}.", remedy)
    settings: dict[str, Any] = {}
    for method in methods:
        try:
            found = method.Settings.model_validate(
                {name: value for name, value in given.items() if name in method.Settings.model_fields}
            )
        except ValidationError as error:
            raise OptionError(
                f"The settings of {method.name} do not fit: {complaints(error)}.", "Correct the value."
            ) from error
        settings |= dict(found)
    return settings
