"""Modified aligned Xception (Chen 2018, fig. 4) as the authors released it: the backbone of DeepLabV3+.

What differs from `xception.py` (Chollet 2017, fig. 5):
1. deeper: 16 middle modules (8 in the 41-layer net), three separable convolutions in every module;
2. no max pooling: the third separable convolution of a module carries its stride;
3. batch norm between depthwise and pointwise. The paper adds a ReLU there too; the released code only in the last module;
4. padding is symmetric everywhere (stem included), so a map of stride s has ceil(n / s) pixels;
5. no classifier: the network returns the last map and the one that the decoder needs.
"""

from collections.abc import Sequence
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBN, ConvBNReLU
from minideeplab.blocks.separable import SeparableConvBN
from minideeplab.checks import check_image, require_counts, require_kind, require_positive
from minideeplab.geometry import Step, StrideWalk
from minideeplab.networks.backbone import Features, Pyramid, scaled


class AlignedBlock(nn.Module):
    """One module of fig. 4: three times [ReLU, separable convolution with BN after both halves], and the shortcut.

    (N, C, H, W) -> (N, widths[2], ceil(H / stride), ceil(W / stride)); the third convolution carries the stride. With
    `tap=True` also what the second one says, neither strided nor rectified: DeepLabV3+'s low-level map. `stride` is the
    figure's and decides whether the shortcut is a convolution; as a `Step` it also says how the block runs.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], *, stride: int | Step = 1) -> None:
        super().__init__()
        require_positive(in_channels=in_channels)
        require_counts(widths=widths)
        if len(widths) != 3:
            raise ValueError(f"widths needs the channels of three separable convolutions, got {list(widths)}")
        (first, second, third), step = widths, Step.of(stride)
        self.separable_1 = SeparableConvBN(in_channels, first, dilation=step.dilation)
        self.separable_2 = SeparableConvBN(first, second, dilation=step.dilation)
        self.separable_3 = SeparableConvBN(second, third, dilation=step.dilation, stride=step.stride)
        changes = step.figure > 1 or in_channels != third
        self.shortcut = ConvBN(in_channels, third, 1, stride=step.stride) if changes else nn.Identity()
        self.leaves = step.stride > 1  # whether the map behind has another stride

    def forward(self, x: Tensor, tap: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        inner = self.separable_2(F.relu(self.separable_1(F.relu(x))))
        x = self.separable_3(F.relu(inner)) + self.shortcut(x)
        return (x, inner) if tap else x


class AlignedXception(nn.Module):
    """(N, 3, H, W), RGB in [-1, 1], any size -> `Features`.

    low (N, 256, ceil(H / 4), ceil(W / 4)), high (N, 2048, ceil(H / output_stride), ceil(W / output_stride)).
    `entry_flow` lists (channels, stride) of its modules; `width` scales every layer (1.0 is the paper's).
    """

    def __init__(
        self, entry_flow: Sequence[tuple[int, int]], middle: int, *, output_stride: int = 16, width: float = 1.0,
    ) -> None:
        super().__init__()
        require_positive(middle=middle)
        require_kind(Sequence, entry_flow=entry_flow)
        c, at = scaled(width), StrideWalk(output_stride, start=2)
        if output_stride in (1, 2):
            raise ValueError(f"output_stride must be at least 4, the stride of the low-level map, got {output_stride}")
        for number, row in enumerate(entry_flow):
            require_counts(**{f"entry_flow[{number}]": row})
        before = entry_flow[: entry_flow.index((256, 2))] if (256, 2) in entry_flow else []
        if prod(stride for _, stride in before) != 2 or entry_flow[-1][0] != 728:
            need = "(256, 2) at stride 4, where it is tapped, and 728 channels at its end"
            raise ValueError(f"entry_flow needs {need}, got {list(entry_flow)}")
        channels = [64, *(depth for depth, _ in entry_flow)]
        self.root = nn.Sequential(                                                            # 513 x 513 x    3
            ConvBNReLU(3, c(32), 3, stride=2),                                                # 257 x 257 x   32
            ConvBNReLU(c(32), c(64), 3),                                                      # 257 x 257 x   64
        )
        self.entry_flow = nn.Sequential(*(                                                    # rows: see xception65
            AlignedBlock(c(before), [c(after)] * 3, stride=at(stride))
            for before, (after, stride) in zip(channels, entry_flow)
        ))
        self.middle_flow = nn.Sequential(*(
            AlignedBlock(c(728), [c(728)] * 3, stride=at(1)) for _ in range(middle)           #  33 x  33 x  728
        ))
        self.exit_flow = nn.Sequential(
            AlignedBlock(c(728), [c(728), c(1024), c(1024)], stride=at(2)),                   #  33 x  33 x 1024
            SeparableConvBN(c(1024), c(1536), dilation=at(1).dilation, relu=True),            #  33 x  33 x 1536
            SeparableConvBN(c(1536), c(1536), dilation=at(1).dilation, relu=True),            #  33 x  33 x 1536
            SeparableConvBN(c(1536), c(2048), dilation=at(1).dilation, relu=True),            #  33 x  33 x 2048
        )
        self.tap = entry_flow.index((256, 2))  # the module that still sees stride 4 until its last convolution
        self.output_stride, self.low_channels, self.high_channels = at.reached(), c(256), c(2048)
        inner = [c(depth) for depth, stride in [*entry_flow, (1024, 2)] if stride > 1]  # of each module that strides
        self.channels = {s: count for s, count in zip((2, 4, 8, 16), inner) if s < output_stride} | {output_stride: c(2048)}

    def forward(self, x: Tensor) -> Features:
        check_image(x, next(self.parameters()).dtype)
        x = self.root(x)  # (N, 64, H/2, W/2)
        for row, block in enumerate(self.entry_flow):
            if row == self.tap:
                x, low = block(x, tap=True)  # low: (N, 256, H/4, W/4)
            else:
                x = block(x)  # the last one: (N, 728, H/16, W/16)
        return Features(low, self.exit_flow(self.middle_flow(x)))  # high: (N, 2048, H/os, W/os)

    def pyramid(self, x: Tensor) -> Pyramid:
        """The last map of every stride: what the second convolution of each strided module says, and at the end `high`."""
        check_image(x, next(self.parameters()).dtype)
        maps: dict[int, Tensor] = {}
        stride, x = 2, self.root(x)
        module, first, second, third = self.exit_flow
        for row, block in enumerate([*self.entry_flow, *self.middle_flow, module]):
            x, inner = block(x, tap=True)
            if row == self.tap:
                low = inner
            if block.leaves:
                maps[stride], stride = inner, 2 * stride
        return Pyramid.of(low, maps | {stride: third(second(first(x)))})


def xception41(*, output_stride: int = 16, width: float = 1.0) -> AlignedXception:
    """Eight middle modules: 26,969,560 parameters with a 1000-class head."""
    return AlignedXception([(128, 2), (256, 2), (728, 2)], middle=8, output_stride=output_stride, width=width)


def xception65(*, output_stride: int = 16, width: float = 1.0) -> AlignedXception:
    """Fig. 4 as drawn, the paper's "Xception": 37,867,312 parameters."""
    return AlignedXception([                                                                  # 257 x 257 x   64
        (128, 2),                                                                             # 129 x 129 x  128
        (256, 2),                                                                             #  65 x  65 x  256
        (728, 2),                                                                             #  33 x  33 x  728
    ], middle=16, output_stride=output_stride, width=width)


def xception71(*, output_stride: int = 16, width: float = 1.0) -> AlignedXception:
    """Two more modules in the entry flow, for Cityscapes (table 7)."""
    entry_flow = [(128, 2), (256, 1), (256, 2), (728, 1), (728, 2)]
    return AlignedXception(entry_flow, middle=16, output_stride=output_stride, width=width)
