"""Rung 7. The decoder: position comes back from an early layer, kept a minority (Chen 2018, fig. 2)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU, upsample
from minideeplab.blocks.separable import SeparableConvBN
from minideeplab.checks import require_kind, require_positive


class Decoder(nn.Module):
    """Join what is known (`high`) with where it is (`low`): (N, C_low, H, W), (N, C_high, h, w) -> (N, channels, H, W).

    The low-level map is reduced to `low_channels` by a 1 x 1 before the two are concatenated (48 beside 256, table 1),
    then `refine` 3 x 3 convolutions mix them (two, table 2).
    """

    def __init__(
        self, in_low: int, in_high: int, *,
        channels: int = 256, low_channels: int = 48, refine: int = 2, separable: bool = True,
    ) -> None:
        super().__init__()
        require_positive(in_low=in_low, in_high=in_high, channels=channels, low_channels=low_channels, refine=refine)
        require_kind(bool, separable=separable)
        self.in_low, self.in_high = in_low, in_high
        self.reduce = ConvBNReLU(in_low, low_channels, 1, eps=1e-5)
        widths = [in_high + low_channels] + [channels] * refine
        self.refine = nn.Sequential(*(
            SeparableConvBN(before, after, 3, relu=True, eps=1e-5) if separable else
            ConvBNReLU(before, after, 3, eps=1e-5)
            for before, after in pairwise(widths)
        ))

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        f1 = upsample(high, low.shape[2:])  # (N, C_high, H, W), the article's F1
        f2 = self.reduce(low)  # (N, low_channels, H, W): F2' -> F2
        f3 = torch.cat([f1, f2], dim=1)  # (N, C_high + low_channels, H, W): F3
        return self.refine(f3)  # (N, channels, H, W)
