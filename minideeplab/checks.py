"""What constructors and functions ask of what they are given: a positive integer, a sequence of them, maps, a kernel.

The boundary of the library: constructors, free functions and a network's `forward` check; a block's `forward` does not.
Every error names the culprit, carries the numbers and says what to do.
"""

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor, fx

MOST_STOPS = 12  # divisors that an error message lists


def is_stand_in(value: object) -> bool:
    """Whether a tracer put this in the place of a number or a tensor: `torch.fx`, `torch.jit.trace`, `torch.export`.

    It has no value to be checked. What is written down with it can be, later, when it runs on real numbers.
    """
    return isinstance(value, (fx.Proxy, torch.SymInt)) or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]


def require_kind(kind: type, **values: object) -> None:
    """Raise TypeError unless every value is a `kind`; the keyword names the culprit.

    A bool is asked for with `bool`: nothing else is one. `separable="no"` would be true.
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name} must be of type {kind.__name__}, got {type(value).__name__} {_short(value)}")


def require_positive(**values: int) -> None:
    """Raise unless every value is an integer of at least 1; the keyword names the culprit.

    >>> require_positive(kernel_size=3, stride=0)
    Traceback (most recent call last):
    ...
    ValueError: stride must be at least 1, got 0
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, got {_short(value)}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def require_counts(**lists: Sequence[int]) -> None:
    """`require_positive` for every value of a sequence; a text or bytes is none.

    >>> require_counts(rates=(6, 12, 0))
    Traceback (most recent call last):
    ...
    ValueError: rates[2] must be at least 1, got 0
    """
    for name, values in lists.items():
        if isinstance(values, str | bytes | bytearray) or not isinstance(values, Sequence):
            raise TypeError(f"{name} must be a sequence of integers, got {_short(values)}")
        require_positive(**{f"{name}[{i}]": value for i, value in enumerate(values)})


def require_finite(**values: float) -> None:
    """Raise unless every value is a positive, finite number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number, got {_short(value)}")
        if not 0 < value < inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def require_divides(parts: int, whole: int, *, names: tuple[str, str]) -> None:
    """Raise unless `parts` equal segments make up `whole` channels.

    >>> require_divides(5, 12, names=("segments", "width"))
    Traceback (most recent call last):
    ...
    ValueError: segments must divide width: 5 does not divide 12, use one of 1, 2, 3, 4, 6, 12
    """
    require_positive(**{names[0]: parts, names[1]: whole})
    if whole % parts:
        stops = [stop for stop in range(1, min(whole, 1000) + 1) if whole % stop == 0]
        shown = ", ".join(map(str, stops[:MOST_STOPS])) + (", ..." if len(stops) > MOST_STOPS or whole > 1000 else "")
        raise ValueError(f"{names[0]} must divide {names[1]}: {parts} does not divide {whole}, use one of {shown}")


def check_maps(x: Tensor, channels: int | None, *, least: int = 1) -> None:
    """Raise unless `x` is a floating-point (N, channels, H, W) with H and W of at least `least`; None: any channels."""
    if is_stand_in(x):
        return
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
    """Raise unless `x` is (N, 3, H, W) in the number format of the network's weights: numpy's images are float64.

    What a network's `forward` asks, once; the blocks inside it ask nothing.
    """
    check_maps(x, 3, least=least)
    if not is_stand_in(x) and x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"the image is {x.dtype} and the network {dtype}: use image.to({dtype})")


def check_batch(x: Tensor, training: bool, name: str) -> None:
    """Raise on a batch of one in training, where batch norm would have a 1 x 1 map without variance."""
    if training and not is_stand_in(x) and len(x) < 2:
        raise ValueError(
            f"{name} needs a batch of at least 2 in training, got {len(x)}: "
            "batch norm over one 1 x 1 map has no variance; enlarge the batch or call .eval()"
        )


def check_kernel(weight: Tensor) -> None:
    """Raise unless `weight` is a kernel (C_out, C_in, k_h, k_w)."""
    if not isinstance(weight, Tensor):
        raise TypeError(f"expected a kernel (C_out, C_in, k_h, k_w), got {type(weight).__name__}")
    if weight.dim() != 4 or not weight.numel():
        raise ValueError(f"expected a kernel (C_out, C_in, k_h, k_w), got {tuple(weight.shape)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."
