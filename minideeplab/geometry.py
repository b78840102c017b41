"""Sizes, padding, receptive fields and output strides: integers in, integers out, no torch.

Every layer of the library derives its padding here, so that no padding can be forgotten when a dilation changes.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import isfinite
from typing import NamedTuple


class Step(NamedTuple):
    """How a row of a listing runs once the output stride is chosen."""

    stride: int
    dilation: int


def require_positive(**values: int) -> None:
    """Raise unless every value is an integer of at least 1; the keyword names the culprit.

    >>> require_positive(kernel_size=3, stride=0)
    Traceback (most recent call last):
    ...
    ValueError: stride must be at least 1, got 0
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def require_kind(kind: type, **values: object) -> None:
    """Raise TypeError unless every value is a `kind`; the keyword names the culprit."""
    for name, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be of type {kind.__name__}, got {type(value).__name__}")


def require_counts(**lists: Sequence[int]) -> None:
    """`require_positive` for every value of a sequence.

    >>> require_counts(rates=(6, 12, 0))
    Traceback (most recent call last):
    ...
    ValueError: rates[2] must be at least 1, got 0
    """
    for name, values in lists.items():
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise TypeError(f"{name} must be a sequence of integers, got {values!r}")
        require_positive(**{f"{name}[{i}]": value for i, value in enumerate(values)})


def require_finite(**values: float) -> None:
    """Raise unless every value is a positive, finite number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not (isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive and finite, got {value}")


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
    symmetric padding agrees with SAME on odd maps alone.

    >>> same_padding_before(74, 3, stride=2), same_padding_before(147, 3, stride=2)
    (0, 1)
    """
    require_positive(size=size, stride=stride)
    total = (-(-size // stride) - 1) * stride + effective_kernel(kernel_size, dilation) - size
    return max(total, 0) // 2


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


def trade_strides(strides: Sequence[int], output_stride: int, *, start: int = 1) -> list[Step]:
    """Walk the strides of a figure; once `output_stride` is reached, trade every further stride for dilation.

    `start` is the stride of what comes before the first row. The row that loses its stride still runs at the old
    dilation: its own weights saw the map before the stride; the rows behind it are dilated.

    >>> trade_strides([2, 2, 2, 1, 2, 1], 16, start=2)[-3:]
    [Step(stride=1, dilation=1), Step(stride=1, dilation=1), Step(stride=1, dilation=2)]
    >>> [step.dilation for step in trade_strides([2, 2, 2, 1, 2, 1], 8, start=2)]
    [1, 1, 1, 2, 2, 4]
    >>> trade_strides([2, 2], 3)
    Traceback (most recent call last):
    ...
    ValueError: output stride 3 cannot be reached: this network passes through 1, 2, 4
    """
    require_positive(output_stride=output_stride, start=start)
    require_counts(strides=strides)
    reached, current, dilation, steps = [start], start, 1, []
    for stride in strides:
        if current == output_stride:
            steps.append(Step(1, dilation))
            dilation *= stride
        else:
            steps.append(Step(stride, 1))
            current *= stride
        reached.append(reached[-1] * stride)
    if current != output_stride:
        stops = ", ".join(str(stop) for stop in sorted(set(reached)))
        raise ValueError(f"output stride {output_stride} cannot be reached: this network passes through {stops}")
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
