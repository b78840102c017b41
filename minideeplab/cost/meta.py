"""Results without values: what an operation makes of meta tensors.

torch knows for every operation, but for many it takes the long way: it decomposes them in Python, and for that it imports its
compiler, which costs a second and 80 MB. The few that make up nearly all of a convolutional network are answered here.
Whatever is not plain is left to torch, and so is every error.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minideeplab.geometry import effective_kernel


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a run on meta tensors: subclasses say what `see` makes of name, arguments and result."""

    def see(self, name: str, args: Sequence[Any], result: Any) -> None:
        """Called behind every operation."""
        raise NotImplementedError

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = result_of(func, args, kwargs)
        self.see(func.overloadpacket.__name__, args, result)
        return result

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True, torch's default, imports the compiler in order not to compile


def without_values(tensor: Tensor) -> Tensor:
    """A meta tensor like this one."""
    if tensor.layout != torch.strided:
        return torch.empty_like(tensor, device="meta")
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")


def result_of(func: Any, args: Sequence[Any], kwargs: Any) -> Any:
    """What `func(*args, **kwargs)` gives, on meta tensors."""
    rule = None if kwargs else _RULES.get(func.overloadpacket.__name__)
    tensors = [value for value in args if isinstance(value, Tensor)]
    made = rule(*args) if rule and all(_is_plain(x) and x.dtype == tensors[0].dtype for x in tensors) else None
    return func(*args, **(kwargs or {})) if made is None else made


# A rule takes an operation's arguments. It returns None where it does not know.


def _relu(x: Tensor) -> Any:
    return _blank(x.shape, x)


def _hardtanh(x: Tensor, low: float = -1, high: float = 1) -> Any:
    return _blank(x.shape, x) if x.is_floating_point() and low <= high else None


def _pad(x: Tensor, margins: Sequence[int], value: float = 0) -> Any:
    axes = x.dim() - len(margins) // 2
    if len(margins) % 2 or axes < 0:
        return None
    wider = [before + behind for before, behind in zip(margins[::2], margins[1::2], strict=True)][::-1]
    shape = [size + more for size, more in zip(x.shape, [0] * axes + wider, strict=True)]
    return _blank(shape, x) if min(shape) > 0 and min(margins, default=0) >= 0 else None


def _add(x: Any, y: Any) -> Any:
    return _blank(x.shape, x) if isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape == y.shape else None


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *rest: Any) -> Any:
    known = not training and x.dim() > 1 and all(own is not None and own.shape == x.shape[1:2] for own in (mean, variance))
    return (_blank(x.shape, x), _blank((0,), x), _blank((0,), x)) if known else None


def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    transposed: bool, output_padding: Any, groups: int,
) -> Any:
    outputs, inputs, *kernel = weight.shape
    if transposed or x.dim() != weight.dim() or x.shape[1] != inputs * groups or outputs % groups:
        return None
    places = _places(x.shape[2:], kernel, stride, padding, dilation)
    return _blank((x.shape[0], outputs, *places), x) if places else None


def _max_pool(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0, 0), rate: Any = (1, 1), ceil: bool = False) -> Any:
    places = _places(x.shape[2:], kernel, stride or kernel, padding, rate, ceil) if x.dim() == 4 else None
    if not places or any(2 * zeros > size for zeros, size in zip(padding, kernel, strict=True)):
        return None
    indices = torch.empty((*x.shape[:2], *places), dtype=torch.int64, device="meta")
    return _blank(indices.shape, x), indices


def _mean_pool(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0, 0), ceil: bool = False, *rest: Any) -> Any:
    pooled = _max_pool(x, kernel, stride, padding, (1, 1), ceil)
    return pooled and pooled[0]


def _mean(x: Tensor, dims: Any = None, keepdim: bool = False) -> Any:
    axes = range(-x.dim(), x.dim())
    gone = {dim % x.dim() for dim in dims or [] if dim in axes}
    if not dims or len(gone) < len(dims) or not x.is_floating_point():
        return None
    return _blank([1 if axis in gone else size for axis, size in enumerate(x.shape) if keepdim or axis not in gone], x)


def _cat(parts: Sequence[Tensor], dim: int = 0) -> Any:
    first = parts[0]
    if not -first.dim() <= dim < first.dim() or not all(map(_is_plain, parts)):
        return None
    axis = dim % first.dim()
    around = {(part.dtype, part.shape[:axis], part.shape[axis + 1 :]) for part in parts}
    total = sum(part.shape[axis] for part in parts if part.dim() == first.dim())
    return _blank((*first.shape[:axis], total, *first.shape[axis + 1 :]), first) if len(around) == 1 else None


def _upsample(x: Tensor, size: Any, *rest: Any) -> Any:
    return _blank((*x.shape[:2], *size), x) if size and x.dim() == len(size) + 2 and min(size) > 0 else None


def _addmm(bias: Tensor, rows: Tensor, columns: Tensor) -> Any:
    fits = rows.dim() == columns.dim() == 2 and rows.shape[1] == columns.shape[0] and bias.shape == columns.shape[1:]
    return _blank((rows.shape[0], columns.shape[1]), rows) if fits else None


_RULES: dict[str, Callable[..., Any]] = {
    "relu": _relu,
    "hardtanh": _hardtanh,
    "constant_pad_nd": _pad,
    "add": _add,
    "native_batch_norm": _batch_norm,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _mean_pool,
    "mean": _mean,
    "cat": _cat,
    "upsample_bilinear2d": _upsample,
    "addmm": _addmm,
}


def _is_plain(x: Tensor) -> bool:
    """On the meta device, and a map's axes lie in memory in the order N, C, H, W, so that those of a result do too."""
    return x.device.type == "meta" and (x.dim() != 4 or list(x.stride()) == sorted(x.stride(), reverse=True))


def _blank(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _places(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    ceil: bool = False,
) -> list[int] | None:
    """How often a window fits along each axis; with `ceil` the last may reach past the end, if it starts before it."""
    if len({len(numbers) for numbers in (sizes, kernel, stride, padding, dilation)}) > 1:
        return None  # torch's shorthand: one number for all axes
    places = []
    for size, taps, step, zeros, rate in zip(sizes, kernel, stride, padding, dilation, strict=True):
        room = size + 2 * zeros - effective_kernel(taps, rate)
        places.append(min(-(-room // step), (size + zeros - 1) // step) + 1 if ceil else room // step + 1)
    return places if min(places) > 0 and min(sizes) > 0 else None
