"""Puts weights into a network, and says what is wrong when they do not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

SHOWN = 4


def load_weights(network: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> tuple[str, ...]:
    """Fill the network and set it to evaluation mode. Half-precision weights become float32.

    Wrappers' prefixes (``module.``, ``network.``, ``_orig_mod.``) are taken off. Returns notes for the user, for
    example about weights that the network does not use.

    Raises:
        ModelError: weights are missing, have other shapes, or are not finite.
    """
    import torch

    expected = network.state_dict()
    fitted = without_prefix(state, expected)
    missing = [key for key in expected if key not in fitted and not key.endswith("num_batches_tracked")]
    wrong = [key for key in expected if key in fitted and fitted[key].shape != expected[key].shape]
    unused = [key for key in fitted if key not in expected]
    if missing or wrong:
        raise _mismatch(expected, fitted, missing, wrong, unused, source)
    chosen = {key: fitted[key] for key in expected if key in fitted}
    for key, tensor in chosen.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"The weight {key} of {source} holds NaN or infinite values.", "Train the model again.")
    network.load_state_dict(chosen, strict=False)
    network.float().eval()
    notes = []
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in chosen.values()):
        notes.append("The weights are stored in half precision and were widened to float32.")
    if unused:
        notes.append(f"{len(unused)} weights of {source} are not used by the network, for example {unused[0]}.")
    return tuple(notes)


def without_prefix(state: Mapping[str, torch.Tensor], expected: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """The weights under the names of the network: the prefix that makes most names match is taken off."""
    best, score = dict(state), _score(state, expected)
    for prefix in _prefixes(state):
        stripped = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        if _score(stripped, expected) > score:
            others = {key: value for key, value in state.items() if not key.startswith(prefix) and key in expected}
            best, score = {**others, **stripped}, _score(stripped, expected)
    return best if score else _with_prefix(best, expected)


def _prefixes(state: Mapping[str, object]) -> list[str]:
    """The most frequent beginnings of names, of up to four parts (``module._orig_mod.network.``)."""
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for length in range(1, min(len(parts), 5)):
            counts[".".join(parts[:length]) + "."] += 1
    return [prefix for prefix, _ in counts.most_common(40)]


def _with_prefix(state: Mapping[str, torch.Tensor], expected: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """The reverse: the network wraps what the weights were saved from."""
    prefixes = Counter(key.split(".", 1)[0] + "." for key in expected if "." in key)
    for prefix, _ in prefixes.most_common(3):
        candidate = {prefix + key: value for key, value in state.items()}
        if _score(candidate, expected) > 0:
            return candidate
    return dict(state)


def _score(state: Mapping[str, object], expected: Mapping[str, object]) -> int:
    return sum(key in expected for key in state)


def _mismatch(expected, fitted, missing: list[str], wrong: list[str], unused: list[str], source: str) -> ModelError:
    parts = []
    if wrong:
        listed = "; ".join(
            f"{key} is {_size(fitted[key])}, the network has {_size(expected[key])}" for key in wrong[:SHOWN]
        )
        parts.append(f"{len(wrong)} weights have another shape ({listed}{_more(wrong)})")
    if missing:
        parts.append(f"{len(missing)} weights are missing ({', '.join(missing[:SHOWN])}{_more(missing)})")
    if unused:
        parts.append(f"{len(unused)} weights have no place ({', '.join(unused[:SHOWN])}{_more(unused)})")
    return ModelError(
        f"The weights of {source} do not fit the network: {'; '.join(parts)}.",
        f"Likely cause: {_likely_cause(expected, fitted, missing, wrong)}.",
    )


def _likely_cause(expected, fitted, missing: list[str], wrong: list[str]) -> str:
    matching = len(expected) - len(missing) - len(wrong)
    if matching == 0 and not wrong:
        return "the weights belong to another kind of network"
    ranks = {(expected[key].ndim, fitted[key].ndim) for key in wrong}
    if (5, 4) in ranks or (4, 5) in ranks:
        return "one is a 2D and the other a 3D network (spatial_dims)"
    if wrong and not missing:
        order = list(expected)
        first = min(order.index(key) for key in wrong)
        size, found = expected[order[first]].shape, fitted[order[first]].shape
        if len(wrong) <= 2 and first <= 2 and len(size) > 1 and size[1] != found[1]:
            return f"the weights were trained with {found[1]} input channels, the network is set to {size[1]}"
        if len(wrong) <= 2 and first >= len(order) - 4:
            return f"the weights were trained with {found[0]} outputs, the network is set to {size[0]}"
        return "the network's arguments (channels, features, number of blocks) differ from those of the training"
    if missing and len(missing) <= 0.2 * len(expected):
        return "the file is of another version of the network, or was saved incompletely"
    return "the network's arguments (depth, blocks, normalization) differ from those of the training"


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _more(names: list[str]) -> str:
    return ", ..." if len(names) > SHOWN else ""
