"""Real scans that lie in installed packages; the packages themselves are not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_file(package: str, file: str) -> Path:
    """A file inside an installed package. Raises FileNotFoundError saying what to install."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is not installed: run python3 Testing/run.py demo")
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install {package} again")
    return path
