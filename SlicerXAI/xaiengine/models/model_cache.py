"""Keeps what was found out about a model, so that it need not be found out again each time it is loaded.

One small JSON file per model in the cache folder, by the model's digest; it holds names and sizes, never code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.atomic import written_whole
from ..core.cache_folder import cache_folder
from ..core.errors import XAIError

_collected: dict[str, dict[str, Any]] | None = None


@contextlib.contextmanager
def collect_answers() -> Iterator[dict[str, dict[str, Any]]]:
    """Within the block, answers are found out and gathered, and no file is read or written."""
    global _collected
    _collected = {}
    try:
        yield _collected
    finally:
        _collected = None


def keep_answers(answers: Any) -> None:
    """Write down gathered answers; what is no answer is passed over."""
    for key, answer in answers.items() if isinstance(answers, dict) else ():
        if isinstance(answer, dict) and isinstance(key, str) and re.fullmatch(r"[0-9a-f]{32}", key):
            _keep(_folder() / f"{key}.json", answer)


def remembered(digest: str, question: object, find_out: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The answer to a question about the model of this digest, from the cache or found out now.

    ``question`` is part of the key, with the version of PyTorch; the answer must be made of JSON values. A cache
    that cannot be read or written only costs time. Of a model without digest (made in Python) nothing is kept.
    """
    if not digest:
        return dict(find_out())
    path = _path(digest, question)
    if _collected is not None:
        return _collected.setdefault(path.stem, dict(find_out()))
    with contextlib.suppress(OSError, ValueError):
        answer = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(answer, dict):
            return answer
    answer = dict(find_out())
    _keep(path, answer)
    return answer


def _keep(path: Path, answer: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError, XAIError), written_whole(path) as temporary:
        temporary.write_text(json.dumps(answer), encoding="utf-8")


def _folder() -> Path:
    return cache_folder() / "models"


def _path(digest: str, question: object) -> Path:
    import torch

    key = hashlib.sha256(f"{digest}|{torch.__version__}|{question!r}".encode()).hexdigest()
    return _folder() / f"{key[:32]}.json"
