"""Cells lie where receptive fields are centered: closed forms, MONAI networks, and a spot that is found again."""

import numpy as np
import pytest
import torch
from monai.networks.nets import DenseNet121, ResNet, SEResNet50, UNet, ViT
from torch import nn
from xaiengine.core.errors import ModelError
from xaiengine.network.feature_grid import feature_grid


def conv(kernel, stride, padding, dims=2, channels=(1, 1)):
    return {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](*channels, kernel, stride, padding)


@pytest.mark.parametrize(
    ("layers", "size", "scale", "offset"),
    [
        ([conv(3, 1, 1)], 32, 1, 0),
        ([conv(3, 2, 1)], 32, 2, 0),
        ([conv(3, 2, 1)], 33, 2, 0),
        ([conv(2, 2, 0)], 32, 2, 0.5),
        ([conv(7, 2, 3), nn.MaxPool2d(3, 2, 1)], 64, 4, 0),
        ([conv(3, 1, 1), nn.MaxPool2d(2), conv(3, 1, 1), nn.MaxPool2d(2)], 64, 4, 1.5),
        ([conv(3, 1, 1), nn.InstanceNorm2d(1), nn.PReLU(), conv(5, 2, 2)], 64, 2, 0),
        ([conv(3, 1, 0)], 32, 1, 1),
        ([conv(16, 16, 0)], 64, 16, 7.5),
    ],
)
def test_closed_forms(layers, size, scale, offset):
    network = nn.Sequential(*layers)
    grid = feature_grid(network, str(len(layers) - 1), torch.zeros(1, 1, size, size))
    assert grid.measured and grid.scale == (scale, scale) and grid.offset == (offset, offset)


def test_axes_of_different_strides_in_three_dimensions():
    network = nn.Sequential(conv((3, 3, 3), (2, 1, 4), (1, 1, 1), 3))
    grid = feature_grid(network, "0", torch.zeros(1, 1, 16, 16, 32))
    assert grid.cells == (8, 16, 8)
    assert grid.scale == (2, 1, 4) and grid.offset == (0, 0, 0)


@pytest.mark.parametrize(
    ("network", "layer", "size", "scale", "offset"),
    [
        (lambda: DenseNet121(2, 1, 2), "features.transition1", 128, 8, 1 + 0.5 * 4 - 1),
        (lambda: ResNet("basic", [1, 1, 1, 1], [8, 8, 8, 8], 2, 1, conv1_t_stride=2), "layer2", 128, 8, 0),
        (lambda: SEResNet50(spatial_dims=2, in_channels=1, num_classes=2), "layer1", 128, 4, None),
        (lambda: UNet(2, 1, 2, (4, 8, 16), (2, 2)), "model.1.submodule.1.submodule", 64, 4, 0),
    ],
)
def test_networks_of_monai(network, layer, size, scale, offset):
    grid = feature_grid(network(), layer, torch.zeros(1, 1, size, size))
    assert grid.scale == (scale, scale)
    if offset is not None:
        assert grid.measured and grid.offset == (offset, offset)


def test_what_cannot_be_measured_is_stretched_and_said():
    network = nn.Sequential(nn.AdaptiveAvgPool2d((5, 5)), conv(3, 1, 1))
    grid = feature_grid(network, "1", torch.zeros(1, 1, 32, 32))
    assert not grid.measured
    assert grid.scale == (6.4, 6.4) and grid.offset == pytest.approx((2.7, 2.7))


def test_the_affine_carries_cells_to_millimeters():
    grid = feature_grid(nn.Sequential(conv(3, 2, 1)), "0", torch.zeros(1, 1, 32, 16))
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -7], [0, 0, 3, 5], [0, 0, 0, 1]])
    cells = grid.affine(affine, axes=(0, 1))
    cell = np.array([4, 3, 2, 1])
    assert np.allclose(cells @ cell, affine @ np.array([8, 6, 2, 1]))


def test_the_network_itself_is_left_alone():
    network = nn.Sequential(conv(3, 2, 1), nn.BatchNorm2d(1))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    feature_grid(network, "1", torch.zeros(1, 1, 16, 16))
    assert network.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_tokens_lie_on_their_patches_and_attention_has_no_map():
    network = ViT(1, (32, 32), (8, 8), hidden_size=24, mlp_dim=32, num_layers=1, num_heads=2, spatial_dims=2)
    grid = feature_grid(network, "blocks.0", torch.zeros(1, 1, 32, 32))
    assert (grid.cells, grid.scale, grid.offset) == ((4, 4), (8.0, 8.0), (3.5, 3.5))
    with pytest.raises(ModelError, match="feature map"):
        feature_grid(network, "blocks.0.attn.drop_weights", torch.zeros(1, 1, 32, 32))


def test_cells_are_measured_within_a_block_without_gradients_too():
    network = nn.Sequential(conv(3, 2, 1), conv(3, 2, 1))
    with torch.no_grad():
        grid = feature_grid(network, "1", torch.rand(1, 1, 32, 32))
    assert grid.measured and grid.scale == (4, 4) and grid.offset == (0, 0)
