"""Attribution methods: each is one class in one file that registers itself, for predictions and segmentations alike.

    @register
    class GradientNorm(AttributionMethod):
        name, title, family = "gradient_norm", "Gradient norm", "gradient"
        needs, signed = ("differentiable",), False

        def passes(self, case):
            return case.gradient_pass()

        def run(self, case):
            from xaiengine.attribution.forward import Attribution

            gradient = case.forward().gradient(case.inputs)
            return Attribution(gradient.norm(dim=1, keepdim=True))

Light to import: methods import torch inside ``run``. They are found in the package ``xaiengine.attribution.methods``,
in installed packages that offer the entry point ``slicerxai.methods``, and in files that a user names and trusts.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from ..core.errors import InputError, OptionError
from .passes import KINDS, Kind, Passes

if TYPE_CHECKING:
    from .case import Case
    from .forward import Attribution

Family = Literal["information", "gradient", "cam", "layer", "perturbation"]
FAMILIES: tuple[str, ...] = ("information", "gradient", "cam", "layer", "perturbation")
Need = Literal["layers", "free_batch", "differentiable"]
ENTRY_POINTS = "slicerxai.methods"
BRIGHTNESS_EFFECT = 0.43
"""What the brightness of the picture reaches, which knows nothing of the model (see ``AttributionMethod.effect``)."""
RESIDUE = "Its map stays partly the same when the model's weights are random; do not rely on it alone."


class MethodSettings(BaseModel):
    """Base of a method's own settings; fields are declared by :func:`xaiengine.core.options.option`.

    Fields of the same name in several methods are one option of the tasks, so they must be declared alike.
    """

    model_config = ConfigDict(extra="ignore", validate_default=True, protected_namespaces=())


class AttributionMethod(ABC):
    """A method of attribution. Subclasses set the class variables that differ and write ``passes`` and ``run``.

    Attributes:
        name: as users write it, in snake case; ``aliases`` are accepted too, hyphens and capitals do not matter.
        needs: of the model: ``differentiable``, ``layers`` (it can be looked into), ``free_batch`` (several inputs at
            once).
        signed: whether values below 0 are evidence against the target.
        unit: of the map's values, where the result does not name another.
        per_input_unit: a plain derivative, whose size and not its sign orders the voxels.
        unreliable_on: kinds of model on which its map stays partly the same when the weights are random (rank
            correlation above 0.2 on planted scans), ``caution`` is what its users read then.
        sanity: that rank correlation by kind of model, as the benchmarks print it.
        effect: by kind of model, how the map's sums in six lung zones of real X-rays agree with what the model makes
            of each zone (correlation without the means of images and zones, benchmark ``severity``); maps below
            :data:`BRIGHTNESS_EFFECT`, which the brightness of the picture reaches, come with a caution.
        recommended_on: kinds of model for which it is the documented choice.
        Settings: the method's own options.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[Family]
    aliases: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[Need, ...]] = ()
    signed: ClassVar[bool] = True
    unit: ClassVar[str] = "change per voxel"
    per_input_unit: ClassVar[bool] = False
    unreliable_on: ClassVar[tuple[Kind, ...]] = ()
    caution: ClassVar[str] = RESIDUE
    sanity: ClassVar[Mapping[str, float]] = {}
    effect: ClassVar[Mapping[str, float]] = {}
    recommended_on: ClassVar[tuple[Kind, ...]] = ()
    Settings: ClassVar[type[MethodSettings]] = MethodSettings

    @abstractmethod
    def passes(self, case: Case) -> Passes:
        """What ``run`` takes on a case, as far as it can be known before."""

    @abstractmethod
    def run(self, case: Case) -> Attribution:
        """The map of every explained row of the case."""

    def settings(self, case: Case) -> Any:
        """This method's settings, from those of the case."""
        return self.Settings.model_validate(dict(case.settings))

    @property
    def uses_layers(self) -> bool:
        return self.family in ("cam", "layer") or "layers" in self.needs

    @property
    def sane(self) -> bool:
        """Whether its maps depend on what the model has learned, for every kind of model that was measured."""
        return not self.unreliable_on

    def caution_for(self, kind: str) -> str:
        """What to report beside its maps; empty when they passed the checks for this kind of model."""
        texts = [self.caution] if kind in self.unreliable_on else []
        effect = self.effect.get(kind)
        if effect is not None and effect < BRIGHTNESS_EFFECT:
            texts.append(
                f"On real X-rays its map followed what the model makes of each region (r {effect:.2f}) no better than "
                f"the brightness of the picture does ({BRIGHTNESS_EFFECT:.2f})."
            )
        return " ".join(texts)


class _Registry(Mapping[str, AttributionMethod]):
    """Methods by name, in the order of the families and of their names; filled when first looked into."""

    def __init__(self) -> None:
        self._methods: dict[str, AttributionMethod] = {}
        self._spellings: dict[str, str] = {}
        self._found = False
        self.version = 0
        """Counts registrations, so that options made from the methods can be made again."""

    def add(self, method: AttributionMethod) -> None:
        if not type(method).__module__.startswith(f"{__package__}.methods."):
            self._discover()  # so that a name that is taken is refused now, not when the others are found
        known = self._methods.get(method.name)
        if known is not None and type(known).__qualname__ != type(method).__qualname__:
            raise OptionError(f"There are two methods called {method.name!r}.", "Give the new one another name.")
        for spelling in (method.name, *method.aliases):
            owner = self._spellings.get(squeezed(spelling), method.name)
            if owner != method.name:
                raise OptionError(f"{spelling!r} already names the method {owner}.", "Choose another name.")
        _check_fields(method, [other for name, other in self._methods.items() if name != method.name])
        self._methods[method.name] = method
        self._spellings |= {squeezed(spelling): method.name for spelling in (method.name, *method.aliases)}
        self.version += 1

    def remove(self, name: str) -> None:
        """Forget a method (tests that register one clean up with this)."""
        self._methods.pop(name, None)
        self._spellings = {spelling: owner for spelling, owner in self._spellings.items() if owner != name}
        self.version += 1

    def resolved(self, name: str) -> AttributionMethod | None:
        self._discover()
        owner = self._spellings.get(squeezed(name))
        return self._methods[owner] if owner else None

    def _discover(self) -> None:
        if self._found:
            return
        self._found = True
        from . import methods

        for module in pkgutil.iter_modules(methods.__path__):
            importlib.import_module(f"{methods.__name__}.{module.name}")
        for point in entry_points(group=ENTRY_POINTS):
            point.load()

    def __getitem__(self, name: str) -> AttributionMethod:
        self._discover()
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._methods, key=lambda name: (FAMILIES.index(self._methods[name].family), name)))

    def __len__(self) -> int:
        self._discover()
        return len(self._methods)


__all__ = [
    "METHODS",
    "AttributionMethod",
    "Kind",
    "MethodSettings",
    "Passes",
    "find_method",
    "find_methods",
    "register",
]
METHODS = _Registry()
AnyMethod = TypeVar("AnyMethod", bound=type[AttributionMethod])


def register(method: AnyMethod) -> AnyMethod:
    """Class decorator: the method can be named by users from now on.

    Raises OptionError when its name is taken, or an option of its name is declared otherwise by another method.
    """
    METHODS.add(method())
    return method


def squeezed(name: str) -> str:
    """A name without capitals, spaces, hyphens and underscores: ``Grad-CAM`` and ``grad_cam`` are the same."""
    return "".join(letter for letter in name.strip().lower().replace("×", "x") if letter not in " -_")


def find_method(name: str) -> AttributionMethod:
    """The method of this name or former name. Raises OptionError with near names."""
    found = METHODS.resolved(name)
    if found is not None:
        return found
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    near = difflib.get_close_matches(plain, METHODS, n=3, cutoff=0.4) or list(METHODS)
    raise OptionError(f"There is no method called {name!r}.", f"Did you mean {', '.join(near)}?")


def find_methods(names: list[str]) -> list[AttributionMethod]:
    """The methods of a list, each once. Raises OptionError for an unknown name or an empty list."""
    found = list(dict.fromkeys(find_method(name) for name in names if name.strip()))
    if not found:
        raise OptionError("No method was named.", "Name one or more, for example iba, integrated_gradients.")
    return found


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise OptionError for a setting that no method knows."""
    known = {name for method in METHODS.values() for name in method.Settings.model_fields}
    unknown = sorted(set(settings) - known)
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.4) or sorted(known)
        raise OptionError(f"No method has a setting {unknown[0]!r}.", f"Did you mean {', '.join(near)}?")


def unreliable(kind: Kind | None = None) -> list[str]:
    """Names of the methods that are marked, for one kind of model or for any."""
    kinds = KINDS if kind is None else (kind,)
    return [name for name, method in METHODS.items() if any(each in method.unreliable_on for each in kinds)]


def recommended(kind: Kind) -> list[str]:
    """Names of the methods that are the documented choice for a kind of model."""
    return [name for name, method in METHODS.items() if kind in method.recommended_on]


def load_methods(path: Path | str, trusted: bool) -> None:
    """Run a Python file that registers methods.

    Raises OptionError when the file was not declared trusted, InputError when it cannot be run.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise InputError(f"There is no file {path} with methods.", "Check the path.")
    if not trusted:
        raise OptionError(
            f"The file {path.name} with methods is a program, and would run.",
            "Read it, and run it with --trust-model if you trust it.",
        )
    METHODS._discover()
    name = f"slicerxai_methods_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is no Python file.", "Name a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except OptionError:
        raise
    except Exception as error:
        raise InputError(f"The file {path.name} with methods failed: {type(error).__name__}: {error}.") from error


def _check_fields(method: AttributionMethod, others: list[AttributionMethod]) -> None:
    for name, field in method.Settings.model_fields.items():
        for other in others:
            known = other.Settings.model_fields.get(name)
            if known is not None and repr(known) != repr(field):
                raise OptionError(
                    f"The setting {name} of {method.name} is declared otherwise than that of {other.name}.",
                    "Use the same declaration, or another name.",
                )
