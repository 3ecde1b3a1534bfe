"""What every format's loader does with a network at last: runs it once and finds out what it returns.

Which tensor of several is the prediction, whether it holds scores or probabilities, whether it is the same twice, and
whether its outputs count as many as the labels. What was found is said in the model's notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from ..core.errors import ModelError
from .calling import MeanOfPasses, OneByOne, seeded
from .endings import Ending, Watcher, confirmed
from .explained_model import Capabilities, ExplainedModel, ModelTask
from .layer_survey import emptied
from .model_cache import remembered
from .outputs import OutputSelector, selector_for
from .probing import abilities
from .selection import FixedOutput, Key, candidates, chosen, listed, taken
from .settings import usual_activation

VERSION = 1
"""Counts up when what is found out changes, so that older answers in the cache are not used."""

SAME = 1e-5
"""Difference of two passes, in parts of the outputs' range, that rounding explains."""

HEADS = 3
"""How many of the last layers with weights may be the one that predicts, where the outputs' number is not known."""

KNOWN_MAKERS = ("torch.nn.", "monai.", "dynamic_network_architectures.", "torchvision.")


@dataclass(frozen=True)
class Observation:
    """What one pass showed. ``shape`` (N, C, ...) is the prediction's, ``path`` where it lies in what is returned."""

    path: tuple[Key, ...]
    shape: tuple[int, ...]
    ending: Ending
    returned: str
    random: tuple[str, ...]
    difference: float


def understood(
    model: ExplainedModel,
    *,
    activation: str | None = None,
    output: Key = "",
    passes: int = 0,
    named: bool = True,
    probe: bool = False,
) -> ExplainedModel:
    """The model with its output chosen, its probabilities turned into logits, and its labels counted.

    ``activation``, ``output`` and ``passes`` are what its description says; ``named`` is false where the labels were
    made up by a loader; ``probe`` asks what a network of the user's own code can do. A network that cannot be run on
    its example input is left as it is, with a note.

    Raises:
        ModelError: labels and outputs differ in number, or outputs differ from pass to pass.
    """
    if probe and model.example_shape and not _of_known_makers(model.network):
        model = replace(model, capabilities=abilities(model.digest, model.network, model.example_shape))
    selector = selector_for(model.network)
    outputs = len(model.labels) if named else 0
    asked = ("understood", VERSION, model.example_shape, outputs, str(output), model.task == "segmentation")
    try:
        known = remembered(model.digest, asked, lambda: _as_dict(observe(model, outputs, selector, output)))
    except ModelError:
        raise
    except Exception as error:  # whatever a foreign network raises for an input that it does not take
        return replace(model, notes=(*model.notes, _not_run(model, error)))
    seen = _of_dict(known)
    if named:
        _check_labels(model, seen)
    elif len(model.labels) != _count(seen):
        model = replace(model, labels=numbered_labels(_count(seen), model.task))
    model, notes = _steady(model, seen, passes)
    ending = seen.ending if model.task != "regression" else "scores"
    select: Any = FixedOutput((), ending) if passes > 1 else FixedOutput(seen.path, ending)
    if passes > 1:
        model = replace(model, network=MeanOfPasses(model.network, FixedOutput(seen.path), passes))
    if len(seen.returned.split(";")) > 1:
        where = "".join(f"[{key!r}]" for key in seen.path)
        notes.append(f"The network returns {seen.returned}. Of these {where} is explained.")
    chosen_activation, note = _activation(model, seen, activation)
    notes += [note] if note else []
    model = _rows(replace(model, select_output=select, activation=cast(Any, chosen_activation)))
    return replace(model, notes=(*model.notes, *notes))


def observe(model: ExplainedModel, outputs: int, selector: OutputSelector, output: Key = "") -> Observation:
    """Run the network once, without content if it can, and again on numbers where the values must decide."""
    as_map = model.task == "segmentation"
    watcher, returned = _watched(model)
    found = chosen(returned, outputs, watcher.heads[:HEADS], selector, output, as_map)
    ending, _ = watcher.ending(taken(returned, found.path))
    several = list(candidates(returned))
    difference = 0.0
    if watcher.random or not _of_known_makers(model.network):
        difference = _difference(model, found.path)
    if ending != "scores":
        values = [_values(model, found.path, probe) for probe in _probes(model.example_shape)]
        ending = confirmed(ending, values)
    random = tuple(dict.fromkeys(watcher.random)) if difference > SAME else ()
    return Observation(
        found.path, found.shape, ending, listed(several) if len(several) > 1 else "", random, difference
    )


def _watched(model: ExplainedModel) -> tuple[Watcher, Any]:
    """One pass and what was seen of it: on tensors without content if the network can, else on numbers."""
    network = model.network
    if not any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        try:
            with torch.no_grad(), emptied(network), Watcher() as watcher:
                returned = network(torch.empty(model.example_shape, device="meta"))
            if list(candidates(returned)):
                return watcher, returned
        except Exception:  # operations that need values
            pass
    with torch.no_grad(), Watcher() as watcher:
        returned = network(_probes(model.example_shape)[0].to(model.device))
    return watcher, returned


def _probes(shape: Sequence[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tuple(shape), generator=generator)
    return [noise, noise * 100, noise * 1e4, torch.rand(tuple(shape), generator=generator)]


def _values(model: ExplainedModel, path: tuple[Key, ...], batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return taken(model.network(batch.to(model.device)), path).float().cpu()


def _difference(model: ExplainedModel, path: tuple[Key, ...]) -> float:
    """The largest difference of two passes over the same input, in parts of the outputs' size."""
    batch = _probes(model.example_shape)[0]
    with seeded(1):
        first = _values(model, path, batch)
        second = _values(model, path, batch)
    size = max(float(first.abs().max()), float(second.abs().max()), 1e-12)
    return float((first - second).abs().max()) / size


def prediction_shape(model: ExplainedModel, outputs: int, output: Key = "") -> tuple[int, ...]:
    """The shape (N, C, ...) of the prediction for the example input; ``outputs`` 0: how many channels is not known.

    Raises:
        ModelError: the network does not take that input.
    """
    asked = ("prediction", VERSION, model.example_shape, outputs, str(output))

    def find_out() -> dict[str, Any]:
        watcher, returned = _watched(model)
        found = chosen(returned, outputs, watcher.heads[:HEADS], selector_for(model.network), output)
        return {"shape": found.shape}

    try:
        return tuple(remembered(model.digest, asked, find_out)["shape"])
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"The network does not take an input of {tuple(model.example_shape)}: {str(error)[:300]}.",
            "Say what it takes in a description beside it: spatial_dims, in_channels, input_size.",
        ) from error


def _of_known_makers(network: nn.Module) -> bool:
    return all(type(module).__module__.startswith(KNOWN_MAKERS) for module in network.modules())


def numbered_labels(count: int, task: ModelTask) -> tuple[str, ...]:
    """Names of outputs that nobody named."""
    if count <= 1:
        return ("value" if task == "regression" else "output",)
    return tuple(f"class {number}" for number in range(count))


def _count(seen: Observation) -> int:
    return seen.shape[1] if len(seen.shape) > 1 else 1


def _check_labels(model: ExplainedModel, seen: Observation) -> None:
    count = _count(seen)
    if not model.labels or len(model.labels) == count:
        return
    remedy = "Name every output, in their order."
    if count == 1 and len(model.labels) == 2:
        remedy = f"One output is the score of one label: give that one alone, for example {model.labels[1]}."
    raise ModelError(
        f"{len(model.labels)} labels are named ({', '.join(model.labels[:8])}), the network has {count} "
        f"output{'s' if count > 1 else ''}.",
        remedy,
    )


def _steady(model: ExplainedModel, seen: Observation, passes: int) -> tuple[ExplainedModel, list[str]]:
    """Refuse a network whose outputs differ from pass to pass, unless their mean over several passes is asked for."""
    if seen.difference <= SAME:
        return model, []
    operations = f" (it uses {', '.join(seen.random)})" if seen.random else ""
    differ = f"Two passes over the same input differ by {seen.difference:.2g} of the output's size{operations}"
    if passes <= 1:
        raise ModelError(
            f"{differ}: no explanation of such a network can be repeated.",
            "Save it in evaluation mode with dropout off, or ask for the mean of several passes with fixed seeds in "
            'its description: "passes": 16.',
        )
    capabilities = replace(
        model.capabilities,
        layers=False,
        reasons={**model.capabilities.reasons, "layers": "the mean of several random passes has no single layers"},
    )
    note = f"{differ}. The mean of {passes} passes with fixed seeds is explained."
    return replace(model, capabilities=capabilities, layers=()), [note]


def _rows(model: ExplainedModel) -> ExplainedModel:
    """A network that takes one image at a time is called so: by itself if it shows no layers, else by the engine."""
    if model.capabilities.free_batch:
        return model
    inferer = replace(model.inferer, sw_batch_size=1)
    if model.capabilities.layers:
        return replace(model, inferer=inferer)
    network = OneByOne(model.network, model.select_output)
    found = model.capabilities
    reasons = {key: value for key, value in found.reasons.items() if key != "free_batch"}
    return replace(
        model,
        inferer=inferer,
        network=network,
        select_output=FixedOutput(),
        capabilities=Capabilities(found.layers, True, found.differentiable, reasons),
    )


def _activation(model: ExplainedModel, seen: Observation, described: str | None) -> tuple[str, str]:
    """The activation that turns (recovered) logits into probabilities, and what is said of it."""
    ending = seen.ending
    if model.task == "regression":
        return described or "none", ""
    usual = described or model.activation or usual_activation(model.task, len(model.labels))
    if ending in ("softmax", "log-softmax"):
        kept = "; the sigmoid of its description is not applied to them" if described == "sigmoid" else ""
        what = "probabilities" if ending == "softmax" else "logarithms of probabilities"
        note = f"The network ends in {ending}: its outputs are {what} and pass through no second softmax{kept}."
        if seen.shape[1:2] == (1,):
            note = "The network ends in a softmax over one output, which is 1 for every input."
        return "softmax", note
    if ending == "sigmoid":
        kept = "; the softmax of its description is not applied to them" if described == "softmax" else ""
        return "sigmoid", (
            f"The network ends in sigmoid: its outputs are probabilities and pass through no second sigmoid{kept}."
        )
    if ending == "tanh":
        if described:
            return described, f"The network ends in tanh; {described} is applied, as its description says."
        return "none", "The network ends in tanh: its outputs are scores between -1 and 1, not probabilities."
    return usual, ""


def _not_run(model: ExplainedModel, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
    shape = " x ".join(map(str, model.example_shape))
    return f"The network could not be run on an input of {shape} ({reason}): what it ends in is not known."


def _as_dict(seen: Observation) -> dict[str, Any]:
    return {name: getattr(seen, name) for name in Observation.__dataclass_fields__}


def _of_dict(known: dict[str, Any]) -> Observation:
    sequences = ("path", "shape", "random")
    fields: dict[str, Any] = {key: tuple(value) if key in sequences else value for key, value in known.items()}
    return Observation(**fields)
