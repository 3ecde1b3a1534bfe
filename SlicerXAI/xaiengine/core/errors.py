"""Errors that a user can act on: each says what was found, what was expected and what to do."""

from __future__ import annotations


class XAIError(Exception):
    """An error with its remedy.

    ``message`` names the file or option, what was found and what was expected; ``remedy`` is one sentence
    that says what the user can do. Both reach the user, the traceback only the log.
    """

    kind = "error"

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(XAIError):
    """A file or volume that cannot be used as it is."""

    kind = "input"


class OptionError(XAIError):
    """An option whose value is not allowed, or a combination that is not."""

    kind = "option"


class ModelError(XAIError):
    """A model that cannot be loaded, or to which the chosen method does not apply."""

    kind = "model"


class TrustError(ModelError):
    """A model that asks for code to be run and that the user has not declared trusted."""

    kind = "trust"


class ResourceError(XAIError):
    """Not enough memory or disk, or no such device."""

    kind = "resource"


class CancelledError(XAIError):
    """The user asked the job to stop."""

    kind = "cancelled"

    def __init__(self, message: str = "The job was cancelled.", remedy: str = "") -> None:
        super().__init__(message, remedy)
