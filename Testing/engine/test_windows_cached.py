"""Cached perturbation through windows against whole re-evaluation, and methods shared with classifiers."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.coalitions import RegionGame, feature_ablation
from xaiengine.attribution.forward import TargetForward
from xaiengine.attribution.gradient import input_x_gradient, integrated_gradients, saliency, smooth_gradient
from xaiengine.attribution.perturbation import occlusion, positions
from xaiengine.attribution.window_forward import CachedPrediction, WindowedForward
from xaiengine.inference.window_layout import lay_windows
from xaiengine.inference.windows import WindowedModel
from xaiengine.models.explained_model import Inferer
from xaiengine.targets.segmentation_targets import SoftVolumeTarget, VoxelTarget

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.Softplus(), nn.Conv3d(4, 2, 3, padding=1)
    ).eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    torch.manual_seed(4)
    return torch.randn(1, 1, 24, 22, 20)


def half_overlap(image, batch=4, blending="gaussian", **more):
    inferer = Inferer("sliding_window", roi_size=(8, 8, 8), overlap=0.5, blending=blending, **more)
    return lay_windows(image.shape[2:], inferer, 3), batch


def both_targets(size):
    blob = torch.zeros(size, dtype=torch.bool)
    blob[8:14, 7:12, 5:11] = True
    everywhere = torch.ones(size, dtype=torch.bool)
    return [
        VoxelTarget("linear", blob, 2, index=1),
        SoftVolumeTarget("not linear", everywhere, 2, index=0, voxel_ml=1.0),
    ]


def windowed(network, image, **more):
    layout, batch = half_overlap(image, **more)
    windows = WindowedModel(network, layout, batch)
    targets = both_targets(tuple(image.shape[2:]))
    return WindowedForward(network, windows, targets, CachedPrediction(windows, image, targets)), layout


class WholeImage(nn.Module):
    """The stitched output as one differentiable network: the slow way."""

    def __init__(self, network, layout_inferer):
        super().__init__()
        self.network, self.inferer = network, layout_inferer

    def forward(self, x):
        from monai.inferers import sliding_window_inference

        i = self.inferer
        return sliding_window_inference(x, i.roi_size, 4, self.network, i.overlap, i.blending, i.sigma_scale)


def slow_forward(network, image, target, blending="gaussian"):
    inferer = Inferer("sliding_window", roi_size=(8, 8, 8), overlap=0.5, blending=blending)
    return TargetForward(WholeImage(network, inferer), target)


@pytest.mark.parametrize("blending", ["constant", "gaussian"])
def test_cached_occlusion_equals_naive_occlusion(network, image, blending):
    forward, layout = windowed(network, image, blending=blending)
    baseline = baseline_like(image, "mean")
    for number, target in enumerate(forward.targets):
        fast = occlusion(forward.of(number), image, baseline, (6, 6, 6), (6, 6, 6), batch_size=3).map
        slow = occlusion(
            slow_forward(network, image, target, blending), image, baseline, (6, 6, 6), (6, 6, 6), batch_size=3
        ).map
        assert slow.abs().max() > 0
        assert (fast - slow).abs().max() <= 1e-5 * max(1.0, float(slow.abs().max()))


def test_cached_occlusion_evaluates_only_windows_that_a_block_and_a_target_touch(network):
    torch.manual_seed(5)
    image = torch.randn(1, 1, 36, 36, 36)
    layout, batch = half_overlap(image)
    windows = WindowedModel(network, layout, batch)
    target = SoftVolumeTarget("everything", torch.ones(36, 36, 36, dtype=torch.bool), 2, index=0)
    cached = CachedPrediction(windows, image, [target])
    assert windows.passes.forward == layout.count == 512
    block, starts = (4, 4, 4), positions((36, 36, 36), (4, 4, 4), (4, 4, 4))
    expected = 0
    for start in starts:  # by hand: a window touches a block if it does so along each axis
        expected += sum(all(w < s + 4 and s < w + 8 for w, s in zip(window, start)) for window in layout.starts)
    windows.passes.forward = 0
    occlusion(WindowedForward(network, windows, [target], cached), image, torch.zeros_like(image), block, batch_size=9)
    assert windows.passes.forward == expected
    assert len(starts) * layout.count >= 8 * expected


def test_occluding_where_no_target_looks_costs_nothing(network, image):
    layout, batch = half_overlap(image)
    windows = WindowedModel(network, layout, batch)
    mask = torch.zeros(image.shape[2:], dtype=torch.bool)
    mask[2:4, 2:4, 2:4] = True
    target = VoxelTarget("corner", mask, 2, index=1)
    cached = CachedPrediction(windows, image, [target])
    windows.passes.forward = 0
    far = image.clone()
    far[..., 12:, :, :] = 0
    assert cached.values(far)[0, 0] == cached.unchanged[0]
    assert windows.passes.forward == 0


def test_a_small_cache_costs_passes_but_changes_nothing(network, image):
    layout, batch = half_overlap(image)
    targets = both_targets(tuple(image.shape[2:]))
    changed = image.clone()
    changed[..., 9:13, 9:13, 9:13] = 0
    values, passes = [], []
    for room in (2**30, 0):
        windows = WindowedModel(network, layout, batch)
        cached = CachedPrediction(windows, image, targets, cache_bytes=room)
        values.append(cached.values(changed)[0])
        passes.append(windows.passes.forward)
    assert torch.allclose(values[0], values[1], atol=1e-6)
    assert passes[1] > passes[0]


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_cached_values_are_right_where_the_image_is_padded(network, padding):
    torch.manual_seed(6)
    image = torch.randn(1, 1, 6, 12, 12)
    layout, batch = half_overlap(image, padding_mode=padding)
    windows = WindowedModel(network, layout, batch)
    targets = [SoftVolumeTarget("all", torch.ones(6, 12, 12, dtype=torch.bool), 2, index=0)]
    changed = image.clone()
    changed[..., 4, 2, 3] += 2
    cached = CachedPrediction(windows, image, targets)
    assert torch.allclose(cached.values(changed)[0], windows.values(changed, targets), rtol=1e-6)


def test_targets_share_the_passes_of_a_perturbation_method(network, image):
    forward, _ = windowed(network, image)
    labels = torch.ones(image.shape[2:], dtype=torch.long)
    labels[12:] = 2
    labels[:, 11:] += 2
    baseline = baseline_like(image, "mean")
    first = feature_ablation(RegionGame(forward.of(0), image, baseline, labels))
    passes = forward.passes
    second = feature_ablation(RegionGame(forward.of(1), image, baseline, labels))
    assert forward.passes == passes
    alone, _ = windowed(network, image)
    assert torch.allclose(feature_ablation(RegionGame(alone.of(1), image, baseline, labels)).map, second.map)
    assert not torch.allclose(first.map, second.map)


def test_targets_share_the_passes_of_integrated_gradients_and_the_map_is_captums(network, image):
    forward, layout = windowed(network, image)
    targets = forward.targets
    baseline = baseline_like(image, "blurred")
    forward.windows.passes.forward = 0
    rows = image.expand(2, -1, -1, -1, -1)
    maps = integrated_gradients(forward, rows, baseline.expand(2, -1, -1, -1, -1), steps=4, batch_size=2).map
    # four steps, each once to predict (one target is not linear) and once to differentiate; plus the baseline
    assert forward.windows.passes.forward == layout.count * (4 * 2 + 1)
    for number, target in enumerate(targets):
        captum = IntegratedGradients(slow_forward(network, image, target))
        expected = captum.attribute(image, baselines=baseline, n_steps=4, internal_batch_size=1)
        assert (maps[number : number + 1] - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_other_gradient_methods_equal_the_same_on_the_stitched_network(network, image):
    forward, _ = windowed(network, image)
    baseline = baseline_like(image, "mean")
    for number, target in enumerate(forward.targets):
        slow, fast = slow_forward(network, image, target), forward.of(number)
        for method in (
            saliency,
            lambda f, x: input_x_gradient(f, x, baseline),
            lambda f, x: smooth_gradient(f, x, samples=3, seed=7, batch_size=1),
        ):
            expected, found = method(slow, image).map, method(fast, image).map
            assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()
