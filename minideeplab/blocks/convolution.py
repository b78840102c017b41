"""Rung 1. The standard convolution: every number of a kernel has a place *and* a channel (the article, section 1)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.checks import (
    check_kernel,
    check_maps,
    require_counts,
    require_divides,
    require_finite,
    require_kind,
    require_positive,
)
from minideeplab.geometry import output_size, same_padding, same_padding_before


def conv2d_loops(x: Tensor, weight: Tensor, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> Tensor:
    """The definition, one multiply-accumulate a turn. Slow on purpose: read it, then use `F.conv2d`.

    (N, C_in, H, W) and (C_out, C_in, k_h, k_w) -> (N, C_out, H', W'). As everywhere in deep learning the kernel is
    not flipped: this is a cross-correlation.
    """
    check_kernel(weight)
    check_maps(x, weight.shape[1])
    if x.dtype != weight.dtype:
        raise TypeError(f"maps and kernel must be of one type, got {x.dtype} and {weight.dtype}")
    outputs, inputs, k_h, k_w = weight.shape
    height = output_size(x.shape[2], k_h, stride=stride, dilation=dilation, padding=padding)
    width = output_size(x.shape[3], k_w, stride=stride, dilation=dilation, padding=padding)
    x = F.pad(x, (padding,) * 4)
    y = x.new_zeros(x.shape[0], outputs, height, width)
    for o in range(outputs):                                   # for every output channel
        for i in range(height):                                # and every place of the output
            for j in range(width):
                for c in range(inputs):                        # every input channel
                    for u in range(k_h):                       # and every tap
                        for v in range(k_w):
                            row, column = i * stride + u * dilation, j * stride + v * dilation
                            y[:, o, i, j] += weight[o, c, u, v] * x[:, c, row, column]
    return y


class ConvBN(nn.Sequential):
    """Convolution without bias, then batch norm (whose shift makes the bias redundant).

    (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride)), padded with as many zeros as keep the size at
    stride 1; with `valid=True` nothing is padded. `kernel_size` may be (rows, columns), both odd. `eps` is 1e-3 in
    Inception and Xception, 1e-5 (PyTorch's) in ResNet and in DeepLab's heads; a wrong one costs 0.3 standard deviations
    of the logits of the golden run.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int] = 1, *,
        stride: int = 1, dilation: int = 1, valid: bool = False, eps: float = 1e-3,
    ) -> None:
        sides = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        require_counts(kernel_size=sides)
        require_positive(in_channels=in_channels, out_channels=out_channels, stride=stride, dilation=dilation)
        require_kind(bool, valid=valid)
        require_finite(eps=eps)
        if len(sides) != 2:
            raise ValueError(f"kernel_size must be one number or (rows, columns), got {kernel_size}")
        rows, columns = sides
        padding = (0, 0) if valid else (same_padding(rows, dilation), same_padding(columns, dilation))
        conv = nn.Conv2d(in_channels, out_channels, (rows, columns), stride, padding, dilation, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels, eps=eps)))
        self.in_channels = in_channels


class ConvBNReLU(ConvBN):
    """`ConvBN`, then a ReLU: (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))  # type: ignore[no-untyped-call]


class SameConv2d(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's SAME pads: (N, C_in, H, W) -> (N, C_out, ceil(H / s), ceil(W / s)).

    It differs from `ConvBN`'s symmetric padding where a stride meets a map that it does not suit, at stride 2 on even maps:
    the missing row and column are put *behind*, and every window sits one pixel further. Errors: ValueError for an even
    kernel and for groups that do not divide the channels. Source: TensorFlow; the authors' MobileNetV2 was trained with it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *,
        stride: int = 1, dilation: int = 1, groups: int = 1,
    ) -> None:
        require_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        require_divides(groups, in_channels, names=("groups", "in_channels"))
        require_divides(groups, out_channels, names=("groups", "out_channels"))
        padding = same_padding(kernel_size, dilation)
        padding = padding if stride == 1 else 0  # at stride 1 SAME is symmetric, whatever the size
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == (1, 1):
            return super().forward(x)
        (k, _), (stride, _), (dilation, _) = self.kernel_size, self.stride, self.dilation
        rows, columns = (same_padding_before(x.shape[axis], k, stride, dilation) for axis in (-2, -1))
        extent = dilation * (k - 1)  # behind there may be a pixel too many: no window begins there
        return super().forward(F.pad(x, (columns, extent - columns, rows, extent - rows)))


class SameMaxPool2d(nn.Module):
    """Max pooling 3 x 3, padded as TensorFlow's SAME pads: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).

    On even maps at stride 2 that is one row and column *behind* the map and none before it, so the windows sit one
    pixel further than PyTorch's `padding=1` would put them. They may reach past the last pixel (`ceil_mode`), which saves
    the copy that padding would make.
    """

    def __init__(self, *, stride: int = 2, dilation: int = 1) -> None:
        super().__init__()
        same_padding_before(1, 3, stride, dilation)  # raises unless both are positive integers
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (same_padding_before(x.shape[axis], 3, self.stride, self.dilation) for axis in (2, 3))
        if self.dilation > 1:  # PyTorch pads a pool by one pixel at most, however dilated: put the padding there ourselves
            extent = 2 * self.dilation
            x = F.pad(x, (columns, extent - columns, rows, extent - rows), value=-torch.inf)
            return F.max_pool2d(x, 3, self.stride, 0, self.dilation)
        return F.max_pool2d(x, 3, self.stride, (rows, columns), ceil_mode=True)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, dilation={self.dilation}"


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, corners on corners: (N, C, h, w) -> (N, C, *size), as DeepLab resizes everything.

    Grids of n / s + 1 points then nest (513 = 16 x 32 + 1, 129 = 4 x 32 + 1), so every coarse point keeps its value.
    """
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
