"""PSPNet's way to see far: means over regions of several sizes (Zhao 2017, fig. 3). The article's "spatial pyramid pooling"."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU, upsample
from minideeplab.checks import check_batch, require_counts, require_positive


class PyramidPooling(nn.Module):
    """PSPNet (Zhao 2017, fig. 3): means over bins x bins regions, reduced, upsampled, and set beside the map itself.

    (N, C, H, W) -> (N, C + len(bins) * (C // len(bins)), H, W). In training one bin needs two images, as `ImagePooling` does.
    """

    def __init__(self, in_channels: int, *, bins: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        require_positive(in_channels=in_channels)
        require_counts(bins=bins)
        if not bins or len(set(bins)) < len(bins) or in_channels < len(bins):
            raise ValueError(f"bins must be different, at least one and at most in_channels = {in_channels}, got {tuple(bins)}")
        self.in_channels, self.bins = in_channels, tuple(bins)
        self.reduce = nn.ModuleList(ConvBNReLU(in_channels, in_channels // len(bins), 1, eps=1e-5) for _ in bins)

    def forward(self, x: Tensor) -> Tensor:
        check_batch(x, self.training and 1 in self.bins, "pyramid pooling")
        pooled = (F.adaptive_avg_pool2d(x, count) for count in self.bins)  # (N, C, bins, bins)
        means = [upsample(reduce(regions), x.shape[2:]) for reduce, regions in zip(self.reduce, pooled, strict=True)]
        return torch.cat([x, *means], dim=1)
