"""Windows against MONAI's sliding-window inference and autograd through it."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn
from xaiengine.core.errors import ModelError, OptionError
from xaiengine.inference.window_layout import lay_windows
from xaiengine.inference.windows import WindowedModel
from xaiengine.models.explained_model import Inferer
from xaiengine.targets.segmentation_targets import SoftDiceTarget, SoftVolumeTarget, VoxelTarget

torch.set_num_threads(1)


def small_network(dims: int = 3, channels: int = 1, classes: int = 3) -> nn.Module:
    """Convolutions with instance normalization, so that a window's output depends on all of that window."""
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    network = nn.Sequential(conv(channels, 4, 3, padding=1), norm(4), nn.Softplus(), conv(4, classes, 3, padding=1))
    return network.eval()


def sliding(roi=(8, 8, 8), overlap=0.5, blending="gaussian", **more) -> Inferer:
    return Inferer("sliding_window", roi_size=roi, overlap=overlap, blending=blending, **more)


def monai_output(network, image, inferer, **more):
    return sliding_window_inference(
        image,
        inferer.roi_size,
        2,
        network,
        inferer.overlap,
        inferer.blending,
        inferer.sigma_scale,
        inferer.padding_mode,
        inferer.cval,
        **more,
    )


def targets_for(size, classes=3):
    torch.manual_seed(1)
    blob = torch.zeros(size, dtype=torch.bool)
    blob[tuple(slice(length // 3, length // 3 + 3) for length in size)] = True
    rival = torch.randint(0, classes, size)
    everywhere = torch.ones(size, dtype=torch.bool)
    return {
        "logit": VoxelTarget("logit", blob, classes, index=1),
        "difference": VoxelTarget("difference", blob, classes, index=1, against=rival),
        "log odds": VoxelTarget("odds", blob, classes, index=1, score="log_odds"),
        "probability": VoxelTarget("probability", blob, classes, index=2, score="probability", mean=False),
        "volume": SoftVolumeTarget("volume", everywhere, classes, index=1, voxel_ml=0.5),
        "dice": SoftDiceTarget("dice", everywhere, classes, index=1, truth=blob),
    }


CASES = list(itertools.product((0.0, 0.25, 0.5, 0.6), ("constant", "gaussian"), (1, 3)))


@pytest.mark.parametrize("overlap, blending, batch", CASES)
def test_prediction_equals_monais(overlap, blending, batch):
    network, image = small_network(), torch.randn(1, 1, 13, 10, 17)
    inferer = sliding((8, 7, 9), overlap, blending)
    windows = WindowedModel(network, lay_windows(image.shape[2:], inferer, 3), batch)
    assert torch.allclose(windows.predict(image), monai_output(network, image, inferer), atol=1e-5)


@pytest.mark.parametrize("overlap, blending, batch", CASES)
def test_gradient_equals_autograd_through_monais_inference(overlap, blending, batch):
    network, image = small_network(), torch.randn(1, 1, 13, 10, 17)
    inferer = sliding((8, 7, 9), overlap, blending)
    windows = WindowedModel(network, lay_windows(image.shape[2:], inferer, 3), batch)
    targets = targets_for(tuple(image.shape[2:]))
    values, gradients = windows.gradients(image, list(targets.values()))
    leaf = image.clone().requires_grad_()
    output = monai_output(network, leaf, inferer)
    for n, target in enumerate(targets.values()):
        value = target.value(output)
        (expected,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True)
        assert values[n] == pytest.approx(float(value.detach()), rel=1e-4, abs=1e-5)
        scale = expected.abs().max()
        assert scale > 0
        assert (gradients[n] - expected).abs().max() <= 1e-5 * scale


@pytest.mark.parametrize("padding", ["constant", "reflect", "replicate", "circular"])
def test_windows_larger_than_the_image_are_padded_as_monai_pads(padding):
    network, image = small_network(), torch.randn(1, 1, 7, 10, 6)
    cval = 0.3 if padding == "constant" else 0.0
    inferer = sliding((9, 8, 9), 0.5, "gaussian", padding_mode=padding, cval=cval)
    windows = WindowedModel(network, lay_windows(image.shape[2:], inferer, 3))
    assert torch.allclose(windows.predict(image), monai_output(network, image, inferer), atol=1e-5)
    target = targets_for((7, 10, 6))["probability"]
    leaf = image.clone().requires_grad_()
    (expected,) = torch.autograd.grad(target.value(monai_output(network, leaf, inferer)).sum(), leaf)
    _, (gradient,) = windows.gradients(image, [target])
    assert (gradient - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("channels", [1, 3])
def test_windows_of_two_dimensional_networks_equal_monais_slice_by_slice(channels):
    network = small_network(2, channels)
    image = torch.randn(1, channels, 13, 4, 11)
    inferer = sliding((6, 8), 0.5, "gaussian")
    windows = WindowedModel(network, lay_windows(image.shape[2:], inferer, 2, slice_axis=1), 2)
    leaf = image.clone().requires_grad_()
    slices = [monai_output(network, leaf[:, :, :, k], inferer) for k in range(4)]
    expected = torch.stack(slices, 3)
    assert torch.allclose(windows.predict(image), expected, atol=1e-5)
    target = targets_for((13, 4, 11))["log odds"]
    (wanted,) = torch.autograd.grad(target.value(expected).sum(), leaf)
    _, (gradient,) = windows.gradients(image, [target])
    assert (gradient - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_whole_image_and_slice_inference_equal_the_bare_network():
    image = torch.randn(1, 1, 9, 6, 7)
    whole, flat = small_network(3), small_network(2)
    one = WindowedModel(whole, lay_windows(image.shape[2:], Inferer("whole"), 3))
    assert one.layout.count == 1
    assert torch.allclose(one.predict(image), whole(image), atol=1e-6)
    slices = WindowedModel(flat, lay_windows(image.shape[2:], Inferer("slices"), 2, slice_axis=2), 4)
    assert slices.layout.count == 7
    expected = torch.stack([flat(image[..., k]) for k in range(7)], -1)
    assert torch.allclose(slices.predict(image), expected, atol=1e-6)


def test_only_windows_that_the_target_touches_are_evaluated():
    network, image = small_network(), torch.randn(1, 1, 32, 32, 24)
    layout = lay_windows(image.shape[2:], sliding(), 3)
    target = VoxelTarget("corner", _cube((32, 32, 24), 9, 3), 3, index=1)
    holding = sum(all(start <= 11 and start + 8 > 9 for start in starts) for starts in layout.starts)
    windows = WindowedModel(network, layout)
    _, (gradient,) = windows.gradients(image, [target])
    assert windows.passes.forward == windows.passes.backward == holding == 8
    assert layout.count == 7 * 7 * 5
    full = WindowedModel(network, layout)
    assert torch.allclose(full.predict(image)[(..., *target.box)], windows.predict_for(image, [target])[0], atol=1e-6)
    assert gradient[..., 20:, :, :].abs().max() == 0


def _cube(size, start, edge):
    mask = torch.zeros(size, dtype=torch.bool)
    mask[tuple(slice(start, start + edge) for _ in size)] = True
    return mask


def test_several_targets_share_the_forward_passes():
    network, image = small_network(), torch.randn(1, 1, 16, 16, 16)
    layout = lay_windows(image.shape[2:], sliding(), 3)
    targets = [VoxelTarget(str(n), torch.ones(16, 16, 16, dtype=torch.bool), 3, index=n) for n in range(3)]
    together = WindowedModel(network, layout)
    _, gradients = together.gradients(image, targets)
    assert together.passes.forward == layout.count == 27
    for target, gradient in zip(targets, gradients):
        assert torch.equal(WindowedModel(network, layout).gradients(image, [target])[1][0], gradient)


def test_a_target_that_is_not_linear_needs_no_second_forward_pass_where_one_batch_holds_its_windows():
    network, image = small_network(), torch.randn(1, 1, 8, 8, 8)
    windows = WindowedModel(network, lay_windows(image.shape[2:], Inferer("whole"), 3))
    target = targets_for((8, 8, 8))["dice"]
    windows.gradients(image, [target])
    assert (windows.passes.forward, windows.passes.backward) == (1, 1)


def test_memory_of_one_window_is_enough():
    """No more activations are alive at once than those of one batch of windows."""
    alive = {"now": 0, "most": 0}

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            alive["now"] += 1
            alive["most"] = max(alive["most"], alive["now"])
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            alive["now"] -= 1
            return gradient

    network = small_network()
    windows = WindowedModel(
        lambda x: network(Counted.apply(x) if torch.is_grad_enabled() else x), lay_windows((20, 20, 20), sliding(), 3)
    )
    windows.gradients(torch.randn(1, 1, 20, 20, 20), [targets_for((20, 20, 20))["dice"]])
    assert alive == {"now": 0, "most": 1}


def test_networks_with_a_smaller_output_are_brought_to_the_windows_size():
    network = nn.Sequential(small_network(), nn.AvgPool3d(2))
    image = torch.randn(1, 1, 8, 8, 8)
    windows = WindowedModel(network, lay_windows((8, 8, 8), Inferer("whole"), 3))
    assert windows.predict(image).shape == (1, 3, 8, 8, 8)


@pytest.mark.parametrize(
    "network, complaint",
    [
        (lambda x: [x, x], "deep supervision"),
        (lambda x: x.flatten(2).mean(2), "one output per voxel"),
        (lambda x: x * float("inf"), "not finite"),
    ],
)
def test_outputs_that_are_no_segmentation_are_refused(network, complaint):
    windows = WindowedModel(network, lay_windows((4, 4, 4), Inferer("whole"), 3))
    with pytest.raises(ModelError, match=complaint):
        windows.predict(torch.ones(1, 1, 4, 4, 4))


def test_deep_supervision_stacked_along_an_axis_gives_its_full_resolution_output():
    windows = WindowedModel(lambda x: torch.stack([x, x * 0], 1), lay_windows((4, 4, 4), Inferer("whole"), 3))
    image = torch.randn(1, 1, 4, 4, 4)
    assert torch.equal(windows.predict(image), image)


def test_half_precision_overflow_is_said():
    windows = WindowedModel(lambda x: x * 60000, lay_windows((2, 2, 2), Inferer("whole"), 3))
    with pytest.raises(ModelError, match="half precision"):
        windows.predict(torch.full((1, 1, 2, 2, 2), 9.0, dtype=torch.float16))


def test_a_window_of_wrong_dimension_or_overlap_is_refused():
    with pytest.raises(OptionError, match="dimensions"):
        lay_windows((8, 8, 8), sliding((4, 4)), 3)
    with pytest.raises(OptionError, match="overlap"):
        lay_windows((8, 8, 8), sliding(overlap=1.0), 3)


def test_cancelling_between_windows_leaves_through_the_callback():
    class Stop(Exception):
        pass

    def stop(count):
        raise Stop

    windows = WindowedModel(small_network(), lay_windows((16, 16, 16), sliding(), 3), on_windows=stop)
    with pytest.raises(Stop):
        windows.predict(torch.randn(1, 1, 16, 16, 16))
    assert windows.passes.forward == 1


def test_whole_images_can_be_padded_to_what_a_network_divides():
    network = nn.Sequential(nn.Conv3d(1, 2, 2, stride=2), nn.Upsample(scale_factor=2))
    layout = lay_windows((7, 8, 9), Inferer("whole"), 3, divisible_by=2)
    assert layout.padded_size == (8, 8, 10)
    assert WindowedModel(network, layout).predict(torch.randn(1, 1, 7, 8, 9)).shape == (1, 2, 7, 8, 9)
