"""ResNet-101 "beta", the other backbone of the tables in Chen 2017 and 2018, as the authors released it.

Against the ResNet of He 2016: three 3 x 3 convolutions at the root instead of one 7 x 7 (that is "beta"), the stride of a
stage sits in its *last* unit, on the 3 x 3, and lost strides become rates; multi-grid multiplies the rates of the last stage.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBN, ConvBNReLU, SameMaxPool2d
from minideeplab.checks import check_image, require_counts, require_positive
from minideeplab.geometry import Step, StrideWalk
from minideeplab.networks.backbone import Features, Pyramid, scaled


class Bottleneck(nn.Module):
    """1 x 1 -> 3 x 3 -> 1 x 1 with a shortcut, ReLU *after* the sum.

    (N, C, H, W) -> (N, 4 * width, ceil(H / stride), ceil(W / stride)). Where channels agree, the shortcut of a strided
    unit just skips pixels. With `tap=True` also the residual before the sum, not rectified: in the second unit of the
    first stage it is DeepLab's low-level map.
    """

    def __init__(self, in_channels: int, width: int, *, stride: int | Step = 1) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, width=width)
        step = Step.of(stride)
        self.stride = step.stride
        self.reduce = ConvBNReLU(in_channels, width, 1, eps=1e-5)
        self.look = ConvBNReLU(width, width, 3, stride=step.stride, dilation=step.dilation, eps=1e-5)
        self.expand = ConvBN(width, 4 * width, 1, eps=1e-5)
        self.shortcut = ConvBN(in_channels, 4 * width, 1, stride=step.stride, eps=1e-5) if in_channels != 4 * width else None

    def forward(self, x: Tensor, tap: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        residual = self.expand(self.look(self.reduce(x)))
        shortcut = self.shortcut(x) if self.shortcut is not None else x[:, :, :: self.stride, :: self.stride]
        x = F.relu(residual + shortcut)
        return (x, residual) if tap else x


class ResNet(nn.Module):
    """(N, 3, H, W), RGB in [-1, 1], any size -> `Features`.

    low (N, 256, ceil(H / 4), ceil(W / 4)), high (N, 2048, ceil(H / output_stride), ceil(W / output_stride)).
    `units` counts the bottlenecks of the four stages, `multi_grid` multiplies the rates of the last stage.
    """

    def __init__(
        self, units: Sequence[int], *, output_stride: int = 16, multi_grid: Sequence[int] = (1, 1, 1), width: float = 1.0,
    ) -> None:
        super().__init__()
        require_counts(units=units, multi_grid=multi_grid)
        if len(units) != 4 or units[0] < 3:
            raise ValueError(f"units needs four stages, the first of at least 3 (the second unit is tapped), got {list(units)}")
        if len(multi_grid) != units[3]:
            raise ValueError(f"multi_grid needs a rate for each of the last stage's {units[3]} units, got {tuple(multi_grid)}")
        c, at = scaled(width), StrideWalk(output_stride, start=4)

        def stage(in_channels: int, width: int, strides: Sequence[int], grid: Sequence[int]) -> nn.Sequential:
            steps = [step._replace(dilation=step.dilation * rate) for step, rate in zip(map(at, strides), grid)]
            return nn.Sequential(*(
                Bottleneck(4 * width if unit else in_channels, width, stride=step) for unit, step in enumerate(steps)
            ))

        (first, second, third, last), plain = ([1] * (count - 1) for count in units), [1] * max(units)
        self.root = nn.Sequential(                                          # 513 x 513 x    3
            ConvBNReLU(3, c(64), 3, stride=2, eps=1e-5),                    # 257 x 257 x   64
            ConvBNReLU(c(64), c(64), 3, eps=1e-5),                          # 257 x 257 x   64
            ConvBNReLU(c(64), c(128), 3, eps=1e-5),                         # 257 x 257 x  128
            SameMaxPool2d(stride=2),                                        # 129 x 129 x  128
        )
        self.stages = nn.ModuleList([
            stage(c(128), c(64), [*first, 2], plain),                       #  65 x  65 x  256
            stage(4 * c(64), c(128), [*second, 2], plain),                  #  33 x  33 x  512
            stage(4 * c(128), c(256), [*third, 2], plain),                  #  33 x  33 x 1024
            stage(4 * c(256), c(512), [*last, 1], multi_grid),              #  33 x  33 x 2048
        ])
        self.output_stride, self.low_channels, self.high_channels = at.reached(), 4 * c(64), 4 * c(512)
        before = [c(128), 4 * c(64), *(4 * c(64 * 2 ** (k if count > 1 else k - 1)) for k, count in enumerate(units[1:3], 1))]
        self.channels = {s: width for s, width in zip((2, 4, 8, 16), before) if s < output_stride} | {output_stride: 4 * c(512)}

    def _units(self) -> Iterator[Bottleneck]:
        return chain.from_iterable(self.stages)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Features:
        check_image(x, next(self.parameters()).dtype)
        x = self.root(x)  # (N, 128, H/4, W/4)
        for number, unit in enumerate(self._units()):
            if number == 1:
                x, low = unit(x, tap=True)  # low: (N, 256, H/4, W/4)
            else:
                x = unit(x)
        return Features(low, x)  # high: (N, 2048, H/os, W/os)

    def pyramid(self, x: Tensor) -> Pyramid:
        """The last map of every stride: the root's before its pool, DeepLab's `low`, and the map before each later stride."""
        check_image(x, next(self.parameters()).dtype)
        first, second, third, pool = self.root
        maps, stride = {2: third(second(first(x)))}, 4
        x = pool(maps[2])
        for number, unit in enumerate(self._units()):
            if unit.stride > 1:
                maps[stride], stride = x, 2 * stride
            if number == 1:
                x, low = unit(x, tap=True)
            else:
                x = unit(x)
        return Pyramid.of(low, maps | {4: low} | {stride: x})


def resnet101(*, output_stride: int = 16, multi_grid: Sequence[int] = (1, 1, 1), width: float = 1.0) -> ResNet:
    """3, 4, 23, 3 units; the tables of Chen 2018 use `multi_grid=(1, 2, 4)`."""
    return ResNet([3, 4, 23, 3], output_stride=output_stride, multi_grid=multi_grid, width=width)
