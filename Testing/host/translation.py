"""``slicer.i18n``: finds a text's context by the file that asks, as Slicer does, and asks the host's dictionary.

with host.translation.language(lambda context, text: ...):
    ...
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import slicer

Dictionary = Callable[[str, str], str]
_PLACEHOLDER = re.compile(r"(?<!\{)\{([^{}]+)\}(?!\})")
_dictionary: list[Dictionary] = []


def translate(context: str, text: str) -> str:
    """``slicer.i18n.translate``."""
    return _dictionary[-1](context, text) if _dictionary else text


def tr(text: str) -> str:
    """``slicer.i18n.tr``: a translation that lost a placeholder is not taken."""
    found = translate(context_of(Path(inspect.currentframe().f_back.f_code.co_filename)), text)
    return found if set(_PLACEHOLDER.findall(found)) == set(_PLACEHOLDER.findall(text)) else text


def context_of(file: Path) -> str:
    """Return what Slicer calls the context of a file: with its folder where that is a package."""
    return f"{file.parent.name}.{file.stem}" if (file.parent / "__init__.py").is_file() else file.stem


@contextmanager
def language(dictionary: Dictionary) -> Iterator[None]:
    """Translate by a function of context and text meanwhile."""
    _dictionary.append(dictionary)
    try:
        yield
    finally:
        _dictionary.pop()


def install() -> None:
    """Make ``from slicer.i18n import tr, translate`` work."""
    module = types.ModuleType("slicer.i18n")
    module.tr, module.translate = tr, translate
    slicer.i18n = module
    sys.modules[module.__name__] = module
