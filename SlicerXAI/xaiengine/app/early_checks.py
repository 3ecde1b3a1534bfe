"""What can be said of a job without torch: files and models that are not there, kinds of device that do not exist."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import InputError, OptionError
from ..core.options import TaskOptions
from ..models import find_model

FILES = ("volume", "segmentation", "file", "folder", "table")
DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu|hpu|meta)(:\d+)?")


def check_early(options: TaskOptions, device: str, *, models: bool = True) -> None:
    """Refuse what cannot work, before anything heavy is imported.

    Without ``models`` their names are left to a session, which may hold models that no file describes.

    Raises:
        InputError: a given file or folder is missing.
        ModelError: there is no such model.
        OptionError: no kind of device has this name.
    """
    for name, kind, value in _given(options):
        if kind in FILES:
            _check_file(Path(value).expanduser(), kind)
        elif models and name == "model":
            find_model(value)
    # Where torch is there already, it knows the devices: those of other makers have names of their own.
    if not DEVICE.fullmatch(device) and "torch" not in sys.modules:
        raise OptionError(
            f"There is no kind of device called {device!r}.", "Use auto, cpu, cuda or cuda:N (N counts from 0)."
        )


def _given(options: TaskOptions) -> Iterator[tuple[str, str, str]]:
    """Name, kind and value of every input that was given."""
    for name, field in type(options).model_fields.items():
        extra: Any = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        found = getattr(options, name)
        for value in found if isinstance(found, list) else [found]:
            if extra.get("role") == "input" and isinstance(value, str) and value:
                yield name, str(extra.get("kind", "")), value


def _check_file(path: Path, kind: str) -> None:
    if kind == "folder" and not path.exists():
        raise InputError(f"There is no folder {path}.", "Check the path, or choose the folder again.")
    if not path.exists():
        raise InputError(f"{path} does not exist.", "Check the path, or choose the file again.")
