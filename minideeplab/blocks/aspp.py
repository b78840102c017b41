"""Rung 6. Atrous spatial pyramid pooling: one map, several rates, one global view (Chen 2017, fig. 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU, check_maps
from minideeplab.blocks.separable import SeparableConvBN
from minideeplab.geometry import require_counts, require_positive


class ImagePooling(nn.Module):
    """What the whole image says, at every pixel: mean -> 1 x 1 -> BN -> ReLU -> broadcast, (N, C, H, W) -> (N, C_out, H, W).

    In training it needs two images: batch norm over a single 1 x 1 map has no variance.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.project = ConvBNReLU(in_channels, out_channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        check_maps(x, self.in_channels)
        if self.training and x.shape[0] < 2:
            raise ValueError(
                "image pooling needs a batch of at least 2 in training, got 1: "
                "batch norm over one 1 x 1 map has no variance; enlarge the batch or call .eval()"
            )
        x = self.project(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        return x


class ASPP(nn.Module):
    """Five views of one map, concatenated and projected: (N, C_in, H, W) -> (N, channels, H, W).

    `separable=True` is "atrous separable convolution" (Chen 2018): the rate touches the depthwise half only. Order of
    the concatenation, batch-norm eps 1e-5 and dropout 0.1 are those of the authors' code.
    """

    def __init__(
        self, in_channels: int, channels: int = 256, *, rates: Sequence[int] = (6, 12, 18), separable: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        require_positive(in_channels=in_channels, channels=channels)
        require_counts(rates=rates)
        if not rates or len(set(rates)) < len(rates):
            raise ValueError(f"rates must be different and at least one, got {tuple(rates)}")
        self.in_channels, self.rates = in_channels, tuple(rates)
        # fmt: off
        self.branches = nn.ModuleList([
            ImagePooling(in_channels, channels),
            ConvBNReLU(in_channels, channels, 1, eps=1e-5),
            *(SeparableConvBN(in_channels, channels, 3, dilation=rate, relu=True, eps=1e-5) if separable else
              ConvBNReLU(in_channels, channels, 3, dilation=rate, eps=1e-5) for rate in rates),
        ])
        self.project = ConvBNReLU(len(self.branches) * channels, channels, 1, eps=1e-5)
        self.dropout = nn.Dropout(0.1)
        # fmt: on

    def forward(self, x: Tensor) -> Tensor:
        check_maps(x, self.in_channels)
        views = torch.cat([branch(x) for branch in self.branches], dim=1)  # (N, 5 * channels, H, W)
        x = self.dropout(self.project(views))
        return x
