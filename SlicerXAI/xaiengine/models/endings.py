"""What a network ends in: scores, probabilities (softmax, sigmoid) or their logarithm, and what is random in it.

Found by watching the operations of one pass, whatever they are written as (modules, functions, graphs of
TorchScript, torch.export and ONNX), and confirmed by the values of the output over several inputs. The operations
alone do not see probabilities computed by hand; the values alone take small scores for probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Ending = Literal["scores", "softmax", "sigmoid", "log-softmax", "tanh", "bounded"]

_THROUGH = frozenset(
    """
    view _unsafe_view reshape _reshape_alias squeeze unsqueeze slice select clone detach alias permute transpose t
    expand contiguous _to_copy lift_fresh flatten unflatten split split_with_sizes chunk unbind narrow
    movedim cat stack constant_pad_nd flip roll mean amax adaptive_avg_pool2d _adaptive_avg_pool2d
    _adaptive_avg_pool3d adaptive_avg_pool3d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa native_dropout empty_like copy index
    gather as_strided
    """.split()
)
"""Operations that move, choose, average or repeat values: the output is of the kind that went in."""

_MEANS = frozenset(["add", "div", "mul", "sum"])
"""Operations with which means are written; the values then decide, as they do after any operation not named here."""

_ENDINGS: dict[str, Ending] = {
    "_softmax": "softmax",
    "softmax": "softmax",
    "_safe_softmax": "softmax",
    "sigmoid": "sigmoid",
    "_log_softmax": "log-softmax",
    "log_softmax": "log-softmax",
    "tanh": "tanh",
}
_SCORES = frozenset(
    """
    addmm mm bmm baddbmm convolution _convolution linear native_batch_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training cudnn_batch_norm native_layer_norm native_group_norm logit log relu
    leaky_relu gelu silu elu softplus einsum addmv dot conv2d conv3d
    """.split()
)
_WEIGHTED = ("addmm", "mm", "linear", "convolution", "_convolution", "conv2d", "conv3d", "conv1d")
DEEPEST = 64
TOLERANCE = 2e-3


@dataclass
class Watcher(TorchDispatchMode):
    """Notes, for every tensor that an operation makes, the operation and the tensors that went in."""

    origins: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    random: list[str] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    """Output channels of the layers with weights, the last one first."""

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        parents = tuple(_number(item) for item in _tensors((args, kwargs or {})))
        made = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[-1]
        in_place = name.endswith("_") and not name.endswith("__")
        plain = name[:-1] if in_place else name
        if torch.Tag.nondeterministic_seeded in function.tags and not _is_idle(plain, args, kwargs or {}):
            self.random.append(plain)
        if plain in _WEIGHTED and isinstance(made, torch.Tensor) and made.ndim > 1:
            self.heads.insert(0, made.shape[1 if "conv" in plain else -1])
        for tensor in _tensors(made):
            number = len(self.origins) + 1
            self.origins[number] = (plain, tuple(parent for parent in parents if parent))
            tensor._origin_of_values = number  # type: ignore[attr-defined]
        return made

    def ending(self, tensor: torch.Tensor) -> tuple[Ending, int]:
        """What a tensor's values are, and the number of the operation that made them so (0: unknown)."""
        return self._ending(_number(tensor), 0)

    def _ending(self, number: int, depth: int) -> tuple[Ending, int]:
        if number not in self.origins or depth > DEEPEST:
            return "scores", 0
        name, parents = self.origins[number]
        if name in _SCORES:
            return "scores", number
        if name in _ENDINGS:
            return _ENDINGS[name], number
        found = {self._ending(parent, depth + 1) for parent in parents}
        endings = {ending for ending, _ in found}
        if name in _THROUGH and len(endings) == 1:
            return next(iter(found)) if len(found) == 1 else (next(iter(endings)), 0)
        if name in _MEANS and len(endings) == 1 and len(parents) > 1:
            return next(iter(endings)), 0
        if name in _MEANS and len(parents) == 1 and endings & {"softmax", "sigmoid"}:
            return next(iter(endings)), 0
        return ("scores" if name == "add" and "scores" in endings else "bounded"), number


def _is_idle(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a random operation is switched off: dropout in evaluation, noise of weights that is overwritten."""
    if name in ("dropout", "native_dropout", "feature_dropout", "alpha_dropout"):
        values = [*args[1:], *kwargs.values()]
        return any(value is False for value in values) or (bool(values) and values[0] == 0)
    if "attention" in name:
        rate = kwargs.get("dropout_p", next((item for item in args[3:] if isinstance(item, float)), 0.0))
        return not rate
    return name in ("rrelu_with_noise",) and (len(args) < 5 or args[4] is False)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [tensor for item in value for tensor in _tensors(item)]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    return []


def _number(tensor: torch.Tensor) -> int:
    return getattr(tensor, "_origin_of_values", 0)


def confirmed(ending: Ending, outputs: Sequence[torch.Tensor]) -> Ending:
    """The ending as the values over several inputs show it; ``outputs`` are (N, C, ...), one by input.

    Values that all lie in 0..1 are probabilities only where an operation is seen that keeps them there.
    """
    values = torch.cat([output.detach().float().transpose(0, 1).flatten(1) for output in outputs], 1)  # (C, values)
    values = values[:, torch.isfinite(values).all(0)]
    if ending in ("scores", "tanh") or values.numel() == 0:
        return ending
    if ending == "log-softmax":
        return ending if _near(values.exp().sum(0), 1) else "scores"
    if float(values.min()) < -TOLERANCE or float(values.max()) > 1 + TOLERANCE:
        far = bool((values <= TOLERANCE).all()) and len(values) > 1 and _near(values.exp().sum(0), 1)
        return "log-softmax" if far else "scores"
    constant = float(values.max() - values.min()) < 1e-6
    if len(values) > 1 and _near(values.sum(0), 1):
        return "softmax" if not constant or ending == "softmax" else "scores"
    if ending == "softmax":  # over another axis than the classes
        return "scores" if len(values) > 1 else "softmax"
    return "sigmoid" if not constant or ending == "sigmoid" else "scores"


def _near(values: torch.Tensor, wanted: float) -> bool:
    return bool((values - wanted).abs().max() <= TOLERANCE)


def logits_of(values: torch.Tensor, ending: Ending) -> torch.Tensor:
    """Logits, up to a constant, of the probabilities (N, C, ...) that a network ends in.

    Of a softmax: log p less its mean over the classes, so that a sure answer still has gradients and
    ``softmax`` gives p back. Of a sigmoid: log p - log(1 - p). Precise to float32: about 16 at p = 1.
    """
    values = values.float()
    tiny = torch.finfo(torch.float32).tiny
    if ending == "softmax":
        logarithm = values.clamp_min(tiny).log()
        return logarithm - logarithm.mean(1, keepdim=True)
    if ending == "sigmoid":
        return values.clamp_min(tiny).log() - (1 - values).clamp_min(2.0**-24).log()
    return values
