"""``slicer.packaging`` of Slicer 5.12: its signatures, its question and its errors; pip is not run."""

from __future__ import annotations

import subprocess
import types
from collections.abc import Callable
from pathlib import Path


class Packaging(types.ModuleType):
    """Remembers what was to be installed.

    ``agrees`` is the user's answer to Slicer's own question, ``exit_code`` what pip ends with.
    """

    def __init__(self, agrees: bool = True, exit_code: int = 0) -> None:
        super().__init__("slicer.packaging")
        self.agrees, self.exit_code = agrees, exit_code
        self.questions: list[str] = []
        self.installed: list[str] = []
        self.calls: list[tuple] = []

    def load_requirements(self, path: str | Path) -> list[str]:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def pip_install(
        self,
        requirements: str | list[str],
        constraints: str | Path | None = None,
        no_deps_requirements: str | list[str] | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        parent: object = None,
        logCallback: Callable[[str], None] | None = None,
        completedCallback: Callable[[int], None] | None = None,
    ) -> list[str] | None:
        if self.exit_code:
            raise subprocess.CalledProcessError(self.exit_code, ["PythonSlicer", "-m", "pip", "install"])
        self.installed += [requirements] if isinstance(requirements, str) else list(requirements)
        return None

    def pip_ensure(
        self,
        requirements: list[str],
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> list[str] | None:
        self.calls.append((requester, skip_packages))
        if prompt_install:
            self.questions.append(f"{requester} needs {', '.join(requirements)}")
            if not self.agrees:
                raise RuntimeError("User declined package installation")
        return self.pip_install(requirements, skip_packages=skip_packages, requester=requester)
