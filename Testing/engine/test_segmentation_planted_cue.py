"""Planted truth: a network whose segmentation follows a distant cue, and methods that must find the cue."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.planted_cue import accuracy, cue_rank, cue_scan, explaining, map_of, random_network, trained_network

torch.set_num_threads(1)
pytestmark = pytest.mark.slow

FIND_THE_CUE = ("integrated-gradients", "occlusion", "feature-ablation", "hires-cam", "iba", "input_iba")
SETTINGS = {"samples": 8, "occlusion_mm": 4.0, "steps": 16, "regions": 60}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    network = trained_network()
    assert accuracy(network) >= 0.95
    return network


@pytest.fixture(scope="module")
def scans():
    generator = np.random.default_rng(77)
    return [cue_scan(generator, True) for _ in range(3)]


@pytest.mark.parametrize("method", FIND_THE_CUE)
def test_the_cue_ranks_first_of_all_places_outside_the_structure(network, scans, method):
    ranks = [cue_rank(map_of(explaining(network, scan, **SETTINGS), method), scan) for scan in scans]
    assert ranks == [1, 1, 1]


@pytest.mark.parametrize("method", ["integrated-gradients", "hires-cam"])
def test_maps_of_an_untrained_network_are_not_those_of_the_trained_one(network, scans, method):
    found = [map_of(explaining(net, scans[0], **SETTINGS), method) for net in (network, random_network())]
    assert abs(spearmanr(found[0].ravel(), found[1].ravel()).statistic) < 0.2


def test_without_the_cue_the_structure_is_not_segmented_and_hiding_it_takes_the_segmentation_away(network, scans):
    scan = scans[0]
    hidden = scan.image.copy()
    hidden[scan.cue] = 0.0
    with torch.no_grad():
        with_cue, without = (
            network(torch.from_numpy(image)[None, None])[0].argmax(0).numpy()[scan.ball].mean()
            for image in (scan.image, hidden)
        )
    assert with_cue > 0.8 and without < 0.1
