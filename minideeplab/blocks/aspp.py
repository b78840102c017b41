"""Rung 6. Atrous spatial pyramid pooling: one map, several rates, one global view (Chen 2017, fig. 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU
from minideeplab.blocks.separable import SeparableConvBN
from minideeplab.checks import check_batch, require_counts, require_kind, require_positive


class ImagePooling(nn.Module):
    """What the whole image says, at every pixel: mean -> 1 x 1 -> BN -> ReLU -> broadcast, (N, C, H, W) -> (N, C_out, H, W).

    In training it needs two images, and says so: batch norm over a single 1 x 1 map has no variance.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.project = ConvBNReLU(in_channels, out_channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        check_batch(x, self.training, "image pooling")
        mean = self.project(x.mean((2, 3), keepdim=True))  # (N, C_out, 1, 1)
        return mean.expand(-1, -1, x.shape[2], x.shape[3])


class ASPP(nn.Module):
    """Five views of one map, concatenated and projected: (N, C_in, H, W) -> (N, channels, H, W).

    `rates=()` leaves image pooling and the 1 x 1, as in the authors' network for phones (Sandler 2018, table 7).
    `separable=True` is "atrous separable convolution" (Chen 2018): the rate touches the depthwise half only. Order of
    the concatenation, batch-norm eps 1e-5 and dropout 0.1 are those of the authors' code.
    """

    def __init__(
        self, in_channels: int, channels: int = 256, *, rates: Sequence[int] = (6, 12, 18), separable: bool = True,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, channels=channels)
        require_counts(rates=rates)
        require_kind(bool, separable=separable)
        if len(set(rates)) < len(rates):
            raise ValueError(f"rates must be different, got {tuple(rates)}")
        self.in_channels, self.rates = in_channels, tuple(rates)
        self.branches = nn.ModuleList([
            ImagePooling(in_channels, channels),
            ConvBNReLU(in_channels, channels, 1, eps=1e-5),
            *(SeparableConvBN(in_channels, channels, 3, dilation=rate, relu=True, eps=1e-5) if separable else
              ConvBNReLU(in_channels, channels, 3, dilation=rate, eps=1e-5) for rate in rates),
        ])
        self.project = ConvBNReLU(len(self.branches) * channels, channels, 1, eps=1e-5)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        views = torch.cat([branch(x) for branch in self.branches], dim=1)  # (N, 5 * channels, H, W)
        return self.dropout(self.project(views))
