"""Odd values in plans.json and dataset.json: a sentence with a remedy, whatever stands there."""

import copy

import pytest
from xaiengine.core.errors import ModelError
from xaiengine.models.formats.nnunet_plans import read_channels, read_labels, read_plan

PLANS = {
    "transpose_forward": [0, 1, 2],
    "image_reader_writer": "SimpleITKIO",
    "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0}},
    "configurations": {
        "2d": {
            "patch_size": [16, 16],
            "spacing": [1.0, 1.0],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "architecture": {"network_class_name": "PlainConvUNet", "arch_kwargs": {}},
        },
        "low": {"inherits_from": "2d", "patch_size": [8, 8]},
    },
}
KEYS = ("patch_size", "spacing", "normalization_schemes", "use_mask_for_norm", "architecture")
ODD = (None, "", "x", -1, 0, 1e400, float("nan"), [], [1], {}, {"a": 1}, True, 10**400, [float("inf"), 1], [[1], [2]])


def test_sound_plans_are_read():
    assert read_plan(PLANS, "2d", 1).patch == (16, 16) and read_plan(PLANS, "low", 1).patch == (8, 8)


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("key", KEYS)
def test_an_odd_value_is_read_rightly_or_refused_in_words(key, odd):
    plans = copy.deepcopy(PLANS)
    plans["configurations"]["2d"][key] = odd
    _read_or_refused(lambda: read_plan(plans, "2d", 1))


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("key", [*PLANS, "configurations/2d", "configurations/low"])
def test_an_odd_part_is_read_rightly_or_refused_in_words(key, odd):
    plans = copy.deepcopy(PLANS)
    place, _, name = key.rpartition("/")
    (plans[place] if place else plans)[name] = odd
    _read_or_refused(lambda: read_plan(plans, "low", 1))


@pytest.mark.parametrize("odd", ODD, ids=lambda value: str(value)[:12])
def test_odd_labels_and_channels_are_refused_in_words(odd):
    for read, content in (
        (read_labels, {"labels": odd}),
        (read_labels, {"labels": {"background": 0, "a": odd}}),
        (read_channels, {"channel_names": odd}),
        (read_channels, {"channel_names": {str(odd): "CT"}}),
    ):
        try:
            assert read(content)
        except ModelError as error:
            assert error.message and error.remedy


def _read_or_refused(read):
    try:
        plan = read()
    except ModelError as error:
        assert "plans.json" in error.message or "not supported" in error.message
        assert error.remedy
    else:
        assert len(plan.patch) == len(plan.spacing) and sorted(plan.transpose) == [0, 1, 2]
