"""ResNet-101 "beta", the other backbone of the tables in Chen 2017 and 2018, as the authors released it.

Against the ResNet of He 2016: three 3 x 3 convolutions at the root instead of one 7 x 7 (that is "beta"), the stride of a
stage sits in its *last* unit, on the 3 x 3, and lost strides become rates; multi-grid multiplies the rates of the last stage.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBN, ConvBNReLU, SameMaxPool2d, check_image
from minideeplab.geometry import Step, require_counts, require_finite, trade_strides
from minideeplab.networks.aligned_xception import Features


class Bottleneck(nn.Module):
    """1 x 1 -> 3 x 3 -> 1 x 1 with a shortcut, ReLU *after* the sum.

    (N, C, H, W) -> (N, 4 * width, ceil(H / stride), ceil(W / stride)). Where channels agree, the shortcut of a strided
    unit just skips pixels.
    """

    def __init__(self, in_channels: int, width: int, step: Step) -> None:
        super().__init__()
        self.stride = step.stride
        self.reduce = ConvBNReLU(in_channels, width, 1, eps=1e-5)
        self.look = ConvBNReLU(width, width, 3, stride=step.stride, dilation=step.dilation, eps=1e-5)
        self.expand = ConvBN(width, 4 * width, 1, eps=1e-5)
        self.shortcut = ConvBN(in_channels, 4 * width, 1, stride=step.stride, eps=1e-5) if in_channels != 4 * width else None

    def residual(self, x: Tensor) -> Tensor:
        """The branch before the sum, not rectified: in the second unit of the first stage it is DeepLab's low-level map."""
        x = self.expand(self.look(self.reduce(x)))
        return x

    def finish(self, residual: Tensor, x: Tensor) -> Tensor:
        """Sum and ReLU."""
        shortcut = self.shortcut(x) if self.shortcut else x[:, :, :: self.stride, :: self.stride]
        return F.relu(residual + shortcut)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(self.residual(x), x)


class ResNet(nn.Module):
    """(N, 3, H, W), RGB in [-1, 1], any size -> `Features`.

    low (N, 256, ceil(H / 4), ceil(W / 4)), high (N, 2048, ceil(H / output_stride), ceil(W / output_stride)).
    `units` counts the bottlenecks of the four stages, `multi_grid` multiplies the rates of the last stage.
    """

    def __init__(
        self, units: Sequence[int], *, output_stride: int = 16, multi_grid: Sequence[int] = (1, 1, 1), width: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        require_finite(width=width)
        require_counts(units=units, multi_grid=multi_grid)
        if len(units) != 4 or units[0] < 3:
            raise ValueError(f"units needs four stages, the first of at least 3 (the second unit is tapped), got {list(units)}")
        if len(multi_grid) != units[3]:
            raise ValueError(f"multi_grid needs a rate for each of the last stage's {units[3]} units, got {tuple(multi_grid)}")

        def c(channels: int) -> int:
            return max(1, round(channels * width))

        strides = [stride for count in units[:3] for stride in [1] * (count - 1) + [2]] + [1] * units[3]
        steps = trade_strides(strides, output_stride, start=4)
        last = [Step(step.stride, step.dilation * rate) for step, rate in zip(steps[-units[3] :], multi_grid, strict=True)]
        walk = iter([*steps[: -units[3]], *last])

        def stage(in_channels: int, width: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(Bottleneck(4 * width if unit else in_channels, width, next(walk)) for unit in range(count)))

        # fmt: off
        self.root = nn.Sequential(                                          # 513 x 513 x    3
            ConvBNReLU(3, c(64), 3, stride=2, eps=1e-5),                    # 257 x 257 x   64
            ConvBNReLU(c(64), c(64), 3, eps=1e-5),                          # 257 x 257 x   64
            ConvBNReLU(c(64), c(128), 3, eps=1e-5),                         # 257 x 257 x  128
            SameMaxPool2d(stride=2),                                        # 129 x 129 x  128
        )
        self.stages = nn.ModuleList([
            stage(c(128), c(64), units[0]),                                 #  65 x  65 x  256
            stage(4 * c(64), c(128), units[1]),                             #  33 x  33 x  512
            stage(4 * c(128), c(256), units[2]),                            #  33 x  33 x 1024
            stage(4 * c(256), c(512), units[3]),                            #  33 x  33 x 2048
        ])
        # fmt: on
        self.output_stride, self.low_channels, self.high_channels = output_stride, 4 * c(64), 4 * c(512)

    def forward(self, x: Tensor) -> Features:
        check_image(x, next(self.parameters()).dtype)
        first, *stages = self.stages
        unit_2: Bottleneck = first[1]  # type: ignore[index]
        x = first[:1](self.root(x))  # type: ignore[index]  # (N, 256, H/4, W/4)
        low = unit_2.residual(x)  # (N, 256, H/4, W/4)
        x = first[2:](unit_2.finish(low, x))  # type: ignore[index]
        for stage in stages:
            x = stage(x)
        return Features(low, x)  # high: (N, 2048, H/os, W/os)


def resnet101(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 1, 1), width: float = 1.0) -> ResNet:
    """3, 4, 23, 3 units; the tables of Chen 2018 use `multi_grid=(1, 2, 4)`."""
    return ResNet([3, 4, 23, 3], output_stride=output_stride, multi_grid=multi_grid, width=width)
