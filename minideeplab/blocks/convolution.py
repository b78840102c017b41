"""Rung 1. The standard convolution: every number of a kernel has a place *and* a channel (the article, section 1)."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.geometry import (
    effective_kernel,
    output_size,
    require_counts,
    require_finite,
    require_positive,
    same_padding,
    same_padding_before,
)


def check_maps(x: Tensor, channels: int | None, *, least: int = 1) -> None:
    """Raise unless `x` is a floating-point (N, channels, H, W) with H and W of at least `least`; None: any channels."""
    if not isinstance(x, Tensor):
        raise TypeError(f"expected a tensor (N, {channels or 'C'}, H, W), got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point maps, got {x.dtype}: scale the image first, image.float() / 127.5 - 1")
    if x.dim() != 4 or channels not in (None, x.shape[1]):
        hints = {3: ": add the batch axis, x[None]", 4: ": channels come second, as x.permute(0, 3, 1, 2) puts them"}
        hint = hints[x.dim()] if x.dim() == 3 or (x.dim() == 4 and x.shape[3] == channels) else ""
        raise ValueError(f"expected (N, {channels or 'C'}, H, W), got {tuple(x.shape)}{hint}")
    if x.shape[0] < 1 or min(x.shape[2:]) < least:
        raise ValueError(f"expected at least one image of at least {least} x {least}, got {tuple(x.shape)}: pad or enlarge it")


def check_image(x: Tensor, dtype: torch.dtype, *, least: int = 1) -> None:
    """Raise unless `x` is (N, 3, H, W) in the number format of the network's weights: numpy's images are float64."""
    check_maps(x, 3, least=least)
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"the image is {x.dtype} and the network {dtype}: use image.to({dtype})")


def check_kernel(weight: Tensor) -> None:
    """Raise unless `weight` is a kernel (C_out, C_in, k_h, k_w)."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"expected a kernel (C_out, C_in, k_h, k_w), got {type(weight).__name__}")
    if weight.dim() != 4 or not weight.numel():
        raise ValueError(f"expected a kernel (C_out, C_in, k_h, k_w), got {tuple(weight.shape)}")


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
    of the logits.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int] = 1, *,
        stride: int = 1, dilation: int = 1, valid: bool = False, eps: float = 1e-3,
    ) -> None:  # fmt: skip
        sides = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
        require_counts(kernel_size=sides)
        require_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        require_finite(eps=eps)
        if len(sides) != 2:
            raise ValueError(f"kernel_size must be one number or (rows, columns), got {kernel_size}")
        k_h, k_w = sides
        extent = max(effective_kernel(k_h, dilation), effective_kernel(k_w, dilation))
        padding = (0, 0) if valid else (same_padding(k_h, dilation), same_padding(k_w, dilation))
        conv = nn.Conv2d(in_channels, out_channels, (k_h, k_w), stride, padding, dilation, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(out_channels, eps=eps)))
        self.in_channels, self.least = in_channels, extent if valid else 1

    def forward(self, x: Tensor) -> Tensor:
        check_maps(x, self.in_channels, least=self.least)
        return super().forward(x)  # type: ignore[no-any-return, no-untyped-call]


class ConvBNReLU(ConvBN):
    """`ConvBN`, rectified."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class SameMaxPool2d(nn.Module):
    """Max pooling 3 x 3, padded as TensorFlow's SAME pads: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride)).

    On even maps at stride 2 that is one row and column *behind* the map and none before it, so the windows sit one
    pixel further than PyTorch's `padding=1` would put them. They may reach past the last pixel (`ceil_mode`), which saves
    the copy that padding would make.
    """

    def __init__(self, *, stride: int = 2, dilation: int = 1) -> None:
        super().__init__()
        require_positive(stride=stride, dilation=dilation)
        self.stride, self.dilation = stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        check_maps(x, None)
        before = [same_padding_before(size, 3, self.stride, self.dilation) for size in x.shape[2:]]
        if self.dilation > 1:  # PyTorch pads a pool by one pixel at most, however dilated: put the padding there ourselves
            (rows, columns), extent = before, 2 * self.dilation
            x = F.pad(x, (columns, extent - columns, rows, extent - rows), value=-torch.inf)
            return F.max_pool2d(x, 3, self.stride, 0, self.dilation)
        return F.max_pool2d(x, 3, self.stride, before, ceil_mode=True)

    def extra_repr(self) -> str:
        return f"stride={self.stride}, dilation={self.dilation}"


def upsample(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Bilinear, corners on corners: (N, C, h, w) -> (N, C, *size).

    Grids of n / s + 1 points then nest (513 = 16 x 32 + 1, 129 = 4 x 32 + 1), so every coarse point keeps its value.
    """
    check_maps(x, None)
    require_counts(size=size)
    if len(size) != 2:
        raise ValueError(f"size must be (height, width), got {tuple(size)}")
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)
