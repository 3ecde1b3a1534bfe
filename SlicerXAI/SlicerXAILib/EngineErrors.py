"""Errors that reach the user: what happened, and what can be done about it."""

from __future__ import annotations

from .Translation import tr as _


class EngineError(RuntimeError):
    """A job that did not give a result.

    ``remedy`` says what the user can do; ``details`` (a traceback, the process's last words) is for the log.
    """

    def __init__(self, message: str, remedy: str = "", details: str = "") -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.message = message
        self.remedy = remedy
        self.details = details


class EngineCrashed(EngineError):
    """The engine's process ended in the middle of a job."""


class JobCancelled(EngineError):
    """The user stopped the job."""

    def __init__(self) -> None:
        super().__init__(_("The job was cancelled."))


class NodeError(EngineError):
    """A node that cannot be used as it is."""
