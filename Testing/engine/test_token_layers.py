"""Layers of transformers on their patches: found by what they respond to, explained by every method, in 2D and 3D."""

import copy
import math

import pytest
import torch
from monai.networks.nets import UNETR, SwinUNETR, ViT
from support.planted_transformers import PATCH, cubes, trained_vit
from torch import nn
from xaiengine.attribution.baselines import baseline_like
from xaiengine.attribution.bottleneck.information import own_statistics
from xaiengine.attribution.feature_maps import default_layers, recorded, require_maps
from xaiengine.attribution.registry import find_method
from xaiengine.attribution.runner import run_method
from xaiengine.attribution.whole_case import WholeCase
from xaiengine.core.errors import ModelError
from xaiengine.network.layer_maps import layer_maps
from xaiengine.network.layers import find_layer
from xaiengine.network.layouts import Layout
from xaiengine.network.tail.tail import Tail
from xaiengine.targets.targets import ClassTarget


class Encoder(nn.Module):
    """torch's own encoder behind a patch embedding, with class token; batch or tokens first."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 8, 8)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=batch_first, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 2)
        self.batch_first = batch_first

    def forward(self, inputs):
        tokens = self.patches(inputs).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        if self.batch_first:
            return self.head(self.encoder(tokens)[:, 0])
        return self.head(self.encoder(tokens.transpose(0, 1))[0])


class Pooled(nn.Module):
    """SegFormer-like: overlapping patches, attention to pooled keys."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 16, 7, 4, 3)
        self.norm = nn.LayerNorm(16)
        self.pool = nn.Conv2d(16, 16, 2, 2)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.mix = nn.Linear(16, 16)
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, inputs):
        grid = self.embed(inputs)
        tokens = self.norm(grid.flatten(2).transpose(1, 2))
        keys = self.pool(grid).flatten(2).transpose(1, 2)
        tokens = self.mix(tokens + self.attention(tokens, keys, keys)[0])
        return self.head(tokens.transpose(1, 2).reshape(grid.shape))


def noise(*shape):
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(3))


def vit(dims, projection="conv"):
    torch.manual_seed(0)
    return ViT(1, [32] * dims, [8] * dims, 48, 96, 2, 4, projection, classification=True, spatial_dims=dims).eval()


@pytest.mark.parametrize(("dims", "projection"), [(2, "conv"), (3, "conv"), (2, "perceptron"), (3, "perceptron")])
def test_blocks_have_maps_and_attention_matrices_have_none(dims, projection):
    found = layer_maps(vit(dims, projection), noise(*[32] * dims))
    assert found["blocks.1"] == Layout("tokens", (4,) * dims, (8.0,) * dims, leading=1)
    assert found["blocks.0.attn.qkv"].cells == (4,) * dims
    assert not {"blocks.0.attn.input_rearrange", "blocks.0.attn.drop_weights", "classification_head"} & set(found)


@pytest.mark.parametrize("batch_first", [True, False])
def test_torch_encoders_batch_or_tokens_first(batch_first):
    network = Encoder(batch_first).eval()
    found = layer_maps(network, noise(48, 48))
    kind = "tokens" if batch_first else "sequence"
    assert found["encoder.layers.1"] == Layout(kind, (6, 6), (8.0, 8.0), leading=1)
    assert found["encoder.layers.0.self_attn"].cells == (6, 6)


def test_pooled_attention_and_overlapping_patches():
    found = layer_maps(Pooled().eval(), noise(48, 32))
    assert found["mix"] == Layout("tokens", (12, 8), (4.0, 4.0))
    assert found["attention"].kind == "tokens" if "attention" in found else True


@pytest.fixture(scope="module")
def swin():
    torch.manual_seed(0)
    network = SwinUNETR(1, 2, feature_size=12, spatial_dims=2, depths=(2, 2, 1, 1), num_heads=(2,) * 4, window_size=4)
    return network.eval()


def test_shifted_windows_are_undone(swin):
    found = layer_maps(swin, noise(64, 64))
    plain, shifted = (found[f"swinViT.layers1.0.blocks.{block}.attn"] for block in (0, 1))
    assert (plain.window, plain.shift) == ((4, 4), (0, 0))
    assert (shifted.window, shifted.shift) == ((4, 4), (2, 2))
    assert found["swinViT.layers1.0.blocks.1"].kind == "last"
    assert "swinViT.layers1.0.blocks.0.attn.softmax" not in found
    assert found["decoder1"].cells == (64, 64)


def test_window_layouts_equal_monais_own_partition():
    from monai.networks.nets.swin_unetr import window_partition

    for cells, window, shift in (
        ((8, 6, 4), (4, 3, 2), (2, 1, 1)),
        ((8, 8), (4, 4), (2, 2)),
        ((7, 5), (4, 4), (2, 2)),
    ):
        grid = torch.randn(2, *cells, 3)
        layout = Layout("windows", cells, (1.0,) * len(cells), window=window, shift=shift)
        padded = torch.zeros(2, *layout.padded, 3)
        padded[(slice(None), *[slice(count) for count in cells])] = grid
        rolled = torch.roll(padded, [-step for step in shift], list(range(1, len(cells) + 1)))
        windows = window_partition(rolled, window)
        assert layout.fits(windows)
        assert torch.equal(layout.to_map(windows), grid.movedim(-1, 1))
        assert torch.equal(layout.from_map(layout.to_map(windows), windows), windows)


def test_unetr_tokens_and_convolutions():
    torch.manual_seed(0)
    network = UNETR(1, 2, 32, feature_size=4, hidden_size=24, mlp_dim=32, num_heads=2).eval()
    found = layer_maps(network, noise(32, 32, 32))
    assert found["vit.blocks.11"].cells == (2, 2, 2)
    assert found["decoder2"].cells == (32, 32, 32)
    assert "vit.blocks.0.attn.input_rearrange" not in found


@pytest.mark.parametrize("name", ["blocks.0", "blocks.0.attn"])
def test_a_feature_map_that_is_replaced_by_itself_changes_nothing(name):
    network, images = vit(3), torch.cat([noise(32, 32, 32), 2 * noise(32, 32, 32)])
    before = network(images)[0]
    layer_maps(network, images)
    layer = find_layer(network, name)
    seen = []
    handle = layer.register_forward_hook(lambda module, arguments, output: seen.append(output) or output.clone())
    after = network(images)[0]
    handle.remove()
    assert seen[0].shape == (2, 48, 4, 4, 4)
    torch.testing.assert_close(after, before)
    assert torch.equal(network(images)[0], before)


def test_the_tail_from_tokens_equals_whole_passes():
    network, images = vit(2), noise(32, 32)
    layer_maps(network, images)
    record = Tail(network, "blocks.0").record(images)
    assert record.verify(), record.note
    changed = record.activation + 0.1
    with recorded({}), torch.no_grad():
        handle = find_layer(network, "blocks.0").register_forward_hook(lambda *call: changed)
        wanted = network(images)[0]
        handle.remove()
        torch.testing.assert_close(record.run(changed)[0], wanted)


def test_copies_of_a_network_keep_maps_of_their_own():
    network = vit(2)
    layer_maps(network, noise(32, 32))
    twin = copy.deepcopy(network)
    assert find_layer(twin, "blocks.0") is not find_layer(network, "blocks.0")
    assert math.prod(layer_maps(twin, noise(32, 32))["blocks.0"].cells) == 16
    assert network.state_dict().keys() == vit(2).state_dict().keys()


def test_the_default_is_a_block_on_whose_patches_the_answer_depends():
    network = vit(2)
    assert default_layers(lambda x: network(x)[0], network, noise(32, 32)) == ["blocks.0"]


def test_a_layer_without_places_is_refused():
    network = vit(2)
    with pytest.raises(ModelError, match="not a feature map"):
        require_maps(network, network, ["blocks.0.attn.drop_weights"], noise(32, 32))


RECOMMENDED = ("multilayer_iba", "inverse_iba", "attnlrp", "integrated_gradients", "gradient_attention")
RECOMMENDED += ("attention_rollout", "occlusion")
"""HiResCAM and the other class activation maps miss the cube on the small 3D network (2 of 6)."""


@pytest.mark.slow
@pytest.mark.parametrize(("dims", "steps"), [(2, 400), (3, 150)])
def test_recommended_methods_peak_within_one_patch_of_the_planted_cube(dims, steps):
    network = trained_vit(dims, steps)
    generator = torch.Generator().manual_seed(5)
    images, present, masks = cubes(dims, 40, generator)
    images, masks = images[present == 1][:6], masks[present == 1][:6]
    references = cubes(dims, 64, generator)[0]
    deepest, spread = (default_layers(network, network, images[:1], count) for count in (1, 3))
    case = WholeCase(
        network,
        ClassTarget(1),
        images,
        baseline_like(images, "mean"),
        (1.0,) * dims,
        tuple(deepest),
        tuple(spread),
        lambda layer: own_statistics(network, layer, references),
    )
    for name in RECOMMENDED:
        found = run_method(case, find_method(name)).map.sum(1)
        off = []
        for map_, mask in zip(found, masks[:, 0]):
            peak = torch.stack(torch.unravel_index(map_.argmax(), map_.shape))
            off.append(float((peak - mask.nonzero().float().mean(0)).abs().max()))
        assert sum(distance <= 1.5 * PATCH for distance in off) >= 5, (name, off)
