"""Targets of segmentations: values against their definitions, cotangents against autograd, forms of output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from xaiengine.core.errors import ModelError
from xaiengine.targets.segmentation_targets import (
    SoftDiceTarget,
    SoftVolumeTarget,
    VoxelTarget,
    output_form,
    predicted_masks,
    voxel_scores,
)


@pytest.fixture
def output() -> torch.Tensor:
    return torch.randn(1, 3, 5, 6, 7, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.zeros(5, 6, 7, dtype=torch.bool)
    mask[1:4, 2:4, 3:6] = True
    mask[2, 3, 4] = False
    return mask


def softmax(output: torch.Tensor) -> np.ndarray:
    values = output[0].double().numpy()
    odds = np.exp(values - values.max(0))
    return odds / odds.sum(0)


def test_values_follow_their_definitions(output, mask):
    inside, p = mask.numpy(), softmax(output)
    logits = output[0].double().numpy()
    rival = torch.full(mask.shape, 2)
    rival[:2] = 0
    cases = [
        (VoxelTarget("", mask, 3, index=1), logits[1][inside].mean()),
        (VoxelTarget("", mask, 3, index=1, mean=False), logits[1][inside].sum()),
        (VoxelTarget("", mask, 3, index=1, against=2), (logits[1] - logits[2])[inside].mean()),
        (
            VoxelTarget("", mask, 3, index=1, against=rival),
            (logits[1] - np.where(rival.numpy() == 2, logits[2], logits[0]))[inside].mean(),
        ),
        (VoxelTarget("", mask, 3, index=1, score="probability"), p[1][inside].mean()),
        (VoxelTarget("", mask, 3, index=1, score="log_odds"), np.log(p[1] / (1 - p[1]))[inside].mean()),
        (SoftVolumeTarget("", mask, 3, index=0, voxel_ml=0.25), 0.25 * p[0][inside].sum()),
        (
            SoftDiceTarget("", torch.ones_like(mask), 3, index=2, truth=mask),
            2 * p[2][inside].sum() / (p[2].sum() + inside.sum()),
        ),
    ]
    for target, expected in cases:
        assert float(target.value(output)) == pytest.approx(float(expected), rel=1e-5)


def test_an_output_on_the_targets_box_alone_gives_the_same_value(output, mask):
    target = VoxelTarget("", mask, 3, index=1, score="probability")
    assert torch.equal(target.value(output[(..., *target.box)]), target.value(output))
    assert target.full_mask().equal(mask)


def test_cotangents_are_derivatives_and_of_linear_targets_need_no_output(output, mask):
    rival = torch.randint(0, 3, mask.shape, generator=torch.Generator().manual_seed(1))
    for target in (
        VoxelTarget("", mask, 3, index=1),
        VoxelTarget("", mask, 3, index=1, against=rival),
        VoxelTarget("", mask, 3, index=2, against=0, mean=False),
        VoxelTarget("", mask, 3, "sigmoid", index=2, score="log_odds"),
    ):
        leaf = output[(..., *target.box)].clone().requires_grad_()
        (expected,) = torch.autograd.grad(target.value(leaf).sum(), leaf)
        assert target.linear
        assert torch.allclose(target.cotangent(None), expected, atol=1e-7)
    assert not VoxelTarget("", mask, 3, index=1, score="log_odds").linear
    assert not VoxelTarget("", mask, 3, "sigmoid", index=1, score="probability").linear


def test_softmax_is_not_applied_to_probabilities(output, mask):
    probabilities = output.softmax(1)
    form, note = output_form(probabilities, "softmax")
    assert form == "probabilities" and "not applied a second time" in note
    target = VoxelTarget("", mask, 3, form, index=1, score="probability")
    assert float(target.value(probabilities)) == pytest.approx(float(probabilities[0, 1][mask].mean()), rel=1e-6)
    assert torch.allclose(
        voxel_scores(probabilities, 1, "log_odds", form), voxel_scores(output, 1, "log_odds", "softmax"), atol=1e-4
    )


@pytest.mark.parametrize(
    "channels, activation, expected",
    [(1, "softmax", "sigmoid"), (1, "none", "sigmoid"), (3, "none", "softmax"), (3, "sigmoid", "sigmoid")],
)
def test_single_channels_and_missing_activations_are_read_as_what_they_can_only_be(channels, activation, expected):
    logits = torch.randn(1, channels, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    form, note = output_form(logits, activation)
    assert form == expected
    assert bool(note) == (activation == "none")


def test_masks_of_softmax_exclude_one_another_and_those_of_sigmoid_do_not():
    output = torch.tensor([[2.0, -1.0], [3.0, -2.0]]).reshape(1, 2, 2, 1, 1)
    assert predicted_masks(output, "softmax").flatten(1).tolist() == [[False, True], [True, False]]
    assert predicted_masks(output, "sigmoid").flatten(1).tolist() == [[True, False], [True, False]]
    assert predicted_masks(output[:, :1], "sigmoid").flatten().tolist() == [True, False]
    assert predicted_masks(torch.tensor([0.4, 0.6]).reshape(1, 1, 2, 1, 1), "probabilities").flatten().tolist() == [
        False,
        True,
    ]


def test_a_target_without_voxels_and_another_number_of_channels_are_refused(output, mask):
    with pytest.raises(ModelError, match="holds no voxel"):
        VoxelTarget("nothing", torch.zeros_like(mask), 3)
    with pytest.raises(ModelError, match="2 outputs per voxel, not 3"):
        VoxelTarget("", mask, 2).value(output)
