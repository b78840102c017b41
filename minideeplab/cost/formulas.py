"""What a convolution costs, in closed form: integers, no torch.

Convention: MAC = one multiply-accumulate (a FLOP count is twice as large). Biases, batch norm, activations and pooling
count nothing. `params` are weights without bias; at stride 1 with same padding each is used once per output pixel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from minideeplab.checks import require_positive


@dataclass(frozen=True, order=True)
class Cost:
    """Learned weights, and multiply-accumulates for one image: costs add up, and unpack as `params, macs`.

    >>> sum([Cost(9, 90), Cost(4, 40)])
    Cost(params=13, macs=130)
    """

    params: int
    macs: int

    def __add__(self, other: object) -> "Cost":
        if other == 0 and not isinstance(other, Cost):  # where `sum` begins
            return self
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.params + other.params, self.macs + other.macs)

    __radd__ = __add__

    def __iter__(self) -> Iterator[int]:
        return iter((self.params, self.macs))


def convolution(c_in: int, c_out: int, kernel: int, height: int, width: int, *, groups: int = 1) -> Cost:
    """A k x k convolution that makes a height x width map, in `groups` groups of channels.

    >>> convolution(128, 128, 3, 32, 32)
    Cost(params=147456, macs=150994944)
    """
    require_positive(c_in=c_in, c_out=c_out, kernel=kernel, height=height, width=width, groups=groups)
    if c_in % groups or c_out % groups:
        raise ValueError(f"groups must divide both channel counts: {groups} does not divide {c_in} and {c_out}")
    params = c_out * (c_in // groups) * kernel * kernel
    return Cost(params, params * height * width)


def depthwise(channels: int, kernel: int, height: int, width: int) -> Cost:
    """One k x k filter per channel.

    >>> depthwise(128, 3, 32, 32)
    Cost(params=1152, macs=1179648)
    """
    return convolution(channels, channels, kernel, height, width, groups=channels)


def pointwise(c_in: int, c_out: int, height: int, width: int) -> Cost:
    """A 1 x 1 convolution: channels are mixed, pixel by pixel."""
    return convolution(c_in, c_out, 1, height, width)


def separable(c_in: int, c_out: int, kernel: int, height: int, width: int) -> Cost:
    """Depthwise, then pointwise: 1 / c_out + 1 / k^2 of the dense convolution.

    >>> from fractions import Fraction
    >>> Fraction(separable(128, 128, 3, 32, 32).macs, convolution(128, 128, 3, 32, 32).macs)
    Fraction(137, 1152)
    """
    return depthwise(c_in, kernel, height, width) + pointwise(c_in, c_out, height, width)


def inverted_residual(c_in: int, c_out: int, kernel: int, height: int, width: int, *, expansion: int = 6) -> Cost:
    """1 x 1 to `expansion` times the channels, k x k for each of them, 1 x 1 back, at stride 1 (Sandler 2018, table 1).

    >>> inverted_residual(24, 24, 3, 65, 65).params, convolution(24, 24, 3, 65, 65).params
    (8208, 5184)
    """
    require_positive(c_in=c_in, expansion=expansion)
    wide = expansion * c_in
    return pointwise(c_in, wide, height, width) + separable(wide, c_out, kernel, height, width)


def spatially_separable(c_in: int, c_out: int, kernel: int, height: int, width: int) -> Cost:
    """1 x k, then k x 1 with c_out channels between them, same padding: Szegedy 2016, fig. 3.

    >>> spatially_separable(64, 64, 3, 17, 17).params, convolution(64, 64, 3, 17, 17).params
    (24576, 36864)
    """
    require_positive(c_in=c_in, c_out=c_out, kernel=kernel, height=height, width=width)
    params = c_in * c_out * kernel + c_out * c_out * kernel
    return Cost(params, params * height * width)


def inception_tower(c_in: int, reduced: int, c_out: int, kernel: int, height: int, width: int) -> Cost:
    """1 x 1 down to `reduced` channels, then a dense k x k: one tower of an Inception module."""
    return pointwise(c_in, reduced, height, width) + convolution(reduced, c_out, kernel, height, width)
