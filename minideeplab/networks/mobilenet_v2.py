"""MobileNetV2 (Sandler 2018, table 2) as the backbone of the authors' network for phones: thin maps between wide insides.

Against the table: no 1280-wide layer behind the last block (section 6.3: the "second last" map is the one that is read), and
channels are width times the table's, not rounded to eights. As in TensorFlow all padding is SAME, so an even map is padded
behind only; the other backbones of DeepLab pad symmetrically.
"""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBN, SameConv2d
from minideeplab.checks import check_image, require_positive
from minideeplab.geometry import Step, StrideWalk
from minideeplab.networks.backbone import Features, Pyramid, scaled


class InvertedResidual(nn.Module):
    """1 x 1 to `expansion` times the channels -> depthwise 3 x 3 -> 1 x 1 back, and a shortcut between the *thin* ends.

    (N, C, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride)). ReLU6 = min(max(x, 0), 6) behind the first two; the thin
    end stays linear, since "when ReLU collapses the channel, it inevitably loses information in that channel" (section 3.2).
    An expansion of 1 has no first 1 x 1. Where stride or channels change there is no shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, *, expansion: int = 6, stride: int | Step = 1) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels, expansion=expansion)
        step, wide = Step.of(stride), expansion * in_channels
        self.stride, self.has_shortcut = step.stride, step.figure == 1 and in_channels == out_channels
        self.expand = ConvBN(in_channels, wide) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, 3, stride=step.stride, dilation=step.dilation, groups=wide)
        self.depthwise_bn = nn.BatchNorm2d(wide, eps=1e-3)
        self.project = ConvBN(wide, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(F.relu6(self.depthwise_bn(self.depthwise(y))))
        return y + x if self.has_shortcut else y


class MobileNetV2(nn.Module):
    """(N, 3, H, W), RGB in [-1, 1], any size -> `Features`.

    low (N, 24, ceil(H / 4), ceil(W / 4)), high (N, 320, ceil(H / output_stride), ceil(W / output_stride)).
    """

    def __init__(self, *, output_stride: int = 16, width: float = 1.0) -> None:
        super().__init__()
        c, at = scaled(width), StrideWalk(output_stride, start=2)
        if output_stride in (1, 2):
            raise ValueError(f"output_stride must be at least 4, the stride of the low-level map, got {output_stride}")

        def row(inputs: int, t: int, channels: int, n: int, s: int) -> nn.Sequential:
            """A row of table 2: n blocks to so many channels that expand t times; the first has stride s."""
            first = InvertedResidual(c(inputs), c(channels), expansion=t, stride=at(s))
            others = (InvertedResidual(c(channels), c(channels), expansion=t, stride=at(1)) for _ in range(n - 1))
            return nn.Sequential(first, *others)

        conv, bn = SameConv2d(3, c(32), 3, stride=2), nn.BatchNorm2d(c(32), eps=1e-3)      # 513 x 513 x   3
        self.root = nn.Sequential(OrderedDict(conv=conv, bn=bn, relu=nn.ReLU6()))          # 257 x 257 x  32
        self.rows = nn.Sequential(        #   t    c  n  s
            row(32,   1,  16, 1, 1),                                                       # 257 x 257 x  16
            row(16,   6,  24, 2, 2),                                                       # 129 x 129 x  24
            row(24,   6,  32, 3, 2),                                                       #  65 x  65 x  32
            row(32,   6,  64, 4, 2),                                                       #  33 x  33 x  64
            row(64,   6,  96, 3, 1),                                                       #  33 x  33 x  96
            row(96,   6, 160, 3, 2),                                                       #  33 x  33 x 160
            row(160,  6, 320, 1, 1),                                                       #  33 x  33 x 320
        )
        self.output_stride, self.low_channels, self.high_channels = at.reached(), c(24), c(320)
        self.channels = dict(zip((2, 4, 8, 16), (c(16), c(24), c(32), c(96)))) | {output_stride: c(320)}
        self.channels = {stride: count for stride, count in self.channels.items() if stride <= output_stride}

    def forward(self, x: Tensor) -> Features:
        check_image(x, next(self.parameters()).dtype)
        first, second, *others = self.rows
        low = x = second(first(self.root(x)))  # (N, 24, H/4, W/4)
        for row in others:
            x = row(x)
        return Features(low, x)  # high: (N, 320, H/os, W/os)

    def pyramid(self, x: Tensor) -> Pyramid:
        """The last map of every stride; `low` is the last of stride 4 unless strides behind it were traded."""
        check_image(x, next(self.parameters()).dtype)
        maps: dict[int, Tensor] = {}
        stride, x = 2, self.root(x)
        for number, row in enumerate(self.rows):
            if row[0].stride > 1:  # type: ignore[index]
                maps[stride], stride = x, 2 * stride
            x = row(x)
            if number == 1:
                low = x
        return Pyramid.of(low, maps | {stride: x})


def mobilenet_v2(*, output_stride: int = 16, width: float = 1.0) -> MobileNetV2:
    """The backbone with 1,811,712 parameters; `width=0.5` is that of the authors' smallest network ("dm05")."""
    return MobileNetV2(output_stride=output_stride, width=width)
