"""Networks that make running a model from one layer on hard, and the networks of MONAI that users have."""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn


class OverwritingTail(nn.Module):
    """Later layers write into the layer's output and into tensors made before it; a function feeds them."""

    def __init__(self):
        super().__init__()
        self.stem, self.skip = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.layer, self.head = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        beside = self.skip(x)
        scaled = beside * 2
        y = self.layer(x)
        y.relu_()
        beside += y
        scaled.mul_(0.5).add_(y)
        return self.head((beside * scaled).mean((2, 3)))


class WritesBeforeLayer(nn.Module):
    """A function changes a module's output in place before the layer; the path depends on the data."""

    def __init__(self):
        super().__init__()
        self.stem, self.other = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)
        self.layer, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        y = self.stem(x)
        y[:, :2] = y[:, :2].abs() + 1
        if y.mean().item() > 0:
            y = y + self.other(x)
        z = self.layer(y.clamp_(max=3))
        return self.head((z * y).mean((2, 3)))


class SharedLayer(nn.Module):
    """The layer runs three times, once of them inside another module."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), self.layer, nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        y = torch.tanh(self.layer(x))
        return self.head((self.layer(y) + x).mean((2, 3)))


class PairGiver(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return {"main": self.a(x), "others": (x.shape[0], self.b(x))}


class TupleLayer(nn.Module):
    """The layer gives a dictionary of tensors; the model gives a tuple."""

    def __init__(self):
        super().__init__()
        self.stem, self.layer, self.head = nn.Conv2d(1, 3, 3, padding=1), PairGiver(), nn.Linear(5, 2)

    def forward(self, x, scale=1.0):
        given = self.layer(self.stem(x) * scale)
        joined = torch.cat([given["main"], given["others"][1]], 1).mean((2, 3))
        return self.head(joined), joined


class AlternatingWindows(nn.Module):
    """Windows fused with the batch so that samples alternate; positions without a batch axis are added."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 2, stride=2)
        self.position = nn.Parameter(torch.randn(4, 4, 1, 1))
        self.layer, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        x = self.stem(x)
        n, c, h, w = x.shape
        windows = x.unflatten(2, (2, h // 2)).unflatten(4, (2, w // 2)).permute(2, 4, 0, 1, 3, 5)
        windows = (windows.flatten(0, 1) + self.position.view(4, 1, 4, 1, 1)).flatten(0, 1)
        kept = windows.tanh()
        y = self.layer(windows) * kept
        y = y.unflatten(0, (2, 2, n)).permute(2, 3, 0, 4, 1, 5).reshape(n, c, h, w)
        return self.head(y.mean((2, 3)))


class SequenceFirst(nn.Module):
    """Tokens on axis 0, samples on axis 1."""

    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Conv2d(1, 8, 4, stride=4), nn.MultiheadAttention(8, 2)
        self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).permute(2, 0, 1)
        tokens = tokens + self.attention(tokens, tokens, tokens)[0]
        return self.head(tokens + self.layer(tokens).relu()).mean(0)


class Checkpointed(nn.Module):
    """Activation checkpointing around the layer: its second forward runs during backward."""

    use_checkpoint = True

    def __init__(self):
        super().__init__()
        self.stem, self.layer, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)

    def _body(self, x):
        return torch.tanh(self.layer(torch.tanh(x)))

    def forward(self, x):
        y = self.stem(x)
        if self.use_checkpoint:
            y = torch.utils.checkpoint.checkpoint(self._body, y, use_reentrant=False)
        else:
            y = self._body(y)
        return self.head(y.mean((2, 3)))


class BatchDependent(nn.Module):
    """Batches pass another module than single samples: replay cannot follow, whole passes can."""

    def __init__(self):
        super().__init__()
        self.stem, self.twin = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.twin.load_state_dict(self.stem.state_dict())
        self.layer, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        y = self.stem(x) if x.shape[0] == 1 else self.twin(x)
        return self.head(self.layer(y).relu().mean((2, 3)))


class HiddenState(nn.Module):
    """The answer depends on how often the model was asked."""

    def __init__(self):
        super().__init__()
        self.stem, self.layer, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
        self.calls = 0

    def forward(self, x):
        y = self.stem(x)
        self.calls += 1
        return self.head(self.layer(y).mean((2, 3))) * (2.0 if self.calls % 2 else 1.0)


def hostile():
    """(name, network, layer, call, input)"""
    image = torch.randn(2, 1, 16, 16)
    return [
        ("overwriting_tail", OverwritingTail(), "layer", 0, image),
        ("overwriting_tail_stem", OverwritingTail(), "stem", 0, image),
        ("writes_before_layer", WritesBeforeLayer(), "layer", 0, image),
        ("shared_first_call", SharedLayer(), "layer", 0, image),
        ("shared_second_call", SharedLayer(), "layer", 1, image),
        ("shared_third_call", SharedLayer(), "layer", 2, image),
        ("tuple_layer", TupleLayer(), "layer", 0, image),
        ("alternating_windows", AlternatingWindows(), "layer", 0, image),
        ("sequence_first", SequenceFirst(), "layer", 0, image),
        ("checkpointed", Checkpointed(), "layer", 0, image),
    ]


def monai_networks():
    """(name, maker, layers, input shape); layers from early to late, some inside blocks, some containers."""
    from monai.networks import nets

    def resnet(axes):
        return lambda: nets.ResNet(
            "basic",
            [2, 2, 2, 2],
            [8, 8, 16, 16],
            spatial_dims=axes,
            n_input_channels=1,
            num_classes=3,
            conv1_t_stride=2,
        )

    def densenet(axes):
        return lambda: nets.DenseNet(axes, 1, 3, init_features=8, growth_rate=4, block_config=(2, 3, 3, 2))

    unet = {"channels": (4, 8, 16), "strides": (2, 2), "in_channels": 1, "out_channels": 2}
    dynunet = {
        "in_channels": 1,
        "out_channels": 2,
        "kernel_size": [3, 3, 3],
        "strides": [1, 2, 2],
        "upsample_kernel_size": [2, 2],
        "filters": [4, 8, 16],
    }
    return [
        (
            "densenet_2d",
            densenet(2),
            [
                "features.pool0",
                "features.denseblock1",
                "features.transition2.conv",
                "features.norm5",
                "features.denseblock3.denselayer2.layers.conv1",
            ],
            (1, 64, 64),
        ),
        ("densenet_3d", densenet(3), ["features.transition1"], (1, 32, 32, 32)),
        ("resnet_2d", resnet(2), ["bn1", "layer1", "layer2.0.conv1", "layer4"], (1, 32, 32)),
        ("resnet_3d", resnet(3), ["layer2"], (1, 16, 16, 16)),
        (
            "efficientnet_b0",
            lambda: nets.EfficientNetBN("efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=3),
            ["_blocks.2.3"],
            (1, 32, 32),
        ),
        (
            "seresnext",
            lambda: nets.SEResNext50(
                spatial_dims=2, in_channels=1, num_classes=3, layers=(1, 1, 1, 1), pretrained=False
            ),
            ["layer1.0.se_layer", "layer2"],
            (1, 32, 32),
        ),
        (
            "unet_2d",
            lambda: nets.UNet(spatial_dims=2, num_res_units=2, **unet),
            ["model.0", "model.1.submodule.1"],
            (1, 32, 32),
        ),
        (
            "unet_3d",
            lambda: nets.UNet(spatial_dims=3, num_res_units=1, **unet),
            ["model.1.submodule.0"],
            (1, 16, 16, 16),
        ),
        (
            "attention_unet",
            lambda: nets.AttentionUnet(spatial_dims=2, **unet),
            ["model.0", "model.1.attention"],
            (1, 32, 32),
        ),
        (
            "dynunet_deep_supervision",
            lambda: nets.DynUNet(3, deep_supervision=True, **dynunet),
            ["bottleneck", "downsamples.0"],
            (1, 16, 16, 16),
        ),
        ("dynunet_2d", lambda: nets.DynUNet(2, **dynunet), ["input_block", "upsamples.0"], (1, 32, 32)),
        (
            "segresnet",
            lambda: nets.SegResNet(spatial_dims=3, init_filters=8, in_channels=1, out_channels=2),
            ["down_layers.1", "up_layers.0.0.conv1"],
            (1, 16, 16, 16),
        ),
        (
            "basicunetplusplus",
            lambda: nets.BasicUNetPlusPlus(
                spatial_dims=2, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 8, 4), deep_supervision=True
            ),
            ["conv_1_0", "upcat_1_1"],
            (1, 32, 32),
        ),
        (
            "vit",
            lambda: nets.ViT(
                in_channels=1,
                img_size=(32, 32),
                patch_size=(8, 8),
                hidden_size=24,
                mlp_dim=48,
                num_layers=2,
                num_heads=2,
                classification=True,
                num_classes=3,
                spatial_dims=2,
            ),
            ["blocks.0", "blocks.1.attn", "patch_embedding"],
            (1, 32, 32),
        ),
        (
            "swin_unetr_2d",
            _swin(2, False),
            ["swinViT.layers1.0.blocks.1.attn.softmax", "swinViT.layers2.0", "encoder4", "decoder3"],
            (1, 64, 64),
        ),
        ("swin_unetr_2d_checkpointed", _swin(2, True), ["swinViT.layers1.0.blocks.1.attn"], (1, 64, 64)),
    ]


def _swin(axes, checkpoint):
    from monai.networks import nets

    return lambda: nets.SwinUNETR(
        in_channels=1,
        out_channels=2,
        feature_size=12,
        spatial_dims=axes,
        depths=(2, 2, 2, 2),
        window_size=4,
        use_checkpoint=checkpoint,
    )


def large_monai_networks():
    from monai.networks import nets

    return [
        ("swin_unetr_3d", _swin(3, False), ["swinViT.layers1.0.blocks.1.attn"], (1, 64, 64, 64)),
        (
            "unetr",
            lambda: nets.UNETR(1, 2, (32, 32, 32), feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2),
            ["vit.blocks.3", "encoder3"],
            (1, 32, 32, 32),
        ),
        (
            "vnet",
            lambda: nets.VNet(spatial_dims=3, in_channels=1, out_channels=2),
            ["down_tr32", "down_tr128"],
            (1, 16, 16, 16),
        ),
        (
            "densenet121",
            lambda: nets.DenseNet121(2, 1, 3),
            ["features.denseblock1", "features.transition2"],
            (1, 64, 64),
        ),
        ("densenet121_3d", lambda: nets.DenseNet121(3, 1, 3), ["features.transition1"], (1, 32, 32, 32)),
        (
            "resnet18_3d",
            lambda: nets.resnet18(spatial_dims=3, n_input_channels=1, num_classes=3),
            ["layer2"],
            (1, 32, 32, 32),
        ),
        (
            "efficientnet_b0",
            lambda: nets.EfficientNetBN("efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=3),
            ["_blocks.4.8._depthwise_conv"],
            (1, 64, 64),
        ),
        (
            "seresnet50",
            lambda: nets.SEResNet50(spatial_dims=2, in_channels=1, num_classes=3, pretrained=False),
            ["layer1.1.se_layer", "layer2"],
            (1, 64, 64),
        ),
    ]
