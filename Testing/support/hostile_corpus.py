"""What models made to do harm are built from, and the register of them; each would create the canary file."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Builder = Callable[[Path, Path], Path]
CORPUS: dict[str, tuple[Builder, str]] = {}
UNET = {
    "_target_": "UNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 2,
    "channels": [2, 4],
    "strides": [2],
}


class Payload:
    """Unpickling it would call ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile(words: str):
    """Register a builder under its own name; ``words`` is a pattern that the refusal's message must match."""

    def register(builder: Builder) -> Builder:
        CORPUS[builder.__name__] = (builder, words)
        return builder

    return register


def bundle(folder: Path, inference: Any, name: str = "inference.json", weights: bytes | None = None) -> Path:
    root = folder / "bundle"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    text = inference if isinstance(inference, str) else json.dumps(inference)
    (root / "configs" / name).write_text(text, encoding="utf-8")
    (root / "models" / "model.pt").write_bytes(honest_weights() if weights is None else weights)
    return root


def honest_weights() -> bytes:
    from monai.networks.nets import UNet

    arguments = {key: value for key, value in UNET.items() if key != "_target_"}
    return saved(UNet(**arguments).state_dict())


def saved(content: Any, **options: Any) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def touch(canary: Path) -> str:
    return f"{sys.executable} -c \"open(r'{canary}','w')\""


def entry(folder: Path, **changes: Any) -> Path:
    """A bundle whose configuration is honest but for these entries."""
    return bundle(folder, {"network_def": UNET, **changes})


def network_argument(folder: Path, expression: Any) -> Path:
    return entry(folder, network_def={**UNET, "in_channels": expression})


def step(folder: Path, *steps: Any) -> Path:
    return entry(folder, preprocessing={"_target_": "Compose", "transforms": list(steps)})
