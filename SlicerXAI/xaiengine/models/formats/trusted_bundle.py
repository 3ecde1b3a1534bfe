"""MONAI bundles that run their own code, which the user has declared trusted: MONAI's own parser reads them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import ModelError
from ..explained_model import ExplainedModel, Inferer
from ..files import FolderFiles
from ..fitting import load_weights
from ..refusals import refuse_unexplainable
from ..trust.safe_config import parse_config
from .bundle import (
    INFERER_ENTRIES,
    NETWORK_ENTRIES,
    PREPROCESSING_ENTRIES,
    assemble_parts,
    chosen_content,
    weights_file,
)
from .weights import tensors_of


def load_trusted_bundle(folder: Path) -> ExplainedModel:
    """A bundle through ``monai.bundle.ConfigParser``, which runs the bundle's code.

    Raises:
        ModelError: the code fails, or the bundle has no network.
    """
    import torch
    from monai.bundle import ConfigParser

    files = FolderFiles(folder, trust=True)
    contents = {
        name: parse_config(files.text(name), name)
        for name in files.names
        if name.startswith("configs/") and name.endswith((".json", ".yaml", ".yml"))
    }
    content = {**chosen_content(files, contents), "bundle_root": str(files.folder)}
    with _inside(files.folder):
        parser = ConfigParser(content)
        try:
            parser.parse()
            network = _first(parser, NETWORK_ENTRIES)
            steps = _first(parser, PREPROCESSING_ENTRIES)
            inferer = _first(parser, INFERER_ENTRIES)
        except Exception as error:
            raise ModelError(
                f"The code of {files.name} failed: {type(error).__name__}: {str(error)[:300]}.",
                "Check that the packages it needs are installed.",
            ) from error
        if not isinstance(network, torch.nn.Module):
            raise ModelError(f"{files.name} has no network_def.", "Complete the bundle.")
        refuse_unexplainable(type(network).__name__)
        weights = weights_file(files)
        if weights.endswith(".safetensors"):
            from .weights import read_state

            state = read_state(files, weights)
        else:
            state = tensors_of(torch.load(files.folder / weights, map_location="cpu", weights_only=False), weights)
    notes = load_weights(network.cpu(), state, weights)
    return assemble_parts(
        folder,
        files,
        contents,
        network,
        {},
        weights,
        (*notes, "The model's own code was run, because it is trusted."),
        preprocessing=_Steps(tuple(getattr(steps, "transforms", None) or ([steps] if steps is not None else []))),
        inferer=_inferer(inferer),
    )


class _Steps:
    """The transforms that the bundle made itself."""

    def __init__(self, steps: tuple[Any, ...]) -> None:
        self.steps = steps

    def __call__(self) -> list[Any]:
        return list(self.steps)


def _first(parser: Any, entries: tuple[str, ...]) -> Any:
    for entry in entries:
        if entry in parser:
            return parser.get_parsed_content(entry)
    return None


def _inferer(inferer: Any) -> Inferer:
    """The sliding window of a MONAI inferer; others run the network over the whole scan."""
    if not hasattr(inferer, "roi_size"):
        return Inferer()
    roi = inferer.roi_size if isinstance(inferer.roi_size, (list, tuple)) else [inferer.roi_size] * 3
    overlap = inferer.overlap if isinstance(inferer.overlap, (int, float)) else max(inferer.overlap)
    mode = str(getattr(inferer.mode, "value", inferer.mode))
    return Inferer(
        "sliding_window",
        roi_size=tuple(int(size) for size in roi),
        overlap=float(overlap),
        blending="gaussian" if mode == "gaussian" else "constant",
        sw_batch_size=int(inferer.sw_batch_size),
        padding_mode=str(getattr(inferer.padding_mode, "value", inferer.padding_mode)),
        cval=float(inferer.cval),
    )


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Bundles import their ``scripts`` from, and name files relative to, their own folder.

    Modules beside the scripts and where the user stands are found too.
    """
    before = Path.cwd()
    places = [str(folder), str(folder / "scripts"), str(before)]
    sys.path[:0] = places
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        for place in places:
            sys.path.remove(place)
