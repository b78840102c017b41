"""What each operation reads of the map before it: PyTorch's operators, by name, as steps of a receptive field.

An operation that is not listed here may read anything, and what comes behind it sees nobody knows what.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from torch import Tensor

from minideeplab.cost.axes import Seen, meet
from minideeplab.cost.receptive_field import Field, Grid, bins, linear, nearest, nearest_exact, transposed, window

POINTWISE = frozenset(
    "abs acos add addcdiv addcmul alias asin atan atan2 bernoulli bitwise_and bitwise_not bitwise_or ceil celu clamp clamp_max "
    "clamp_min clone contiguous copy cos cosh detach div elu eq erf erfc exp expand expand_as expm1 fill floor "
    "floor_divide fmod ge gelu gt hardshrink hardsigmoid hardswish hardtanh isfinite isinf isnan le leaky_relu lerp lift_fresh "
    "log log10 log1p log2 log_sigmoid_forward logical_and logical_not logical_or logit lt masked_fill maximum minimum mish mul "
    "nan_to_num native_dropout ne neg pow _prelu_kernel reciprocal relu relu6 remainder round rsqrt rsub selu sgn sigmoid sign "
    "silu sin sinh softplus softshrink sqrt square sub tan tanh threshold _to_copy to tril triu trunc where xlogy zero "
    "_native_batch_norm_legit_no_training native_channel_shuffle channel_shuffle".split()
)
CONSTANTS = frozenset(  # what only asks a tensor for its shape
    "empty_like full_like new_empty new_empty_strided new_full new_ones new_zeros ones_like rand_like randn_like "
    "zeros_like".split()
)
Rule = Callable[[Any, Any, Seen], Seen]


def seen_behind(name: str, args: Sequence[Any], result: Any, seen: Callable[[Any], Seen | None]) -> Seen | None:
    """What the results of an operation see, from what `seen` knows of its tensors; None if that is nothing of the image."""
    plain = name.rstrip("_")  # relu_ is relu, in place
    tensors = _tensors(args)
    known = [found for found in map(seen, tensors) if found]
    if not known or plain in CONSTANTS:
        return None
    made = next(iter(_tensors([result])), None)
    if made is None:
        return None
    if plain in POINTWISE:
        return meet(found.broadcast(x.shape, made.shape) for x in tensors if (found := seen(x)))
    if plain in TOGETHER:
        return TOGETHER[plain](args, made, seen)
    first = args[0] if isinstance(args[0], Tensor) else None
    alone = first is not None and len({id(x) for x in tensors if seen(x)}) == 1 and (found := seen(first))
    return RULES[plain](args, made, found) if alone and found and plain in RULES else meet(known).lost()


def _tensors(values: Any) -> list[Tensor]:
    return [
        x for value in values for x in (value if isinstance(value, list | tuple) else [value]) if isinstance(x, Tensor)
    ]


# ---- rules: arguments, result and what the only tensor of the image sees, to what the result sees


def _convolution(args: Any, result: Tensor, seen: Seen) -> Seen:
    x, weight, _, stride, padding, dilation, is_transposed, _, _ = args
    axes = weight.dim() - 2
    look = transposed if is_transposed else window
    numbers = zip(range(-axes, 0), *(_per_axis(values, axes) for values in (stride, dilation, padding)), strict=True)
    grids = {dim: look(weight.shape[dim], stride=s, dilation=d, padding=p) for dim, s, d, p in numbers}
    return seen.whole([-axes - 1]).through(grids, x.shape)


def _pool(args: Any, result: Tensor, seen: Seen, *, axes: int, dilated: bool) -> Seen:
    kernel, stride, padding, dilation = ([*args[1:5], [], [], []][i] for i in range(4))
    padding, dilation = padding or [0], (dilation or [1]) if dilated else [1]
    numbers = zip(range(-axes, 0), *(_per_axis(v, axes) for v in (kernel, stride or kernel, dilation, padding)), strict=True)
    return seen.through({dim: window(k, stride=s, dilation=d, padding=p) for dim, k, s, d, p in numbers}, args[0].shape)


def _bins(args: Any, result: Tensor, seen: Seen, *, axes: int) -> Seen:
    before, after = args[0].shape, result.shape
    means = [dim for dim in range(-axes, 0) if after[dim] == 1]
    return seen.whole(means).through({d: bins(before[d], after[d]) for d in range(-axes, 0) if d not in means}, before)


def _resize(args: Any, result: Tensor, seen: Seen, *, axes: int, look: Callable[..., Grid], first: int) -> Seen:
    """`first` is where the scales stand among the arguments; one that is not the ratio of the sizes says where pixels lie."""
    before, after, scales = args[0].shape, result.shape, [*args[first:], *[None] * axes][:axes]
    corners = {"corners": args[2]} if look is linear else {}
    grids = {}
    for dim, scale in zip(range(-axes, 0), scales, strict=True):
        odd = scale is not None and Fraction(scale) * before[dim] != after[dim] and not corners.get("corners")
        grids[dim] = None if odd else look(before[dim], after[dim], **corners)
    return seen.through(grids, before)


def _resize_somehow(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.through(dict.fromkeys((-2, -1)), args[0].shape)


def _unshuffle(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.through({dim: Grid(args[1], 1, 0, args[1] - 1) for dim in (-2, -1)}, args[0].shape)


def _shuffle(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.through({dim: nearest(1, args[1]) for dim in (-2, -1)}, args[0].shape)


def _reduce(args: Any, result: Tensor, seen: Seen, *, at: int = 1) -> Seen:
    dims = _dims(args[at] if len(args) > at and result.dim() else None, args[0].dim())
    return seen.whole(dims) if result.dim() == args[0].dim() else seen.without(dims, Field.whole)


def _along(args: Any, result: Tensor, seen: Seen, *, at: int = 1, default: int = -1) -> Seen:
    return seen.whole(_dims(args[at] if len(args) > at else default, args[0].dim()))


def _layer_norm(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.whole(range(-len(args[1]), 0))


def _group_norm(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.whole(range(1 - args[0].dim(), 0))


def _batch_norm(args: Any, result: Tensor, seen: Seen) -> Seen:
    training = args[3] if isinstance(args[3], bool) else args[5]
    dims = args[0].dim()
    return seen.whole([dim for dim in range(-dims, 0) if dim != 1 - dims]) if training else seen


def _slice(args: Any, result: Tensor, seen: Seen) -> Seen:
    x, (dim, start, step) = args[0], (args[at] if len(args) > at else default for at, default in ((1, 0), (2, 0), (4, 1)))
    [dim] = _dims(dim, x.dim())
    start = max(start + x.shape[dim], 0) if (start or 0) < 0 else min(start or 0, x.shape[dim])
    if result.shape[dim] == x.shape[dim]:
        return seen
    return seen.through({dim: window(1, stride=step, padding=-start)}, x.shape, alone=True)


def _select(args: Any, result: Tensor, seen: Seen) -> Seen:
    x, dim, index = args
    [dim] = _dims(dim, x.dim())
    index %= x.shape[dim]
    shared = any(spot and spot.dim == dim and spot.shared for spot in seen.spots)
    return seen.without([dim], lambda field: field.lost() if shared else field.through(Grid(0, 1, index, index)))


def _pad(args: Any, result: Tensor, seen: Seen) -> Seen:
    before = {-1 - axis: window(1, padding=zeros) for axis, zeros in enumerate(args[1][::2])}
    changed = {dim: grid for dim, grid in before.items() if result.shape[dim] != args[0].shape[dim] or grid != Grid()}
    return seen.through(changed, args[0].shape, alone=True)


def _split(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.lost_along(_dims(args[2] if len(args) > 2 else 0, args[0].dim()))


def _unbind(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.without(_dims(args[1] if len(args) > 1 else 0, args[0].dim()), Field.lost)


def _rearrange(args: Any, result: Tensor, seen: Seen, *, at: int) -> Seen:
    """Pixels of some dimensions change places: flipped, rolled, or picked by an index."""
    dims = args[at] if len(args) > at else []
    return seen.lost_along(_dims(dims if dims != [] else None, args[0].dim()))


def _repeat(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.lost_along([i - len(args[1]) for i, times in enumerate(args[1]) if times > 1])


def _reshape(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.reshaped(args[0].shape, result.shape)


def _permute(args: Any, result: Tensor, seen: Seen) -> Seen:
    return seen.moved([dim % args[0].dim() for dim in args[1]])


def _transpose(args: Any, result: Tensor, seen: Seen) -> Seen:
    x, a, b = [*args, 0, -1][:3] if len(args) == 1 else args
    places = list(range(x.dim()))
    if places:
        places[a], places[b] = places[b], places[a]
    return seen.moved(places)


def _per_axis(values: Sequence[int], axes: int) -> list[int]:
    return [values[axis if len(values) > 1 else 0] for axis in range(axes)]


def _dims(dims: Any, count: int) -> list[int]:
    """Dimensions as they are counted from the last; None or an empty list are all of them."""
    chosen = [dims] if isinstance(dims, int) else list(dims or range(count))
    return [dim % count - count for dim in chosen] if count else []


# ---- operations that bring together several tensors of the image


def _cat(args: Any, result: Tensor, seen: Callable[[Any], Seen | None]) -> Seen:
    return meet(found for x in args[0] if (found := seen(x))).lost_along(_dims(args[1] if len(args) > 1 else 0, result.dim()))


def _stack(args: Any, result: Tensor, seen: Callable[[Any], Seen | None]) -> Seen:
    [new] = _dims(args[1] if len(args) > 1 else 0, result.dim())
    all_seen = meet(found for x in args[0] if (found := seen(x)))
    return all_seen.change(lambda field, spot: (field, spot if spot.dim > new else spot._replace(dim=spot.dim - 1)))


def _product(args: Any, result: Tensor, seen: Callable[[Any], Seen | None]) -> Seen:
    """Matrices, with a summand before them or none: rows of the first, columns of the second; what is between is summed up."""
    *summand, left, right = (seen(x) for x in [x for x in args if isinstance(x, Tensor)])
    parts = [summand[0].broadcast(args[0].shape, result.shape)] if summand and summand[0] else []
    for matrix, summed in ((left, -1), (right, -2)):
        if matrix:
            parts.append(
                matrix.change(lambda field, spot, at=summed: (field.whole(), None) if spot.dim == at else (field, spot))  # type: ignore[misc]
            )
    return meet(parts)


def _unpool(args: Any, result: Tensor, seen: Callable[[Any], Seen | None]) -> Seen:
    """A maximum goes back to where it was; that depends on all that its window held."""
    x, indices = args[:2]
    grids = {dim: nearest(1, max(result.shape[dim] // x.shape[dim], 1)) for dim in (-2, -1)}
    return meet(found for y in (x, indices) if (found := seen(y))).through(grids, x.shape)


TOGETHER: Mapping[str, Callable[[Any, Tensor, Callable[[Any], Seen | None]], Seen]] = {
    "cat": _cat,
    "stack": _stack,
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _product),
    "max_unpool2d": _unpool,
}
RULES: Mapping[str, Rule] = {
    "convolution": _convolution,
    **{f"max_pool{axes}d_with_indices": partial(_pool, axes=axes, dilated=True) for axes in (2, 3)},
    **{f"avg_pool{axes}d": partial(_pool, axes=axes, dilated=False) for axes in (2, 3)},
    **{f"{name}{axes}d": partial(_bins, axes=axes) for name in ("_adaptive_avg_pool", "adaptive_max_pool") for axes in (2, 3)},
    **{
        f"upsample_{name}{axes}d": partial(_resize, axes=axes, look=linear, first=3)
        for axes, name in enumerate(("linear", "bilinear", "trilinear"), 1)
    },
    **{f"upsample_nearest{axes}d": partial(_resize, axes=axes, look=nearest, first=2) for axes in (1, 2, 3)},
    **{f"_upsample_nearest_exact{axes}d": partial(_resize, axes=axes, look=nearest_exact, first=2) for axes in (1, 2, 3)},
    **dict.fromkeys(("upsample_bicubic2d", "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa"), _resize_somehow),
    "pixel_shuffle": _shuffle,
    "pixel_unshuffle": _unshuffle,
    **dict.fromkeys("mean sum nansum amax amin max min argmax argmin prod all any var std var_mean std_mean".split(), _reduce),
    **dict.fromkeys(("logsumexp", "count_nonzero"), _reduce),
    **dict.fromkeys(("linalg_vector_norm", "norm"), partial(_reduce, at=2)),
    **dict.fromkeys("_softmax _log_softmax _safe_softmax cumsum cumprod logcumsumexp cummax sort".split(), _along),
    "topk": partial(_along, at=2),
    "native_layer_norm": _layer_norm,
    "_fused_rms_norm": _layer_norm,
    "native_group_norm": _group_norm,
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit"), _batch_norm),
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(
        ["constant_pad_nd", *(f"{name}_pad{axes}d" for name in ("reflection", "replication") for axes in (1, 2, 3))], _pad
    ),
    **dict.fromkeys(("split", "unsafe_split", "split_with_sizes", "chunk", "unsafe_chunk"), _split),
    "unbind": _unbind,
    **dict.fromkeys(("flip", "glu", "index_select"), partial(_rearrange, at=1)),
    "roll": partial(_rearrange, at=2),
    "repeat": _repeat,
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias", "reshape", "squeeze", "unsqueeze"), _reshape),
    "permute": _permute,
    **dict.fromkeys(("transpose", "t"), _transpose),
}
