"""Rung 5. Atrous convolution: dilation moves the taps of a kernel, not the number of its weights (Chen 2017, section 3)."""

from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from minideeplab.checks import check_kernel, check_maps, require_counts, require_positive
from minideeplab.geometry import effective_kernel, same_padding


def kernel_with_holes(weight: Tensor, rate: int) -> Tensor:
    """The dense kernel of the same function, with rate - 1 zeros (the "trous") between neighboring taps.

    (C_out, C_in, k, k) -> (C_out, C_in, K, K), K = rate * (k - 1) + 1.

    >>> kernel_with_holes(torch.ones(1, 1, 2, 2), 2)[0, 0].int().tolist()
    [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    """
    check_kernel(weight)
    holes = weight.new_zeros(*weight.shape[:2], *(effective_kernel(k, rate) for k in weight.shape[2:]))
    holes[:, :, ::rate, ::rate] = weight
    return holes


def conv2d_on_sub_grids(x: Tensor, weight: Tensor, rate: int) -> Tensor:
    """Atrous convolution without an atrous operation: (N, C_in, H, W) -> (N, C_out, H, W), zeros outside.

    Every rate-th pixel makes one of rate * rate sub-grids; an ordinary convolution runs on each, and the results are
    woven together. TensorFlow 1 computed it so (space to batch), which is why it counted the padding of the grids.
    """
    check_kernel(weight)
    check_maps(x, weight.shape[1])
    require_positive(rate=rate)
    y, padding = x.new_zeros(x.shape[0], len(weight), *x.shape[2:]), [same_padding(k) for k in weight.shape[2:]]
    for i in range(min(rate, x.shape[2])):
        for j in range(min(rate, x.shape[3])):
            y[:, :, i::rate, j::rate] = F.conv2d(x[:, :, i::rate, j::rate], weight, padding=padding)
    return y


def mean_taps_inside(size: int, rate: int, kernel_size: int = 3) -> Fraction:
    """Taps of a kernel that land on the map, averaged over a size x size map; the others read zeros.

    On a 33 x 33 map (513 pixels at output stride 16) the nine taps degenerate to one as the rate grows.

    >>> [f"{float(mean_taps_inside(33, rate)):.2f}" for rate in (6, 12, 18, 24, 36)]
    ['6.95', '5.17', '3.64', '2.39', '1.00']
    """
    require_positive(size=size)
    reach = same_padding(kernel_size, rate)
    inside = sum(max(size - abs(offset), 0) for offset in range(-reach, reach + 1, rate))
    return Fraction(inside, size) ** 2


def pixels_touched(rates: Sequence[int], kernel_size: int = 3) -> Tensor:
    """How many ways lead from each pixel of the receptive field to the output, through stacked convolutions at these rates.

    (field, field), int64. Zeros are the pixels never read: gridding.

    >>> for rates in ((2, 2, 2), (4, 4, 4), (1, 2, 5)):
    ...     ways = pixels_touched(rates)
    ...     print(f"{rates}: {int((ways > 0).sum())} of {ways.numel()} pixels")
    (2, 2, 2): 49 of 169 pixels
    (4, 4, 4): 49 of 625 pixels
    (1, 2, 5): 289 of 289 pixels
    """
    require_counts(rates=rates)
    if not rates:
        raise ValueError("rates is empty: name at least one convolution")
    ways = torch.ones(1, dtype=torch.int64)
    for rate in rates:
        wider = torch.zeros(len(ways) + 2 * same_padding(kernel_size, rate), dtype=torch.int64)
        for tap in range(kernel_size):
            wider[tap * rate : tap * rate + len(ways)] += ways
        ways = wider
    return ways[:, None] * ways  # (field, field): the two axes are independent
