"""Two other ways to see far and to come back up: PSPNet's pyramid of means, SegNet's remembered maxima.

The article names them as the two families that DeepLabV3+ joins.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU, check_maps, upsample
from minideeplab.geometry import require_counts, require_kind, require_positive


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
        check_maps(x, self.in_channels)
        if self.training and len(x) < 2 and 1 in self.bins:
            raise ValueError(
                "pyramid pooling needs a batch of at least 2 in training, got 1: "
                "batch norm over one 1 x 1 map has no variance; enlarge the batch or call .eval()"
            )
        pooled = (F.adaptive_avg_pool2d(x, count) for count in self.bins)  # (N, C, bins, bins)
        means = [upsample(reduce(regions), x.shape[2:]) for reduce, regions in zip(self.reduce, pooled, strict=True)]
        return torch.cat([x, *means], dim=1)


class Pooled(NamedTuple):
    """A max-pooled map that remembers where each maximum stood, and the size it came from."""

    map: Tensor
    indices: Tensor
    size: torch.Size


def pool_and_remember(x: Tensor) -> Pooled:
    """2 x 2 max pooling: (N, C, H, W) -> `Pooled` with a map (N, C, H // 2, W // 2).

    The places of the maxima are all that SegNet (Badrinarayanan 2015) keeps of its encoder.
    """
    check_maps(x, None, least=2)
    pooled, indices = F.max_pool2d(x, 2, return_indices=True)
    return Pooled(pooled, indices, x.shape[2:])


class UnpoolingDecoder(nn.Module):
    """SegNet's way back up: each step puts every value where its maximum stood, zeros elsewhere, and convolves.

    `widths` lists the channels from the deepest map upwards; each step doubles the size. It takes the map and the
    `Pooled` of every encoder stage, deepest first: (N, widths[0], h, w) -> (N, widths[-1], H, W).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        require_counts(widths=widths)
        if len(widths) < 2:
            raise ValueError(f"widths needs the channels before and after at least one step, got {list(widths)}")
        self.in_channels = widths[0]
        self.convolve = nn.ModuleList(ConvBNReLU(before, after, 3, eps=1e-5) for before, after in pairwise(widths))

    def forward(self, x: Tensor, pooled: Sequence[Pooled]) -> Tensor:
        check_maps(x, self.in_channels)
        require_kind(Sequence, pooled=pooled)
        require_kind(Pooled, **{f"pooled[{i}]": stage for i, stage in enumerate(pooled)})
        if len(pooled) != len(self.convolve):
            raise ValueError(f"{len(self.convolve)} steps up need as many pooled maps, got {len(pooled)}")
        for convolve, (_, indices, size) in zip(self.convolve, pooled, strict=True):
            if x.shape != indices.shape:
                remembered, got = tuple(indices.shape), tuple(x.shape)
                raise ValueError(f"maxima were remembered for {remembered}, the map to unpool is {got}: pass the deepest first")
            x = convolve(F.max_unpool2d(x, indices, [2, 2], output_size=list(size)))
        return x
