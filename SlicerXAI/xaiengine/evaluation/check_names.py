"""Names of the checks of an explanation. Light to import."""

from __future__ import annotations

CHECK_NAMES = (
    "insertion_deletion",
    "tiles",
    "sensitivity_n",
    "infidelity",
    "sensitivity_max",
    "randomisation",
    "run_to_run",
    "localisation",
)
"""What evaluate-explanation can check, in the order in which it does."""
