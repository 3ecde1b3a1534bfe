"""PySide6 made to behave as PythonQt does in Slicer: properties are attributes, signals are named in strings.

``label.text = "a"``, ``button.connect("clicked(bool)", slot)``, ``widget.delete()``. A signal that does not exist is
an error here (PythonQt only prints it), so that a misspelled connection fails its test.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

single_shot = QtCore.QTimer.singleShot
"""``QTimer.singleShot(0, function)``, which PythonQt offers beside the property of this name."""
_done: set[type] = set()
_CONNECTIONS = "_pythonqt_connections"


def install() -> None:
    """Change the classes of PySide6, once per process."""
    if QtCore.QObject in _done:
        return
    _keep_constants_alive()
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            turn_properties_into_attributes(getattr(module, name))
    _replace_connect()
    _refuse_unknown_attributes()
    QtCore.QObject.name = property(lambda self: self.objectName, lambda self, name: self.setObjectName(name))
    QtCore.QObject.delete = lambda self: self.deleteLater()
    QtCore.QObject.className = lambda self: type(self).__name__


def _keep_constants_alive() -> None:
    """PySide 6.12 gives back one reference to True or None too many with each signal that reaches a Python function.

    From Python 3.12 on these objects are not counted; before that the interpreter would end once the count is 0.
    """
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def turn_properties_into_attributes(cls: Any) -> Any:
    """Make each Qt property of a class a Python property; the getter of the same name vanishes, as in PythonQt."""
    if not isinstance(cls, type) or not issubclass(cls, QtCore.QObject) or cls in _done:
        return cls
    for base in cls.__mro__[1:]:
        turn_properties_into_attributes(base)
    _done.add(cls)
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        _set_property(cls, meta.property(index))
    return cls


def _set_property(cls: type, declared: QtCore.QMetaProperty) -> None:
    name = declared.name()
    if type(cls.__dict__.get(name)) in (QtCore.Property, property):
        return
    capital = name[0].upper() + name[1:]
    getter = _method(cls, (name, "is" + capital, "has" + capital))
    setter = _method(cls, ("set" + capital,))

    def read(self: Any) -> Any:
        return getter(self) if getter is not None else QtCore.QObject.property(self, name)

    number = declared.typeName() in ("int", "uint", "double", "float")
    text = declared.typeName() == "QString"

    def write(self: Any, value: Any) -> None:
        if number and (value is None or isinstance(value, str)):
            raise ValueError(f"Property {name!r} of type {declared.typeName()} does not accept {value!r}.")
        value = str(value) if text and value is None else value  # PythonQt shows the word
        if setter is not None:
            setter(self, value)
        elif not QtCore.QObject.setProperty(self, name, value):
            raise AttributeError(name)

    setattr(cls, name, property(read, write if declared.isWritable() else None))


def _method(cls: type, names: tuple[str, ...]) -> Callable[..., Any] | None:
    for name in names:
        for base in cls.__mro__:
            found = base.__dict__.get(name)
            if found is not None and type(found) not in (property, QtCore.Property, QtCore.Signal):
                return found
    return None


def _replace_connect() -> None:
    # Shiboken answers "connect" before it looks into the type's dictionary, so that the look-up itself is replaced.
    look_up = QtCore.QObject.__getattribute__

    def attribute(self: Any, name: str) -> Any:
        if name == "connect":
            return types.MethodType(connect, self)
        if name == "disconnect":
            return types.MethodType(disconnect, self)
        return look_up(self, name)

    QtCore.QObject.__getattribute__ = attribute


def _refuse_unknown_attributes() -> None:
    """A widget has no attribute but its properties: the module's code may not invent one. The host's own may."""
    assign = QtCore.QObject.__setattr__

    def attribute(self: Any, name: str, value: Any) -> None:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("SlicerXAI") and not hasattr(type(self), name):
            raise AttributeError(f"{name} does not exist and creating new attributes on C++ objects is not allowed")
        assign(self, name, value)

    QtCore.QObject.__setattr__ = attribute


def connect(sender: QtCore.QObject, signature: str, *target: Any) -> bool:
    """``connect("signal(args)", function)`` or ``connect("signal(args)", receiver, "slot(args)")``."""
    function = target[0] if len(target) == 1 else getattr(target[0], target[1].partition("(")[0])
    signal = _signal(sender, signature)

    def call(*arguments: Any) -> Any:
        return function(*_as_many_as_taken(function, arguments))

    sender.__dict__.setdefault(_CONNECTIONS, []).append((signature, function, call))
    signal.connect(call)
    return True


def disconnect(sender: QtCore.QObject, signature: str, function: Callable[..., Any]) -> bool:
    kept = sender.__dict__.get(_CONNECTIONS, [])
    for index, (known, slot, call) in enumerate(kept):
        if known == signature and slot == function:
            _signal(sender, signature).disconnect(call)
            del kept[index]
            return True
    return False


def _signal(sender: QtCore.QObject, signature: str) -> Any:
    normal = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    declared = getattr(type(sender), "slicer_signals", ())
    if sender.metaObject().indexOfSignal(normal) < 0 and normal not in declared:
        raise AttributeError(f"{type(sender).__name__} has no signal {signature}.")
    return getattr(sender, normal.partition("(")[0])


def _as_many_as_taken(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """PythonQt hands over only as many arguments as a Python slot takes."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return arguments
    if any(item.kind == item.VAR_POSITIONAL for item in parameters):
        return arguments
    taken = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    return arguments[: len(taken)]
