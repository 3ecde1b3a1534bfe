"""Maps of every method of the registry and of controls that know nothing of the model, for the X-rays of a fold."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.bottleneck.information import own_statistics
from xaiengine.attribution.bottleneck.statistics import PRIOR_SCANS, ReferenceStatistics, StatisticsAccumulator
from xaiengine.attribution.feature_maps import explainable
from xaiengine.attribution.registry import METHODS
from xaiengine.attribution.whole_case import WholeCase
from xaiengine.core.errors import XAIError
from xaiengine.evaluation.controls import edge_map, random_map
from xaiengine.evaluation.randomization import layers_with_parameters, randomize
from xaiengine.targets.targets import RegressionTarget

from .cases import Cases
from .network import LAYERS, as_inputs
from .scoring import zone_sums

OWN = " (statistics of the X-ray itself)"
STATISTICS_FAMILY = ("iba", "inverse_iba")
"""Methods that are also run as they are without any reference."""
LEFT_OUT = ("input_iba",)
"""Trains a network for each image: a minute an X-ray."""


@dataclass
class Sums:
    """Sums of each map in the zones (n, 6) by name, CPU seconds per X-ray, and the reasons of what was refused."""

    sums: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def statistics_of(network: nn.Module, layer: str, inputs: torch.Tensor) -> ReferenceStatistics:
    """Per position, of healthy X-rays (n, 1, rows, columns) and their mirror images."""
    found = StatisticsAccumulator("position", scans=len(inputs))
    recorded: list[torch.Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda module, given, output: recorded.append(output))
    try:
        with torch.no_grad():
            for mirrored, batch in enumerate((inputs, inputs.flip(3))):
                network(batch)
                found.add(recorded.pop(), mirrored=bool(mirrored))
    finally:
        hook.remove()
    return found.finish(activity_threshold=0.0, prior_scans=PRIOR_SCANS)


def case_of(
    network: nn.Module,
    inputs: torch.Tensor,
    statistics: Callable[[str], ReferenceStatistics],
    healthy: torch.Tensor,
    settings: Mapping[str, object] | None = None,
) -> WholeCase:
    """The question what the severity of X-rays rests on; the baseline is the first healthy X-ray's mean image."""
    return WholeCase(
        network,
        RegressionTarget(0, "severity"),
        inputs,
        baseline_like(inputs),
        (1.0, 1.0),
        LAYERS[-1:],
        ("layer2", "layer3"),
        statistics,
        settings={"schedule": "full", **(settings or {})},
        batch_size=64,
        examples=lambda: tuple(healthy),
    )


def maps_of_methods(
    network: nn.Module,
    cases: Cases,
    healthy: np.ndarray,
    names: Sequence[str],
    report: Callable[[str], None],
    plain: bool = False,
) -> Sums:
    """The sums of every method's maps.

    Unless ``plain``, bottlenecks run with the X-ray's own statistics, too, and with the loss of another direction.
    """
    found, inputs, examples = Sums(), as_inputs(cases.images), as_inputs(healthy)
    known = {layer: statistics_of(network, layer, examples) for layer in LAYERS}
    case = case_of(network, inputs, known.__getitem__, examples)
    with explainable(network):
        for name in names:
            _run(found, name, name, [case], cases, report)
            if name in STATISTICS_FAMILY and not plain:
                own = [
                    case_of(network, row, lambda layer, row=row: own_statistics(network, layer, row), examples)
                    for row in inputs.split(1)
                ]
                _run(found, name + OWN, name, own, cases, report)
        if "inverse_iba" in names and not plain:
            most = case.with_(settings={"regression_loss": "maximise", "schedule": "full"})
            _run(found, "inverse_iba, maximise", "inverse_iba", [most], cases, report)
    return found


def _run(
    found: Sums, title: str, name: str, parts: Sequence[WholeCase], cases: Cases, report: Callable[[str], None]
) -> None:
    method, started = METHODS[name], time.process_time()
    try:
        maps = torch.cat([method.run(part).map for part in parts]).sum(1).numpy()
    except XAIError as error:
        found.refused[title] = str(error)
        return
    values = np.abs(maps) if method.per_input_unit else maps
    found.sums[title] = zone_sums(values, cases.zones)
    found.seconds[title] = (time.process_time() - started) / len(cases)
    report(f"{title}: {found.seconds[title]:.2f} CPU s an X-ray")


def controls(cases: Cases, training: Cases) -> dict[str, np.ndarray]:
    """(n, 6) of what knows nothing of the model."""
    shape = cases.images.shape[1:]
    sizes = cases.zones.sum((2, 3))
    bright = zone_sums(cases.images, cases.zones)
    edges = np.stack([edge_map(image) for image in cases.images])
    noise = np.stack([random_map(shape, 100 + number, shape[0] / 21) for number in range(len(cases))])
    return {
        "control: brightness": bright / sizes,
        "control: edges": zone_sums(edges, cases.zones),
        "control: random": zone_sums(noise, cases.zones),
        "control: mean scores of the training": np.tile(training.scores.mean(0), (len(cases), 1)),
        "control: size of the zones": sizes.astype(float),
    }


def with_random_weights(network: nn.Module, seed: int = 5) -> nn.Module:
    """The same network with random weights."""
    twin = copy.deepcopy(network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in layers_with_parameters(twin):
            randomize(twin.get_submodule(name))
    return twin
