"""Finds out by running a network of unknown making what it takes and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from .calling import own_input
from .explained_model import Capabilities
from .model_cache import remembered
from .outputs import OutputSelector

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-3


def abilities(
    digest: str, network: nn.Module, shape: Sequence[int], *, layers: bool = True, reason: str = ""
) -> Capabilities:
    """What can be done with a network of unknown making, found by running it, or remembered from the last time.

    ``reason`` says why it has no layers, if it has none.
    """
    select = OutputSelector()
    network = own_input(network)

    def find_out() -> dict[str, Any]:
        return {
            "batch": takes_batches(network, select, shape),
            "gradient": is_differentiable(network, select, shape),
        }

    found = remembered(digest, ("abilities", 2, tuple(shape)), find_out)
    reasons = {} if layers else {"layers": reason}
    if found["batch"]:
        reasons["free_batch"] = str(found["batch"])
    if not found["gradient"]:
        reasons["differentiable"] = "its output has no gradient with respect to the input"
    return Capabilities(layers, not found["batch"], bool(found["gradient"]), reasons)


def takes_batches(network: nn.Module, select: Any, shape: Sequence[int]) -> str:
    """Why two inputs at once do not give what they give one by one; empty where they do.

    A random network differs for another reason, which is found elsewhere: seeds are fixed, image by image.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    batch = torch.randn((2, *shape[1:]), generator=generator)
    try:
        with torch.no_grad():
            both = select(network(batch))
            single = torch.cat([select(network(row[None])) for row in batch])
    except Exception:  # whatever a graph with a fixed batch raises
        return f"it takes a batch of {shape[0]} and no other"
    if both.shape != single.shape:
        return f"it takes a batch of {shape[0]} and no other"
    if bool((both - single).abs().max() <= TOLERANCE * (1 + single.abs().max())):
        return ""
    return "its output for an image depends on the other images of the batch"


def is_differentiable(network: nn.Module, select: Any, shape: Sequence[int]) -> bool:
    """Whether a gradient of the output with respect to the input exists and is not zero everywhere."""
    import torch

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(tuple(shape), generator=generator, requires_grad=True)
    try:
        with torch.enable_grad():
            output = select(network(inputs))
            weights = torch.randn(output.shape, generator=generator)
            (gradient,) = torch.autograd.grad((output.float() * weights).sum(), inputs)
    except Exception:  # whatever a foreign graph raises
        return False
    return bool(torch.isfinite(gradient).all()) and bool((gradient != 0).any())


def first_that_runs(network: nn.Module, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The first input shape that the network takes. Raises ModelError with the network's own words."""
    import torch

    failure = ""
    for shape in shapes:
        try:
            with torch.no_grad():
                network(torch.zeros(shape))
            return tuple(shape)
        except Exception as error:  # whatever a foreign graph raises
            failure = failure or str(error).strip().splitlines()[-1][:300]
    raise ModelError(
        f"The network takes none of the usual inputs ({' or '.join(str(shape) for shape in shapes[:3])}): {failure}.",
        "Say what it takes in a description beside it: spatial_dims, in_channels, input_size.",
    )
