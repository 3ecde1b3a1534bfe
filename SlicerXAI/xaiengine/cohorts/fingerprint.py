"""What a case's result depends on, as one digest: model, options and inputs. Equal digests need no second run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core.job import Job

CHUNK = 1 << 20


class Fingerprints:
    """Digests of jobs. Files are read once; ``known`` remembers their digests by size and time of change.

    ``known`` maps a path to [size, mtime in ns, digest]: what an earlier run has read is not read again.
    """

    def __init__(self, known: Mapping[str, list[Any]] | None = None) -> None:
        self.known: dict[str, list[Any]] = dict(known or {})
        self._models: dict[str, str] = {}

    def of(self, job: Job) -> str:
        """Hexadecimal SHA-256 over the task, its options and seed, and the content of model and inputs."""
        content = {
            "task": job.task,
            "options": job.options,
            "seed": job.seed,
            "trust_model": job.trust_model,
            "model": self._model(job.model),
            "inputs": {name: self._input(value) for name, value in sorted(job.inputs.items())},
            "methods": [self._file(Path(path)) for path in job.methods_from],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def _model(self, name: str) -> str:
        if not name:
            return ""
        if name not in self._models:
            from ..models import find_model

            path = find_model(name)
            files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
            self._models[name] = self._many(files, path if path.is_dir() else path.parent)
        return self._models[name]

    def _input(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._input(item) for item in value]
        path = Path(str(value))
        return self._many(path.rglob("*"), path) if path.is_dir() else self._file(path)

    def _many(self, files: Iterable[Path], folder: Path) -> str:
        total = hashlib.sha256()
        for path in sorted(item for item in files if item.is_file()):
            total.update(f"{path.relative_to(folder).as_posix()} {self._file(path)}\n".encode())
        return total.hexdigest()

    def _file(self, path: Path) -> str:
        state = path.stat()
        key = str(path.resolve())
        known = self.known.get(key)
        if known and known[:2] == [state.st_size, state.st_mtime_ns]:
            return str(known[2])
        digest = hashlib.sha256()
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        self.known[key] = [state.st_size, state.st_mtime_ns, digest.hexdigest()]
        return digest.hexdigest()
