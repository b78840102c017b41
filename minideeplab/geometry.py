"""Sizes, padding, receptive fields and output strides: integers in, integers out, no torch.

Every layer of the library derives its padding here, so that no padding can be forgotten when a dilation changes.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

from minideeplab.checks import is_stand_in, require_counts, require_kind, require_positive


def effective_kernel(kernel_size: int, dilation: int = 1) -> int:
    """Pixels from the first tap of a dilated kernel to its last, both included.

    >>> [effective_kernel(3, rate) for rate in (1, 6, 12, 18)]
    [3, 13, 25, 37]
    """
    require_positive(kernel_size=kernel_size, dilation=dilation)
    return dilation * (kernel_size - 1) + 1


def same_padding(kernel_size: int, dilation: int = 1) -> int:
    """Zeros on each side that keep the size at stride 1; at stride s the size becomes ceil(n / s).

    An even kernel has no middle tap, hence no symmetric padding: ValueError.

    >>> same_padding(3), same_padding(3, dilation=12), same_padding(1)
    (1, 12, 0)
    """
    extent = effective_kernel(kernel_size, dilation)
    if kernel_size % 2 == 0:
        raise ValueError(f"same padding needs an odd kernel_size, got {kernel_size}")
    return extent // 2


def same_padding_before(size: int, kernel_size: int, stride: int = 1, dilation: int = 1) -> int:
    """Zeros that TensorFlow's SAME puts *before* the map; what is missing goes behind it.

    On an even map a 3-tap window of stride 2 is padded behind only, on an odd one on both sides. PyTorch's
    symmetric padding agrees with SAME on odd maps alone. A tracer's stand-in for the size is computed with, unchecked.

    >>> same_padding_before(74, 3, stride=2), same_padding_before(147, 3, stride=2)
    (0, 1)
    """
    if not is_stand_in(size):
        require_positive(size=size)
    require_positive(stride=stride)
    extent = effective_kernel(kernel_size, dilation)
    missing = -size % stride + extent - stride  # ceil(size / stride) windows need so many pixels more than there are
    return (missing if stride <= extent else max(missing, 0)) // 2  # a wider stride may end before the map does


def output_size(size: int, kernel_size: int, *, stride: int = 1, dilation: int = 1, padding: int = 0) -> int:
    """Length of the map that a convolution or pooling makes of a map of length `size`.

    Chollet 2017, fig. 5: the two stem convolutions, without padding, at 299 pixels.

    >>> output_size(299, 3, stride=2), output_size(149, 3)
    (149, 147)
    >>> output_size(4, 3, dilation=2)
    Traceback (most recent call last):
    ...
    ValueError: a kernel that spans 5 pixels does not fit into 4 (size 4 + 2 x padding 0)
    """
    require_positive(size=size, stride=stride)
    if isinstance(padding, bool) or not isinstance(padding, int):
        raise TypeError(f"padding must be an integer, got {padding!r}")
    if padding < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    extent, room = effective_kernel(kernel_size, dilation), size + 2 * padding
    if extent > room:
        raise ValueError(f"a kernel that spans {extent} pixels does not fit into {room} (size {size} + 2 x padding {padding})")
    return (room - extent) // stride + 1


def receptive_field(layers: Iterable[tuple[int, int, int]]) -> int:
    """Input pixels along one axis that can reach one output pixel, through layers of (kernel_size, stride, dilation).

    Each layer adds its extent less one, measured in the input pixels between two neighbors of its own input.

    >>> receptive_field([(3, 1, 1)] * 2), receptive_field([(3, 1, 2)] * 3)
    (5, 13)
    >>> receptive_field([(3, 2, 1), (3, 1, 1)])
    7
    """
    require_kind(Iterable, layers=layers)
    field, jump = 1, 1
    for number, layer in enumerate(layers):
        require_counts(**{f"layers[{number}]": layer})
        if len(layer) != 3:
            raise ValueError(f"layers[{number}] needs (kernel_size, stride, dilation), got {layer}")
        kernel_size, stride, dilation = layer
        field += (effective_kernel(kernel_size, dilation) - 1) * jump
        jump *= stride
    return field


class Step(NamedTuple):
    """How a row of a listing runs at the chosen output stride: the stride of its figure, whether it was traded, the rate.

    A row that was traded runs at stride 1. There is no second number that could disagree with the first.
    """

    figure: int
    traded: bool = False
    dilation: int = 1

    @property
    def stride(self) -> int:
        """What the row runs at."""
        return 1 if self.traded else self.figure

    @classmethod
    def of(cls, stride: "int | Step") -> "Step":
        """The step itself, or that of a row which runs as its figure says, at this stride."""
        if not isinstance(stride, Step):
            require_positive(stride=stride)
            return cls(stride)
        require_positive(**{"stride.figure": stride.figure, "stride.dilation": stride.dilation})
        require_kind(bool, **{"stride.traded": stride.traded})
        return stride


class StrideWalk:
    """Walks down a listing; once `output_stride` is reached, every further stride is traded for dilation.

    Each row asks for its `Step` with the stride of its figure: `at = StrideWalk(16, start=2)`, then `stride=at(2)` on
    one row after another, in the order of the listing. `start` is the stride of what comes before the first. The row that
    loses its stride still runs at the old dilation: its own weights saw the map before the stride; those behind are dilated.
    """

    def __init__(self, output_stride: int, *, start: int = 1) -> None:
        require_positive(output_stride=output_stride, start=start)
        self.output_stride, self.current, self.dilation, self.passed = output_stride, start, 1, [start]

    def __call__(self, stride: int = 1) -> Step:
        """The next row, of this stride in its figure."""
        require_positive(stride=stride)
        step = Step(stride, stride > 1 and self.current == self.output_stride, self.dilation)
        if step.traded:
            self.dilation *= stride
        else:
            self.current *= stride
        self.passed.append(self.passed[-1] * stride)
        if self.current > self.output_stride:
            raise self._refusal(", ...")
        return step

    def reached(self) -> int:
        """The output stride, behind the last row. ValueError if the walk did not stop there."""
        if self.current != self.output_stride:
            raise self._refusal()
        return self.output_stride

    def _refusal(self, more: str = "") -> ValueError:
        stops = ", ".join(map(str, sorted(set(self.passed)))) + more
        return ValueError(f"output stride {self.output_stride} cannot be reached: this network passes through {stops}")


def trade_strides(strides: Sequence[int], output_stride: int, *, start: int = 1) -> list[Step]:
    """A `StrideWalk` over all strides of a figure at once.

    >>> [step.dilation for step in trade_strides([2, 2, 2, 1, 2, 1], 16, start=2)]
    [1, 1, 1, 1, 1, 2]
    >>> [(step.stride, step.dilation) for step in trade_strides([2, 2, 2, 1, 2, 1], 8, start=2)]
    [(2, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4)]
    >>> trade_strides([2, 2], 3)
    Traceback (most recent call last):
    ...
    ValueError: output stride 3 cannot be reached: this network passes through 1, 2, 4, ...
    """
    require_counts(strides=strides)
    at = StrideWalk(output_stride, start=start)
    steps = [at(stride) for stride in strides]
    at.reached()
    return steps


def default_rates(output_stride: int) -> tuple[int, ...]:
    """The rates of atrous spatial pyramid pooling: (6, 12, 18) at output stride 16, the same reach in pixels elsewhere.

    Chen 2017 doubles them at output stride 8; (3, 6, 9) at 32 reproduces table 3 of Chen 2018.

    >>> default_rates(32), default_rates(16), default_rates(8)
    ((3, 6, 9), (6, 12, 18), (12, 24, 36))
    """
    require_positive(output_stride=output_stride)
    rates = tuple(Fraction(96 * branch, output_stride) for branch in (1, 2, 3))
    if any(rate.denominator != 1 for rate in rates):
        raise ValueError(f"no whole rates reach 96, 192, 288 pixels at output stride {output_stride}: pass rates yourself")
    return tuple(int(rate) for rate in rates)
