"""SegNet's way back up: every maximum returns to where it stood (Badrinarayanan 2015). The article's "encoder-decoder"."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.blocks.convolution import ConvBNReLU
from minideeplab.checks import check_maps, require_counts


class Pooled(NamedTuple):
    """A max-pooled `map`, where each maximum stood (`indices`, int64, row * W + column), and the `size` before, (H, W)."""

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
        for convolve, (_, indices, size) in zip(self.convolve, pooled, strict=True):
            if x.shape != indices.shape:
                remembered, got = tuple(indices.shape), tuple(x.shape)
                raise ValueError(f"maxima were remembered for {remembered}, the map to unpool is {got}: pass the deepest first")
            x = convolve(F.max_unpool2d(x, indices, [2, 2], output_size=list(size)))
        return x
