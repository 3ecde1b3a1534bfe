"""Keeps what was found out about a model, so that it need not be found out again each time it is loaded.

One small JSON file per model in the cache folder, by the model's digest; it holds names and sizes, never code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..core.atomic import written_whole
from ..core.cache_folder import cache_folder
from ..core.errors import XAIError


def remembered(digest: str, question: object, find_out: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The answer to a question about the model of this digest, from the cache or found out now.

    ``question`` is part of the key, with the version of PyTorch; the answer must be made of JSON values. A cache
    that cannot be read or written only costs time. Of a model without digest (made in Python) nothing is kept.
    """
    if not digest:
        return dict(find_out())
    path = _path(digest, question)
    with contextlib.suppress(OSError, ValueError):
        answer = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(answer, dict):
            return answer
    answer = dict(find_out())
    with contextlib.suppress(OSError, XAIError), written_whole(path) as temporary:
        temporary.write_text(json.dumps(answer), encoding="utf-8")
    return answer


def _path(digest: str, question: object) -> Path:
    import torch

    key = hashlib.sha256(f"{digest}|{torch.__version__}|{question!r}".encode()).hexdigest()
    return cache_folder() / "models" / f"{key[:32]}.json"
