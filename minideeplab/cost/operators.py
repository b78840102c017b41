"""How each operation reads the map before it: PyTorch's operators, by name, as steps of a receptive field.

An operation that is not listed reads its own pixel only.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from typing import Any

from torch import Tensor

from minideeplab.cost.receptive_field import Field, Grid


def window(kernel: int, *, stride: int = 1, dilation: int = 1, padding: int = 0) -> Grid:
    """A convolution or a pooling; `padding` is that before the map."""
    return Grid(stride, 1, -padding, (kernel - 1) * dilation - padding)


def transposed(kernel: int, *, stride: int = 1, dilation: int = 1, padding: int = 0) -> Grid:
    """A transposed convolution: pixel i reads from (i + padding - extent) / stride, rounded up, to (i + padding) / stride."""
    return Grid(1, stride, padding - (kernel - 1) * dilation + stride - 1, padding)


def bilinear(before: int, after: int, *, corners: bool) -> Grid:
    """Two neighbors are read, one where the grids coincide."""
    if corners:
        parts = max(after - 1, 1)
        return _lowest_terms(Grid(before - 1, parts, 0, parts - 1))
    return _lowest_terms(Grid(2 * before, 2 * after, before - after, before + after - 1))


def nearest(before: int, after: int) -> Grid:
    """One pixel is read."""
    return _lowest_terms(Grid(before, after))


def bins(before: int, after: int) -> Grid:
    """Adaptive pooling: bin i reads from i * before / after, rounded down, to (i + 1) * before / after, rounded up."""
    return _lowest_terms(Grid(before, after, 0, before - 1))


def _lowest_terms(grid: Grid) -> Grid:
    common = gcd(grid.ratio, grid.parts)
    return Grid(grid.ratio // common, grid.parts // common, grid.first // common, grid.last // common)


def _per_axis(values: Sequence[int], axis: int, default: int) -> int:
    return values[axis if len(values) > 1 else 0] if values else default


def _see_convolution(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    _, weight, _, stride, padding, dilation, is_transposed, _, _ = args
    if weight.dim() - 2 < -axis:
        return field  # a 1-D convolution has columns only
    look = transposed if is_transposed else window
    step, rate, before = (_per_axis(values, axis, 1) for values in (stride, dilation, padding))
    return field.through(look(weight.shape[axis], stride=step, dilation=rate, padding=before))


def _see_pool(args: Any, result: Any, field: Field, axis: int, *, dilated: bool) -> Field:
    kernel = _per_axis(args[1], axis, 1)
    stride = _per_axis(args[2] if len(args) > 2 else [], axis, kernel)
    padding = _per_axis(args[3] if len(args) > 3 else [], axis, 0)
    dilation = _per_axis(args[4], axis, 1) if dilated and len(args) > 4 else 1
    return field.through(window(kernel, stride=stride, dilation=dilation, padding=padding))


def _see_bins(args: Any, result: Any, field: Field, axis: int) -> Field:
    before, after = args[0].shape[axis], _per_axis(args[1], axis, 1)
    return field.whole() if after == 1 else field.through(bins(before, after))


def _see_mean(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    axes = args[0].dim()
    dims = [dim % axes for dim in args[1] or range(axes)] if len(args) > 1 else range(axes)
    return field.whole() if axes + axis in dims else field


def _see_bilinear(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    return field.through(bilinear(args[0].shape[axis], result.shape[axis], corners=args[2]))


def _see_nearest(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    return field.through(nearest(args[0].shape[axis], result.shape[axis]))


def _see_unpool(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    return field.through(nearest(1, max(result.shape[axis] // args[0].shape[axis], 1)))


def _see_slice(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    x, dim, start = args[0], args[1] if len(args) > 1 else 0, args[2] if len(args) > 2 else 0
    if dim % x.dim() != x.dim() + axis:
        return field
    return field.through(window(1, stride=args[4] if len(args) > 4 else 1, padding=-((start or 0) % x.shape[axis])))


def _see_padding(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    before = args[1][-2 * axis - 2 : -2 * axis - 1]
    return field.through(window(1, padding=before[0])) if before else field


def _see_all(args: Any, result: Tensor, field: Field, axis: int) -> Field:
    return field.whole()


FIELDS: dict[str, Callable[[Any, Any, Field, int], Field]] = {
    "convolution": _see_convolution,
    "max_pool2d_with_indices": partial(_see_pool, dilated=True),
    "avg_pool2d": partial(_see_pool, dilated=False),
    "_adaptive_avg_pool2d": _see_bins,
    "adaptive_max_pool2d": _see_bins,
    "mean": _see_mean,
    "sum": _see_mean,
    "amax": _see_mean,
    "upsample_bilinear2d": _see_bilinear,
    "upsample_nearest2d": _see_nearest,
    "max_unpool2d": _see_unpool,
    "slice": _see_slice,
    "constant_pad_nd": _see_padding,
    "mm": _see_all,
    "bmm": _see_all,
    "addmm": _see_all,
}
