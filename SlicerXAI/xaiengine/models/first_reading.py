"""Reads a model that is not trusted for the first time in a confined process, and remembers that it passed.

The process loads the whole model as the engine would, under the limits of :mod:`.trust.confinement`, and hands back
a verdict and the plain facts that it found out by running the network. Only then is the model loaded here, by the
same checks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from glob import escape
from pathlib import Path
from typing import Any

from ..core.atomic import written_whole
from ..core.cache_folder import cache_folder
from ..core.errors import ModelError, TrustError, XAIError
from .catalogue import model_folders
from .formats.nnunet import nnunet_folder
from .model_cache import keep_answers
from .trust.confinement import limit_from_outside
from .trust.expressions import TRUST_REMEDY

VARIABLE = "XAIENGINE_CONFINE"
"""``never`` in the environment reads models without the confined process; the static checks stay."""

RULES = 2
"""Raised when the checks change, so that what passed the former ones is read again."""

CPU_SECONDS = 20
WALL_SECONDS = 60
SECONDS_PER_GIB = 10
MEMORY_BYTES = 3 * 2**30
MEMORY_FACTOR = 8
START_SECONDS = 300
LARGEST_ANSWER = 4 * 2**20
MOST_HASHED = 500

_START = (
    "import json, sys; request = json.loads(sys.stdin.readline()); sys.path[:] = request['paths']; "
    "from xaiengine.models.confined_reader import main; main(request)"
)
_passed: set[str] = set()


def read_first(path: Path) -> tuple[str, ...]:
    """Read a model in a confined process unless it passed there before; notes on what could not be done.

    Raises:
        TrustError: it did not end in time, took too much memory, or tried what no model needs.
        ModelError: what loading it raises.
    """
    if os.environ.get(VARIABLE, "").lower() in ("never", "0", "no") or _is_shipped(path):
        return ()
    files = list(_files(path))
    state = _state(files, path)
    if state in _passed or _remembered(state):
        return ()
    size = sum(file.stat().st_size for file in files)
    digest = _digest(files, path) if len(files) <= MOST_HASHED else ""
    if not (digest and _remembered(digest)):
        verdict = _verdict(path, size)
        if verdict is None:
            return ("The model was read without a confined process, which could not be started.",)
        keep_answers(verdict.get("answers"))
    for key in filter(None, (state, digest)):
        _remember(key)
    return ()


def _is_shipped(path: Path) -> bool:
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in model_folders())


def _files(path: Path) -> Iterable[Path]:
    """The files that a model at this path is read from."""
    folder = nnunet_folder(path)[0]
    if folder.is_dir():
        found = [item for item in folder.rglob("*") if item.is_file() and ".git" not in item.parts]
    else:
        found = [item for item in path.parent.glob(f"{escape(path.stem)}.*") if item.is_file()]
        if path.suffix.lower() == ".json":  # it may name its weights
            weights = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
            found += [item for item in path.parent.iterdir() if item.suffix.lower() in weights and item.is_file()]
    return sorted(set(found))


def _state(files: list[Path], path: Path) -> str:
    """Changes when any of the files is written, replaced or moved; of files of one stem each has its own."""
    total = _hash()
    total.update(f"{path}\n".encode("utf-8", "replace"))
    for file in files:
        stat = file.stat()
        total.update(
            f"{file}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}\n".encode("utf-8", "replace")
        )
    return total.hexdigest()


def _digest(files: list[Path], path: Path) -> str:
    total = _hash()
    root = path if path.is_dir() else path.parent
    for file in files:
        part = hashlib.sha256()
        with open(file, "rb") as stream:
            while block := stream.read(2**20):
                part.update(block)
        name = os.path.relpath(file, root)
        total.update(f"{name}|{part.hexdigest()}\n".encode("utf-8", "replace"))
    total.update(path.name.encode("utf-8", "replace"))
    return total.hexdigest()


def _hash() -> Any:
    from importlib.metadata import version

    return hashlib.sha256(f"{RULES}|{version('torch')}|".encode())


def _place(key: str) -> Path:
    return cache_folder() / "read" / f"{key[:40]}.json"


def _remembered(key: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_place(key).read_text(encoding="utf-8")) == {"passed": key}:
            _passed.add(key)
            return True
    return False


def _remember(key: str) -> None:
    _passed.add(key)
    with contextlib.suppress(OSError, XAIError), written_whole(_place(key)) as temporary:
        temporary.write_text(json.dumps({"passed": key}), encoding="utf-8")


def _verdict(path: Path, size: int) -> dict[str, Any] | None:
    """What the confined process answers; None where none can be started."""
    gib = size / 2**30
    request: dict[str, Any] = {
        "model": str(path),
        "paths": [str(Path(__file__).resolve().parents[2]), *sys.path],
        "memory": MEMORY_BYTES + MEMORY_FACTOR * size,
        "cpu_seconds": int(CPU_SECONDS + SECONDS_PER_GIB * gib),
    }
    wall = WALL_SECONDS + SECONDS_PER_GIB * gib
    no_window = getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", VARIABLE: "never"},
            creationflags=no_window,
        )
    except OSError:
        return None
    end = limit_from_outside(int(getattr(process, "_handle", 0)), 2 * 2**30 + request["memory"])
    try:
        answer, ready = _talk(process, request, wall)
    finally:
        process.kill()
        process.wait()
        end()
    if not ready and answer is None:
        return None  # it did not come as far as the model: its Python cannot load the engine
    if answer is None:
        raise TrustError(
            f"{path.name} was read in a confined process, which did not end well: {_why(process.returncode, wall)}.",
            f"It is damaged, too large, or made to do harm: get it again from its origin. {TRUST_REMEDY}",
        )
    if "error" in answer:
        kind = TrustError if answer.get("kind") == TrustError.kind else ModelError
        raise kind(str(answer["error"])[:2000], str(answer.get("remedy") or "")[:1000])
    return answer


def _talk(process: subprocess.Popen, request: dict[str, Any], wall: float) -> tuple[dict[str, Any] | None, bool]:
    """The process's answer, if it gives one in time, and whether it got ready to read the model at all."""
    lines: list[bytes] = []
    first = threading.Event()

    def read() -> None:
        stream = process.stdout
        if stream is not None:
            lines.append(stream.readline(1000))
            first.set()
            lines.append(stream.read(LARGEST_ANSWER))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with contextlib.suppress(OSError):
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
    first.wait(START_SECONDS)
    ready = bool(lines) and lines[0].strip() == b"ready"
    if ready:
        reader.join(wall)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1)
    with contextlib.suppress(ValueError, IndexError):
        answer = json.loads(lines[1])
        if isinstance(answer, dict):
            return answer, ready
    return None, ready


def _why(code: int, wall: float) -> str:
    import signal

    if code == -getattr(signal, "SIGXCPU", 0):
        return f"it took more than {CPU_SECONDS} s of processor time"
    if code == -getattr(signal, "SIGKILL", 9):
        return f"it took more than {wall:.0f} s"
    return f"it ended with code {code}, as after too much memory or a fault in a library"
