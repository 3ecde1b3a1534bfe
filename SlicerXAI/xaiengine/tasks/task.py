"""What a task is: its options, what it gives back, and the work itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from ..core.job import ArtifactKind
from ..core.options import TaskOptions
from ..core.progress import Progress

if TYPE_CHECKING:
    import torch

    from ..core.output import OutputFolder
    from ..models.session import Session


OptionsOfTask = TypeVar("OptionsOfTask", bound=TaskOptions)


@dataclass(frozen=True)
class OutputSpec:
    """A file that the task writes, by the role under which ``result.json`` lists it."""

    role: str
    kind: ArtifactKind
    title: str
    description: str
    optional: bool = False


@dataclass(frozen=True)
class ValueSpec:
    """A single number or word that the task returns."""

    name: str
    title: str
    description: str
    type: Literal["float", "integer", "string"] = "float"
    unit: str = ""


@dataclass(frozen=True)
class Expected:
    """What a run takes, said before the work: ``seconds``, ``memory`` in bytes; None where it is not known."""

    text: str
    seconds: float | None = None
    memory: int | None = None

    def values(self) -> dict[str, Any]:
        """As the values of a result."""
        gigabytes = None if self.memory is None else round(self.memory / 2**30, 3)
        return {"estimate": self.text, "estimated_seconds": self.seconds, "estimated_memory_gb": gigabytes}


class EnoughKnown(Exception):
    """Ends a run of which only the estimate is wanted."""

    def __init__(self, expected: Expected) -> None:
        super().__init__(expected.text)
        self.expected = expected


@dataclass
class Context:
    """What a running task is given beside its options."""

    output: OutputFolder
    device: torch.device
    seed: int
    session: Session
    progress: Progress = field(default_factory=Progress)
    log: Callable[[str], None] = lambda text: None
    trust_model: bool = False
    only_estimate: bool = False
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Say something that the reader of the result must know; repeated texts are kept once."""
        if text not in self.warnings:
            self.warnings.append(text)
            self.log(f"Warning: {text}")

    def expect(self, text: str, seconds: float | None = None, memory: int | None = None) -> None:
        """Say what the work that now begins takes; where only that is wanted, the task ends here."""
        self.log(text)
        if self.only_estimate:
            raise EnoughKnown(Expected(text, seconds, memory))


@dataclass(frozen=True)
class Outcome:
    """What a task returns beside its artifacts."""

    values: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


class Task(ABC, Generic[OptionsOfTask]):
    """One task. Subclasses import torch inside :meth:`run` only, so that describing them is quick."""

    name: ClassVar[str]
    title: ClassVar[str]
    description: ClassVar[str]
    Options: type[TaskOptions]
    outputs: ClassVar[tuple[OutputSpec, ...]] = ()
    values: ClassVar[tuple[ValueSpec, ...]] = ()
    needs_model: ClassVar[bool] = True
    estimates: ClassVar[bool] = True
    """Whether it tells :meth:`Context.expect` what it takes."""

    def check(self, options: TaskOptions) -> None:  # noqa: B027 - most tasks have nothing to add
        """Refuse options that cannot work, before torch is imported: names of methods or checks that do not exist.

        Raises OptionError.
        """

    @abstractmethod
    def run(self, options: OptionsOfTask, context: Context) -> Outcome:
        """Do the work: write artifacts through ``context.output`` and return the values."""
