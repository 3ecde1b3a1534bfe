"""Reads a MONAI bundle's configuration without running any of it.

The meaning is that of ``monai.bundle.ConfigParser``: ``@id`` references, ``%`` macros, ``$`` expressions and
``_target_`` components. A component is not built here but handed on as a :class:`Component`, from which the loader
of its kind makes what it allows.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ...core.errors import ModelError, TrustError
from .allowed import check_target, find_network_class
from .expressions import TRUST_REMEDY, evaluate, is_expression

DEEPEST = 60
MOST_NODES = 100_000
LARGEST_YAML = 256 * 1024
SEPARATOR = "::"

_RELATIVE = re.compile(r"([@%])((?:::)+)")
_NOT_ARGUMENTS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}


class _MissingEntry(ModelError):
    """A reference to an entry that does not exist."""


@dataclass(frozen=True)
class Component:
    """A ``_target_`` entry with its arguments resolved; ``where`` is its id in the configuration."""

    target: str
    arguments: Mapping[str, Any]
    where: str

    @property
    def short_name(self) -> str:
        return self.target.rpartition(".")[2]


def parse_config(text: str, name: str) -> Any:
    """The content of a .json or .yaml file. Tags that build Python objects are refused."""
    try:
        if PurePosixPath(name).suffix.lower() in (".yaml", ".yml"):
            content = _parse_yaml(text, name)
        else:
            content = json.loads(text)
    except RecursionError:
        raise TrustError(f"{name} is nested too deeply to be read.", TRUST_REMEDY) from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{name} is not valid JSON: {error}.", "Correct the file.") from error
    _check_size(content, name)
    return content


def _parse_yaml(text: str, name: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ModelError(f"Reading {name} needs PyYAML.", "Install it with: pip install pyyaml") from error
    if len(text) > LARGEST_YAML:
        raise TrustError(f"{name} has {len(text)} characters; at most {LARGEST_YAML} are read.", TRUST_REMEDY)
    try:
        return yaml.load(text, Loader=yaml.SafeLoader)
    except yaml.constructor.ConstructorError as error:
        raise TrustError(
            f"{name} asks for an object that a configuration may not hold: {error.problem}.", TRUST_REMEDY
        ) from error
    except yaml.YAMLError as error:
        raise ModelError(f"{name} is not valid YAML: {error}.", "Correct the file.") from error


def _check_size(content: Any, name: str) -> None:
    """Refuse content that is nested too deeply, in itself, or grows through YAML aliases."""
    count = 0
    pending = [(content, 0)]
    while pending:
        value, depth = pending.pop()
        count += 1
        if count > MOST_NODES or depth > DEEPEST:
            raise TrustError(f"{name} is nested too deeply or holds too much to be a configuration.", TRUST_REMEDY)
        if isinstance(value, dict):
            if not all(isinstance(key, (str, int, float, bool)) for key in value):
                raise ModelError(f"{name} has keys that are no names.", "Correct the file.")
            pending.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            pending.extend((item, depth + 1) for item in value)


class SafeConfig:
    """A configuration whose entries are resolved one by one, only when asked for.

    ``read_file`` gives the parsed content of another file of the same model (for ``%file.json::id``), and raises
    for names outside of it; ``read_tensors`` gives what a file of ``torch.save`` of the model holds, read without
    running anything of it (for ``$torch.load(...)``).
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        read_file: Callable[[str], Any] | None = None,
        read_tensors: Callable[[str], Any] | None = None,
    ) -> None:
        self._content = merged({}, content)
        self._read_file = read_file
        self._read_tensors = read_tensors
        self._resolved: dict[str, Any] = {}
        self._open: list[str] = []
        self._copied = 0

    def __contains__(self, identifier: str) -> bool:
        try:
            self.raw(identifier)
        except _MissingEntry:
            return False
        return True

    def raw(self, identifier: str) -> Any:
        """The entry as written, with macros replaced. Raises ModelError when there is none."""
        value: Any = self._content
        path: list[str] = []
        for key in _split(identifier):
            value = self._expanded(value, SEPARATOR.join(path))
            value = _child(value, key, identifier)
            path.append(key)
        return self._expanded(value, SEPARATOR.join(path))

    def resolve(self, identifier: str) -> Any:
        """The value of an entry: plain values, and :class:`Component` for ``_target_`` entries.

        Raises:
            TrustError: it needs code to be run, or a file outside the model.
            ModelError: it does not exist, or refers to itself.
        """
        identifier = _normalized(identifier)
        if identifier in self._resolved:
            return self._resolved[identifier]
        if identifier in self._open:
            circle = " -> ".join([*self._open[self._open.index(identifier) :], identifier])
            raise TrustError(f"The configuration refers to itself: {circle}.", "Correct the references.")
        if len(self._open) > DEEPEST:
            raise TrustError("The references of the configuration are nested too deeply.", TRUST_REMEDY)
        self._open.append(identifier)
        try:
            value = self._value(self.raw(identifier), identifier, 0)
        finally:
            self._open.pop()
        self._resolved[identifier] = value
        return value

    def get(self, identifier: str, default: Any = None) -> Any:
        """As :meth:`resolve`, but ``default`` for an entry that does not exist."""
        return self.resolve(identifier) if identifier in self else default

    def _value(self, value: Any, where: str, depth: int) -> Any:
        self._count(where, depth)
        if isinstance(value, str):
            return self._text(value, where)
        if isinstance(value, dict) and "_target_" in value:
            return self._component(value, where, depth)
        if isinstance(value, (dict, list)):
            return self._container(value, where, depth)
        return value

    def _container(self, value: dict | list, where: str, depth: int) -> Any:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        made = []
        for key, item in pairs:
            place = f"{where}{SEPARATOR}{key}" if where else str(key)
            item = self._expanded(item, place)
            result = self._value(item, place, depth + 1)
            if result is None and isinstance(item, dict) and "_target_" in item:
                continue  # a disabled component
            made.append((key, result))
        return dict(made) if isinstance(value, dict) else [result for _, result in made]

    def _component(self, value: dict[str, Any], where: str, depth: int) -> Component | None:
        if _is_true(self._value(value.get("_disabled_", False), f"{where}{SEPARATOR}_disabled_", depth + 1)):
            return None
        target = check_target(value["_target_"], where)
        mode = value.get("_mode_", "default")
        if mode not in ("default", "callable"):
            raise TrustError(f"The mode {mode!r} of {target} at {where} would run code.", TRUST_REMEDY)
        if mode == "callable":
            raise TrustError(f"{target} at {where} is asked for as a function, not as an object.", TRUST_REMEDY)
        for name in ("_requires_",):
            if name in value:
                self._value(value[name], f"{where}{SEPARATOR}{name}", depth + 1)
        arguments = {str(key): item for key, item in value.items() if key not in _NOT_ARGUMENTS}
        return Component(target, self._container(arguments, where, depth), where)

    def _text(self, text: str, where: str) -> Any:
        text = _absolute(text, where)
        if is_expression(text):
            return evaluate(text, self.resolve, find_network_class, where, self._read_tensors)
        if re.fullmatch(r"@\w*(?:(?:::|#)+\w+)*", text):
            return self.resolve(text[1:])
        return text

    def _expanded(self, value: Any, where: str, depth: int = 0) -> Any:
        """The content that a ``%`` macro stands for; any other value as it is."""
        if not isinstance(value, str) or not value.startswith("%"):
            return value
        if depth > DEEPEST:
            raise TrustError(f"The macros at {where} refer to each other without end.", TRUST_REMEDY)
        text = _absolute(value, where)[1:]
        match = re.fullmatch(r"(.*?\.(?:json|ya?ml))?(?:::)?(.*)", text, re.IGNORECASE | re.DOTALL)
        file, identifier = match[1], match[2]
        if file:
            if self._read_file is None:
                raise TrustError(f"{value!r} at {where} asks for another file.", TRUST_REMEDY)
            content = self._read_file(file)
        else:
            content = self._content
        for key in _split(identifier):
            try:
                content = _child(content, key, identifier)
            except _MissingEntry as error:
                raise ModelError(error.message, error.remedy) from None
            content = self._expanded(content, identifier, depth + 1)
        content = self._expanded(content, identifier, depth + 1)
        _check_size(content, f"The content of {value!r}")
        return copy.deepcopy(content)

    def _count(self, where: str, depth: int) -> None:
        self._copied += 1
        if self._copied > MOST_NODES or depth > DEEPEST:
            raise TrustError(f"The configuration grows without end at {where}.", TRUST_REMEDY)


def merged(base: dict[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the entries of ``content`` set, as MONAI merges several files.

    A key ``a::b`` reaches into entry a; a key with ``+`` in front adds to a list or mapping instead of replacing it.
    """
    made = copy.deepcopy(base)
    for raw_key, value in content.items():
        adding = str(raw_key).startswith("+")
        keys = _split(str(raw_key)[1:] if adding else str(raw_key))
        place = made
        for key in keys[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[int(key)]
        last = keys[-1] if isinstance(place, dict) else int(keys[-1])
        before = place.get(last) if isinstance(place, dict) else place[last]
        if adding and isinstance(before, list) and isinstance(value, list):
            value = before + value
        elif adding and isinstance(before, dict) and isinstance(value, dict):
            value = {**before, **value}
        place[last] = value
    return made


def _normalized(identifier: str) -> str:
    return identifier.replace("#", SEPARATOR)


def _split(identifier: str) -> list[str]:
    return [key for key in _normalized(identifier).split(SEPARATOR) if key != ""]


def _child(value: Any, key: str, identifier: str) -> Any:
    try:
        if isinstance(value, dict):
            return value[key] if key in value else value[int(key)]
        if isinstance(value, list):
            return value[int(key)]
    except (KeyError, ValueError, IndexError):
        pass
    raise _MissingEntry(
        f"The model's configuration has no entry {identifier!r}.", "Check the references in its configs folder."
    )


def _absolute(text: str, where: str) -> str:
    """Replace relative ids: ``@::x`` is a sibling of the entry, ``@::::x`` a sibling of its parent."""
    if not text.startswith(("@", "%", "$")):
        return text
    text = _normalized(text) if not text.startswith("%") else text.replace("#", SEPARATOR)

    def prefix(match: re.Match[str]) -> str:
        parent = where.split(SEPARATOR)[: -len(match[2]) // len(SEPARATOR)]
        return match[1] + "".join(part + SEPARATOR for part in parent)

    return _RELATIVE.sub(prefix, text)


def _is_true(value: Any) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)
