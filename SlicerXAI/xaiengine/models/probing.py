"""Finds out by running a network of unknown making what it takes and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError
from .explained_model import Capabilities, ExplainedModel
from .model_cache import remembered
from .outputs import OutputSelector

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-3


def output_count(model: ExplainedModel) -> tuple[int, bool]:
    """Channels of the output for the example input, and whether it is a map over positions.

    Raises:
        ModelError: the network does not take that input.
    """
    import torch

    try:
        output = model.predict(torch.zeros(model.example_shape))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"The network does not take an input of {tuple(model.example_shape)}: {str(error)[:300]}.",
            "Say what it takes in a description beside it: spatial_dims, in_channels, input_size.",
        ) from error
    if output.ndim == 1:
        return 1, False
    return int(output.shape[1]), output.ndim > 2 and max(output.shape[2:]) > 1


def abilities(
    digest: str, network: nn.Module, shape: Sequence[int], *, layers: bool = True, reason: str = ""
) -> Capabilities:
    """What can be done with a network of unknown making, found by running it, or remembered from the last time.

    ``reason`` says why it has no layers, if it has none.
    """
    select = OutputSelector()

    def find_out() -> dict[str, bool]:
        return {
            "batch": takes_batches(network, select, shape),
            "gradient": is_differentiable(network, select, shape),
        }

    found = remembered(digest, ("abilities", tuple(shape)), find_out)
    reasons = {} if layers else {"layers": reason}
    if not found["batch"]:
        reasons["free_batch"] = f"its graph was made for a batch of {shape[0]}"
    if not found["gradient"]:
        reasons["differentiable"] = "its output has no gradient with respect to the input"
    return Capabilities(layers, bool(found["batch"]), bool(found["gradient"]), reasons)


def takes_batches(network: nn.Module, select: Any, shape: Sequence[int]) -> bool:
    """Whether two inputs at once give what they give one by one."""
    import torch

    generator = torch.Generator().manual_seed(0)
    batch = torch.randn((2, *shape[1:]), generator=generator)
    try:
        with torch.no_grad():
            both = select(network(batch))
            single = torch.cat([select(network(row[None])) for row in batch])
    except Exception:  # whatever a graph with a fixed batch raises
        return False
    return both.shape == single.shape and bool((both - single).abs().max() <= TOLERANCE * (1 + single.abs().max()))


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
