"""The networks of the ablations: Xception's principle as a stack of layers, and DeepLab on a backbone of six bottlenecks.

Each answers (N, 3, H, W) with logits (N, 4, H, W), for the four classes of `learn.data.Shapes`.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.aspp import ASPP
from minideeplab.blocks.convolution import ConvBNReLU, upsample
from minideeplab.blocks.extreme import SegmentedInception
from minideeplab.blocks.separable import SeparableConv2d, SeparableConvBN
from minideeplab.learn.data import Shapes
from minideeplab.learn.network_file import SMALL
from minideeplab.networks.backbone import Pyramid, PyramidBackbone, check_backbone
from minideeplab.networks.deeplab import DeepLabV3Plus
from minideeplab.networks.family import Segmenter

CLASSES = len(Shapes.classes)


class Stack(nn.Module):
    """Xception's principle in small: a stem to stride 4, pairs of [ReLU, layer, BN] with shortcuts, scores for every pixel."""

    def __init__(self, layers: Sequence[Callable[[int], nn.Module]], width: int, *, shortcuts: bool = True) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBNReLU(3, width // 2, 3, stride=2), ConvBNReLU(width // 2, width, 3, stride=2))
        self.pairs = nn.ModuleList(
            nn.Sequential(*chain(*((nn.ReLU(), make(width), nn.BatchNorm2d(width)) for make in layers[at : at + 2])))
            for at in range(0, len(layers), 2)
        )
        self.shortcuts, self.classify = shortcuts, nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 4, H, W)."""
        side = x.shape[2:]
        x = self.stem(x)  # (N, width, H/4, W/4)
        for pair in self.pairs:
            x = pair(x) + x if self.shortcuts else pair(x)
        return upsample(self.classify(F.relu(x)), side)


def separable(width: int) -> nn.Module:
    """Nothing between the halves."""
    return SeparableConv2d(width, width)


def between(width: int, *layers: Callable[[], nn.Module]) -> nn.Module:
    """A separable convolution with something between its halves."""
    whole = SeparableConv2d(width, width)
    return nn.Sequential(whole.depthwise, *(make() for make in layers), whole.pointwise)


def dense(width: int, *, rate: int = 1) -> nn.Module:
    """Every output sees every channel at every tap."""
    return nn.Conv2d(width, width, 3, padding=rate, dilation=rate, bias=False)


def segmented(width: int, *, segments: int) -> nn.Module:
    """A stop of Chollet's dial."""
    return SegmentedInception(width, width, segments=segments)


def small(head: type[nn.Module] = DeepLabV3Plus, *, output_stride: int = 16, **options: Any) -> nn.Module:
    """DeepLab on the backbone that `train` learns by default: (N, 3, H, W) -> (N, 4, H, W)."""
    backbone = SMALL(width=0.1, output_stride=output_stride)
    return head(backbone, CLASSES, **{"channels": 32, "rates": (1, 2)} | options)


def plus(**options: Any) -> nn.Module:
    """DeepLabV3+ as `train` learns it by default, but for `options`."""
    return small(DeepLabV3Plus, **{"low_channels": 8} | options)


def unreduced() -> nn.Module:
    """A decoder that takes the low-level map as it is."""
    backbone = SMALL(width=0.1)
    net = DeepLabV3Plus(backbone, CLASSES, channels=32, rates=(1, 2), low_channels=backbone.low_channels)
    net.decoder.register_module("reduce", nn.Identity())
    return net


class NoView(nn.Module):
    """Image pooling's place in the concatenation, empty."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, H, W), zeros."""
        return x.new_zeros(x.shape[0], self.channels, *x.shape[2:])


def unpooled() -> nn.Module:
    """DeepLabV3+ whose ASPP has no view of the whole image."""
    net = plus()
    net.get_submodule("aspp.branches").register_module("0", NoView(32))  # in the place of `ImagePooling`
    return net


class HybridHead(nn.Module):
    """What may lie between the family's heads: ASPP's view of the whole, then three bridges, summed as RefineNet does.

    `Pyramid` -> (N, channels, ceil(H / 2), ceil(W / 2)). No paper's figure: the worked answer to notebook 13's task.
    """

    def __init__(self, encoder: PyramidBackbone, channels: int = 32) -> None:
        super().__init__()
        check_backbone(encoder, pyramid=True)
        self.channels = channels
        self.aspp = ASPP(encoder.high_channels, channels, rates=(1, 2))
        self.bridges = nn.ModuleList(nn.Conv2d(encoder.channels[s], channels, 1) for s in (8, 4, 2))
        self.refine = nn.ModuleList(SeparableConvBN(channels, channels) for _ in (8, 4, 2))

    def forward(self, pyramid: Pyramid) -> Tensor:
        """The map of stride 2."""
        x = self.aspp(pyramid.high)  # what, on stride 16
        for stride, bridge, refine in zip((8, 4, 2), self.bridges, self.refine):
            y = bridge(pyramid.maps[stride])  # where
            x = refine(F.relu(upsample(x, y.shape[2:]) + y))
        return x


def headed(head: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """One of the family on the same backbone: (N, 3, H, W) -> (N, 4, H, W)."""
    backbone = SMALL(width=0.1)
    return Segmenter(backbone, head(backbone, **options), CLASSES)
