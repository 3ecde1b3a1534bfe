"""Layers of segmentation networks through windows: stitched features, captum methods, the bottleneck."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import GuidedBackprop
from monai.inferers import sliding_window_inference
from monai.networks.nets import BasicUNet
from torch import nn
from xaiengine.attribution.backpropagation import deep_lift, guided_backpropagation
from xaiengine.attribution.bottleneck.bottleneck import BottleneckSettings
from xaiengine.attribution.bottleneck.segmentation_bottleneck import (
    bottleneck_layer,
    cuts_every_path,
    segmentation_bits,
)
from xaiengine.attribution.cam import WEIGHTS, cam_maps
from xaiengine.attribution.layer import LayerSettings, layer_attribution
from xaiengine.attribution.windowwise import layer_over_windows, over_windows
from xaiengine.core.errors import ModelError
from xaiengine.inference.window_layers import lay_cells, layer_features
from xaiengine.inference.window_layout import lay_windows
from xaiengine.inference.window_output import WindowNetwork
from xaiengine.inference.windows import WindowedModel
from xaiengine.io.grid import Grid
from xaiengine.models.explained_model import Inferer
from xaiengine.targets.segmentation_targets import SoftVolumeTarget, VoxelTarget

torch.set_num_threads(1)
WINDOWS = Inferer("sliding_window", roi_size=(8, 8, 8), overlap=0.5, blending="gaussian")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(4, 6, 2, stride=2),
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
        nn.Conv3d(6, 2, 3, padding=1),
    ).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(1, 1, 12, 16, 14)


def blob_target(size, classes=2):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[4:9, 5:11, 3:9] = True
    return VoxelTarget("blob", mask, classes, index=1)


def windowed(network, image, inferer=WINDOWS, batch=3):
    module = WindowNetwork(network)
    return module, WindowedModel(module, lay_windows(image.shape[2:], inferer, image.ndim - 2), batch)


def test_features_of_a_single_window_give_the_class_activation_maps_of_the_whole_network(network, image):
    module, windows = windowed(network, image, Inferer("whole"))
    target = blob_target(tuple(image.shape[2:]))
    features, values = layer_features(windows, network, ["3"], image, [target])
    found = features["3"]
    assert float(values[0]) == pytest.approx(float(target.value(network(image)).detach()), rel=1e-5)
    expected = cam_maps(module, {"3": network[3]}, image, target, list(WEIGHTS), rectify=False)
    activation, gradient = found.activation[None], found.gradients[0][None]
    for method, weigh in WEIGHTS.items():
        raw = (weigh(activation, gradient) * activation).sum(1)
        assert torch.allclose(raw, expected[method, "3"], rtol=1e-4, atol=1e-9), method
    assert torch.allclose(found.products[0], expected["hirescam", "3"][0], rtol=1e-4, atol=1e-9)
    assert torch.allclose(found.positive_products[0], expected["layercam", "3"][0], rtol=1e-4, atol=1e-9)


def test_gradients_on_the_lattice_equal_autograd_through_monais_inference(network, image):
    """A perturbation of the layer that is the same in all windows moves the target by the lattice's gradient."""
    _, windows = windowed(network, image)
    target = blob_target(tuple(image.shape[2:]))
    features, _ = layer_features(windows, network, ["3"], image, [target])
    lattice = features["3"].lattice
    assert lattice.shape == (6, 8, 7)
    torch.manual_seed(2)
    field = torch.randn(6, *lattice.shape).requires_grad_()
    starts = iter(windows.layout.starts)

    def add(module, arguments, output):
        rows = []
        for _ in range(len(output)):
            corner = [start // 2 for start in next(starts)]
            rows.append(field[(slice(None), *[slice(c, c + 4) for c in corner])])
        return output + torch.stack(rows) - torch.stack(rows).detach()

    handle = network[3].register_forward_hook(add)
    output = sliding_window_inference(image, (8, 8, 8), 1, network, 0.5, "gaussian")
    handle.remove()
    (expected,) = torch.autograd.grad(target.value(output).sum(), field)
    found = features["3"].gradients[0]
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_windows_that_start_between_cells_keep_their_sums(network):
    torch.manual_seed(3)
    image = torch.randn(1, 1, 13, 11, 9)  # the last windows start at 5, 3 and 1: between the cells of stride 2
    _, windows = windowed(network, image)
    target = SoftVolumeTarget("volume", torch.ones(13, 11, 9, dtype=torch.bool), 2, index=1)
    features, _ = layer_features(windows, network, ["3"], image, [target])
    sums: list[float] = []
    handle = network[3].register_full_backward_hook(lambda m, gi, go: sums.append(float(go[0].sum())))
    windows.gradients(image, [target])
    handle.remove()
    assert float(features["3"].gradients[0].sum()) == pytest.approx(sum(sums), rel=1e-4)
    assert not torch.isnan(features["3"].activation).any()


OBLIQUE = np.array([[0.9, 0.3, 0.1, -20], [-0.3, 1.1, 0.2, 7], [0.05, -0.2, -2.4, 31], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("size", [(24, 20, 16), (23, 19, 7)])
@pytest.mark.parametrize("place", [(11, 13, 4), (4, 6, 2), (20, 9, 5)])
def test_the_lattice_lies_where_the_scan_lies(size, place):
    """A bright voxel excites the cell at its own place in the patient: oblique, left-handed, off the lattice."""
    network = nn.Sequential(nn.Conv3d(1, 1, 2, stride=2, bias=False), nn.Upsample(scale_factor=2)).eval()
    nn.init.ones_(network[0].weight)
    image = torch.zeros(1, 1, *size)
    image[(0, 0, *place)] = 1
    _, windows = windowed(network, image)
    grid = Grid(size, OBLIQUE)
    target = SoftVolumeTarget("all", torch.ones(size, dtype=torch.bool), 1, "sigmoid")
    features, _ = layer_features(windows, network, ["0"], image, [target])
    found = features["0"]
    activation = found.activation[0].double().numpy()
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in activation.shape], indexing="ij"), -1)
    ras = found.lattice.grid(grid).index_to_ras(cells)
    center = (ras * activation[..., None]).sum((0, 1, 2)) / activation.sum()
    off = grid.ras_to_index(center) - np.array(place)
    assert np.abs(off).max() <= 1.0  # half a cell of two voxels is inherent, half may come from sharing


def test_guided_backpropagation_over_windows_equals_captums_through_the_whole_inference(network, image):
    module, windows = windowed(network, image)
    target = blob_target(tuple(image.shape[2:]))
    found = over_windows(module, windows, target, image, image * 0, lambda f, x, b: guided_backpropagation(f, x))

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return target.value(sliding_window_inference(x, (8, 8, 8), 1, self.network, 0.5, "gaussian"))

    expected = GuidedBackprop(Whole()).attribute(image.clone().requires_grad_())
    assert (found.map - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_deep_lift_over_windows_is_complete(network, image):
    module, windows = windowed(network, image)
    target = blob_target(tuple(image.shape[2:]))
    baseline = torch.full_like(image, 0.3)
    found = over_windows(module, windows, target, image, baseline, deep_lift)
    change = windows.values(image, [target]) - windows.values(baseline, [target])
    assert float(found.map.sum()) == pytest.approx(float(change[0]), rel=1e-3)


@pytest.mark.parametrize("method", ["layer_conductance", "layer_integrated_gradients"])
def test_layer_methods_over_windows_are_complete_where_the_layer_cuts_every_path(network, image, method):
    module, windows = windowed(network, image)
    target = blob_target(tuple(image.shape[2:]))
    baseline = torch.full_like(image, 0.3)

    def explain(forward, layer, name, x, b):
        return layer_attribution(method, forward, name, layer, x, b, LayerSettings(steps=40))

    found, lattice = layer_over_windows(module, windows, target, "3", image, baseline, explain)
    assert found.map.shape[2:] == lattice.shape
    change = float((windows.values(image, [target]) - windows.values(baseline, [target]))[0])
    assert float(found.map.sum()) == pytest.approx(change, rel=0.02, abs=0.002)


def test_a_target_that_is_not_linear_is_said_to_be_linearised(network, image):
    module, windows = windowed(network, image)
    target = SoftVolumeTarget("volume", torch.ones(image.shape[2:], dtype=torch.bool), 2, index=1)
    found = over_windows(module, windows, target, image, image * 0, lambda f, x, b: guided_backpropagation(f, x))
    assert any("taken as linear" in note for note in found.notes)


def test_layers_that_do_not_exist_or_have_no_map_are_refused(network, image):
    _, windows = windowed(network, image)
    with pytest.raises(ModelError, match="no layer"):
        lay_cells(windows, network, "encoder", [0], image)


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    torch.manual_seed(4)
    return BasicUNet(spatial_dims=3, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4)).eval()


def test_layers_with_skips_around_them_are_told_from_layers_that_everything_passes(unet):
    module, batch = WindowNetwork(unet), torch.randn(1, 1, 32, 32, 32)
    assert not cuts_every_path(module, "down_4", batch)
    assert not cuts_every_path(module, "upcat_2", batch)
    assert cuts_every_path(module, "conv_0", batch)
    assert cuts_every_path(module, "upcat_1", batch)
    assert bottleneck_layer(module, batch) == "conv_0"


def test_bits_are_needed_where_the_segmentation_is_decided():
    """The class follows the first half of the image alone: the bits lie there, in both overlapping windows."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Conv3d(2, 1, 1)).eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1, 1))
        network[0].bias.zero_()
        network[1].weight.copy_(torch.tensor([4.0, -4.0]).reshape(1, 2, 1, 1, 1))
        network[1].bias.fill_(-8.0)
    image = torch.randn(1, 1, 12, 8, 8) * 0.2
    image[..., 2:6, 2:6, 2:6] += 2.0
    structure = network(image)[0, 0] > 0
    assert 50 < int(structure.sum()) < 80
    module, windows = windowed(network, image)
    target = VoxelTarget("structure", structure, 1, "sigmoid")
    found, lattice = segmentation_bits(
        module,
        windows,
        image,
        target,
        structure,
        0,
        "0",
        settings=BottleneckSettings(mode="reference", steps=15, seed=1, sigma=0.5),
    )
    assert lattice.shape == (12, 8, 8)
    bits = found.map[0, 0]
    inside, outside = float(bits[structure].mean()), float(bits[9:].mean())
    assert inside > 5 * outside
    assert found.convergence["kept_by_pure_noise"] < 0.5
    assert any("no reference statistics" in note for note in found.notes)
