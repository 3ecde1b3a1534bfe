"""C++ functions of slicer-core that have no Python wrapper, reached through ctypes (Linux wheels only).

Running a CLI module needs two things that the desktop application does in C++: parsing the module's XML
into a ``ModuleDescription`` and giving that description to ``vtkSlicerCLIModuleLogic``. The wheel exports
the functions; they take ``std::string`` of the ABI that manylinux wheels use (copy on write).
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path
from typing import Any

import slicer_core

SUPPORTED = sys.platform == "linux"
# Larger than the C++ objects that live in them; the objects are never freed (a few per process).
_DESCRIPTION_BYTES, _PARSER_BYTES = 1 << 16, 256


def _function(library: ctypes.CDLL, symbol: str, argument_count: int, result: Any = None) -> Any:
    function = getattr(library, symbol)
    function.argtypes = [ctypes.c_void_p] * argument_count
    function.restype = result
    return function


class _Library:
    """The functions, looked up on first use so that importing this file is safe on every system."""

    def __init__(self) -> None:
        folder = Path(slicer_core.__file__).parent
        standard = ctypes.CDLL("libstdc++.so.6", ctypes.RTLD_GLOBAL)
        third_party = folder / "third_party.libs" / "libModuleDescriptionParser.so"
        parser = ctypes.CDLL(str(third_party), ctypes.RTLD_GLOBAL)
        base = ctypes.CDLL(str(folder / "libvtkSlicerBaseLogic.so"))
        command_line = ctypes.CDLL(str(folder / "libMRMLCLI.so"))
        self.make_string = _function(standard, "_ZNSsC1EPKcRKSaIcE", 3)
        self.make_description = _function(parser, "_ZN17ModuleDescriptionC1Ev", 1)
        self.parse = _function(
            parser, "_ZN23ModuleDescriptionParser5ParseERKSsR17ModuleDescription", 3, result=ctypes.c_int
        )
        self.setters = {
            name: _function(parser, f"_ZN17ModuleDescription{len(name)}{name}ERKSs", 2)
            for name in ("SetType", "SetTarget", "SetLocation")
        }
        self.set_default_description = _function(
            base, "_ZN23vtkSlicerCLIModuleLogic27SetDefaultModuleDescriptionERK17ModuleDescription", 2
        )
        self.register_description = _function(
            command_line,
            "_ZN28vtkMRMLCommandLineModuleNode25RegisterModuleDescriptionE17ModuleDescription",
            1,
        )


_library: _Library | None = None


def _loaded() -> _Library:
    global _library
    if _library is None:
        _library = _Library()
    return _library


class _String:
    """A C++ ``std::string``; keep it referenced for as long as C++ may read it."""

    def __init__(self, text: str) -> None:
        self._text = text.encode("utf-8")
        self._storage = ctypes.create_string_buffer(8)
        self._allocator = ctypes.create_string_buffer(8)
        _loaded().make_string(self._storage, self._text, self._allocator)
        self.address = ctypes.addressof(self._storage)


class ModuleDescription:
    """A ``ModuleDescription`` parsed from XML by Slicer's own ModuleDescriptionParser."""

    def __init__(self, xml: str) -> None:
        """:raises ValueError: Slicer's parser refuses the XML."""
        self._storage = ctypes.create_string_buffer(_DESCRIPTION_BYTES)
        self.address = ctypes.addressof(self._storage)
        _loaded().make_description(self.address)
        self._parser = ctypes.create_string_buffer(_PARSER_BYTES)
        self._strings = [_String(xml)]
        status = _loaded().parse(ctypes.addressof(self._parser), self._strings[0].address, self.address)
        if status != 0:
            raise ValueError(f"Slicer's ModuleDescriptionParser refused the XML with status {status}.")

    def set_executable(self, interpreter: str, script: str) -> None:
        """Tell Slicer to run ``interpreter script``, as it does for scripted CLI modules."""
        for setter, value in (
            ("SetType", "CommandLineModule"),
            ("SetLocation", interpreter),
            ("SetTarget", script),
        ):
            text = _String(value)
            self._strings.append(text)
            _loaded().setters[setter](self.address, text.address)

    def give_to(self, logic: Any) -> None:
        """Make this the description of a ``vtkSlicerCLIModuleLogic`` and of the nodes that it creates."""
        _loaded().set_default_description(_cpp_address(logic), self.address)
        _loaded().register_description(self.address)


def _cpp_address(vtk_object: Any) -> int:
    return int(re.match(r"_([0-9a-fA-F]+)_p_", vtk_object.__this__).group(1), 16)
