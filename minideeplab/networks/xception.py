"""Xception (Chollet 2017, fig. 5): extreme Inception in a line, with shortcuts. 36 convolutions in 14 modules.

Follows the author's Keras code where the figure is silent: batch norm (eps 1e-3) after every convolution, nothing
between depthwise and pointwise, a stem without padding, max pooling padded as TensorFlow pads it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBN, ConvBNReLU, SameMaxPool2d
from minideeplab.blocks.separable import SeparableConv2d
from minideeplab.checks import check_image, require_counts, require_kind, require_positive
from minideeplab.geometry import Step, StrideWalk


class XceptionBlock(nn.Module):
    """One module of fig. 5: [ReLU, separable convolution, BN] for each of `widths`, a max pool if strided, and the shortcut.

    (N, C, H, W) -> (N, widths[-1], ceil(H / stride), ceil(W / stride)). `stride` is the figure's and decides which layers
    exist; as a `Step` it also says how the block runs at the chosen output stride. The shortcut, a 1 x 1 convolution where
    the figure strides or changes channels, reads the input *before* the ReLU: nothing here works in place.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], *, stride: int | Step = 1, starts_with_relu: bool = True,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels)
        require_counts(widths=widths)
        require_kind(bool, starts_with_relu=starts_with_relu)
        if not widths:
            raise ValueError("widths is empty: name the channels of at least one separable convolution")
        self.in_channels, step = in_channels, Step.of(stride)
        rows: list[nn.Module] = []
        for before, after in pairwise([in_channels, *widths]):
            rows += [nn.ReLU(), SeparableConv2d(before, after, dilation=step.dilation), nn.BatchNorm2d(after, eps=1e-3)]
        if step.figure > 1:
            rows.append(SameMaxPool2d(stride=step.stride, dilation=step.dilation))
        self.residual = nn.Sequential(*rows[0 if starts_with_relu else 1 :])
        changes = step.figure > 1 or in_channels != widths[-1]
        self.shortcut = ConvBN(in_channels, widths[-1], 1, stride=step.stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.shortcut(x)


class Xception(nn.Module):
    """(N, 3, H, W), RGB in [-1, 1] -> logits (N, num_classes). At least 7 x 7; made for 299 x 299 (Keras asks for 71).

    `output_stride` 32 is the paper's. At 16 or 8 the last strides are traded for dilation and every weight stays: on odd
    maps the features at the surviving places are the same numbers.
    """

    def __init__(self, num_classes: int = 1000, *, output_stride: int = 32) -> None:
        super().__init__()
        require_positive(num_classes=num_classes)
        at = StrideWalk(output_stride, start=2)
        self.entry_flow = nn.Sequential(                                                # 299 x 299 x    3
            ConvBNReLU(3, 32, 3, stride=2, valid=True),                                 # 149 x 149 x   32
            ConvBNReLU(32, 64, 3, valid=True),                                          # 147 x 147 x   64
            XceptionBlock(64, [128, 128], stride=at(2), starts_with_relu=False),        #  74 x  74 x  128
            XceptionBlock(128, [256, 256], stride=at(2)),                               #  37 x  37 x  256
            XceptionBlock(256, [728, 728], stride=at(2)),                               #  19 x  19 x  728
        )
        self.middle_flow = nn.Sequential(*(
            XceptionBlock(728, [728, 728, 728], stride=at(1)) for _ in range(8)         #  19 x  19 x  728, 8 times
        ))
        self.exit_flow = nn.Sequential(
            XceptionBlock(728, [728, 1024], stride=at(2)),                              #  10 x  10 x 1024
            SeparableConv2d(1024, 1536, dilation=at(1).dilation),                       #  10 x  10 x 1536
            nn.BatchNorm2d(1536, eps=1e-3), nn.ReLU(),                                  #  10 x  10 x 1536
            SeparableConv2d(1536, 2048, dilation=at(1).dilation),                       #  10 x  10 x 2048
            nn.BatchNorm2d(2048, eps=1e-3), nn.ReLU(),                                  #  10 x  10 x 2048
        )
        self.output_stride = at.reached()
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Linear(2048, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The map before global pooling: (N, 2048, 10, 10) from 299 x 299 at output stride 32."""
        check_image(x, next(self.parameters()).dtype, least=7)
        return self.exit_flow(self.middle_flow(self.entry_flow(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)  # (N, 2048)
        return self.classify(self.dropout(x))
