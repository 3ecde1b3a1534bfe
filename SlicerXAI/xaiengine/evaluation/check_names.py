"""Names of the checks of an explanation. Light to import."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ..core.errors import OptionError

CHECK_NAMES = (
    "insertion_deletion",
    "tiles",
    "sensitivity_n",
    "infidelity",
    "sensitivity_max",
    "randomization",
    "run_to_run",
    "localization",
)
"""What evaluate-explanation can check, in the order in which it does."""

ALIASES = {"randomisation": "randomization", "localisation": "localization", "ehr": "localization"}
"""Other spellings, among them those of earlier versions."""


def checked_names(names: Sequence[str]) -> list[str]:
    """The checks of a list, each once. Raises OptionError for an unknown name or an empty list."""
    plain = [name.strip().lower().replace("-", "_").replace(" ", "_") for name in names if name.strip()]
    found = list(dict.fromkeys(ALIASES.get(name, name) for name in plain))
    unknown = next((name for name in found if name not in CHECK_NAMES), None)
    if unknown is not None:
        near = difflib.get_close_matches(unknown, CHECK_NAMES, 2, 0.5)
        raise OptionError(
            f"There is no check called {unknown!r}.",
            f"Did you mean {' or '.join(near)}?" if near else f"Choose from {', '.join(CHECK_NAMES)}.",
        )
    if not found:
        raise OptionError("No check was named.", f"Choose from {', '.join(CHECK_NAMES)}.")
    return found
