"""Rung 4. Depthwise separable convolution: look once per channel, then mix (Chollet 2017, section 1.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minideeplab.checks import check_kernel, require_finite, require_kind, require_positive
from minideeplab.geometry import same_padding


class SeparableConv2d(nn.Module):
    """Depthwise separable convolution: one k x k filter per channel, then a 1 x 1 mix of channels.

    (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride)). No bias: batch norm follows.
    Nothing stands between the two: a non-linearity there hurt (Chollet 2017, fig. 10). Stride and dilation belong to
    the depthwise half, the only one that sees space.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, dilation: int = 1,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        self.in_channels, padding = in_channels, same_padding(kernel_size, dilation)
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels, bias=False,
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class SeparableConvBN(nn.Module):
    """Separable convolution with batch norm after *both* halves (Chen 2018).

    (N, C_in, H, W) -> (N, C_out, ceil(H / stride), ceil(W / stride)).
    `relu=True` rectifies after both as well: ASPP, the decoder and the backbone's last module. Elsewhere the released
    backbone rectifies neither; section 3.2 puts a ReLU after the depthwise half.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, *,
        stride: int = 1, dilation: int = 1, relu: bool = False, eps: float = 1e-3,
    ) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, out_channels=out_channels, stride=stride)
        require_kind(bool, relu=relu)
        require_finite(eps=eps)
        self.in_channels, self.relu, padding = in_channels, relu, same_padding(kernel_size, dilation)
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, padding, dilation, groups=in_channels, bias=False,
        )
        self.depthwise_bn = nn.BatchNorm2d(in_channels, eps=eps)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise_bn(self.depthwise(x))
        x = self.pointwise_bn(self.pointwise(F.relu(x) if self.relu else x))
        return F.relu(x) if self.relu else x


def dense_kernel(separable: SeparableConv2d) -> Tensor:
    """The dense kernel (C_out, C_in, k, k) of the same function: an outer product, of rank one per input channel."""
    require_kind(SeparableConv2d, separable=separable)
    mixtures, filters = separable.pointwise.weight, separable.depthwise.weight.transpose(0, 1)
    return mixtures * filters  # (C_out, C_in, 1, 1) * (1, C_in, k, k)


def separable_terms(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """A dense kernel as a sum of separable ones, the largest first; k * k of them (or C_out, if fewer) give it exactly.

    (C_out, C_in, k, k) -> depthwise filters (terms, C_in, k, k) and mixtures (terms, C_out, C_in). Input channel c is a
    matrix of C_out outputs by k * k taps; its singular value decomposition is the sum.
    """
    u, s, v = torch.linalg.svd(_matrices(kernel), full_matrices=False)  # s: (C_in, terms)
    depthwise = v.transpose(0, 1).unflatten(2, tuple(kernel.shape[2:]))  # (terms, C_in, k, k)
    return depthwise, (u * s[:, None]).permute(2, 1, 0)  # (terms, C_out, C_in)


def separable_share(kernel: Tensor) -> Tensor:
    """How much of a dense kernel's squared weight the first 1, 2, ... separable terms carry: (terms,), ending at 1.

    1.0 at once means that one spatial filter per *input* channel is enough, after Chollet's stronger hypothesis (2017, 1.1, 3).
    """
    squares: Tensor = torch.linalg.svdvals(_matrices(kernel)).square().sum(0)  # (terms,)
    if not squares.sum() > 0:
        raise ValueError(f"a kernel {tuple(kernel.shape)} of zeros has no weight to share out")
    return squares.cumsum(0) / squares.sum()


def _matrices(kernel: Tensor) -> Tensor:
    """One matrix of outputs by taps for each input channel: (C_in, C_out, k * k)."""
    check_kernel(kernel)
    if not kernel.is_floating_point() or not kernel.isfinite().all():
        finite = f"{int(kernel.isfinite().sum())} of {kernel.numel()} finite"
        raise ValueError(f"expected a kernel of finite floating-point numbers, got {kernel.dtype}, {finite}")
    return kernel.transpose(0, 1).flatten(2)
