"""Measures of a segmentation, in whole numbers. A label map is an integer tensor (H, W); a mask is boolean: labels 0 and 1."""

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from minideeplab.checks import require_counts, require_positive

LABELS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
WIDEST = 2**15  # stride of `perfect_labels`: its scores are at most (2 * stride ** 2) ** 2, below int64's 2 ** 63


def intersection_over_union(drawn: Tensor, truth: Tensor) -> Fraction:
    """The pixels that both masks hold, of those that at least one holds: two boolean (H, W) -> a fraction in [0, 1].

    TypeError unless both are boolean; ValueError unless they are of one shape (H, W), and for two empty masks.
    """
    _check((torch.bool,), drawn=drawn, truth=truth)
    union = int((drawn | truth).sum())
    if not union:
        raise ValueError(f"both masks are empty, 0 of {drawn.numel()} pixels: without a union there is nothing to divide by")
    return Fraction(int((drawn & truth).sum()), union)


def squared_distance_to_boundary(labels: Tensor) -> Tensor:
    """From every pixel to the nearest one of another class, squared: (H, W) -> (H, W), int64.

    Euclidean, in pixels, from center to center: 1 beside the boundary, 2 diagonally across it. First the distance within
    each column, then the least dx ** 2 + column ** 2 over the columns, the nearest first: no tensor is larger than the map.
    ValueError for a single class, which has no boundary.

    >>> squared_distance_to_boundary(torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]])).tolist()
    [[9, 4, 1, 1], [10, 5, 2, 1]]
    """
    _check(labels=labels)
    if bool((labels == labels[0, 0]).all()):
        raise ValueError(f"a boundary needs at least 2 classes, got {labels.numel()} pixels of class {int(labels[0, 0])}")
    column = torch.minimum(_to_class_above(labels), _to_class_above(labels.flip(0)).flip(0)) ** 2
    least = column.clone()
    for dx in range(1, labels.shape[1]):
        if dx * dx >= int(least.max()):
            break  # no column so far away is nearer than what has been found
        same = labels[:, dx:] == labels[:, :-dx]  # where the class is another one, the column's own distance is 0
        least[:, dx:] = torch.minimum(least[:, dx:], dx * dx + column[:, :-dx] * same)
        least[:, :-dx] = torch.minimum(least[:, :-dx], dx * dx + column[:, dx:] * same)
    return least


def wrong_pixels_near_boundary(drawn: Tensor, truth: Tensor, radii: Sequence[int] = (1, 2, 4, 8, 16)) -> dict[int, int]:
    """How many of the pixels drawn wrong, drawn != truth, lie within r pixels of truth's boundary, for each radius r.

    Within r: `squared_distance_to_boundary(truth) <= r * r`. Two label maps (H, W); ValueError where truth has one class.
    """
    _check(drawn=drawn, truth=truth)
    require_counts(radii=radii)
    distances, farthest = squared_distance_to_boundary(truth)[drawn.long() != truth.long()], sum(truth.shape)
    return {r: int((distances <= min(r, farthest) ** 2).sum()) for r in radii}


def perfect_labels(labels: Tensor, stride: int, *, window: int = 1) -> Tensor:
    """What the true labels become on a grid of every stride-th pixel, drawn in full again: (H, W) -> (H, W), same dtype.

    A grid point holds the classes' shares of the window x window pixels around it (of an even window, half of those on its
    rim): its own label by default; with window=stride the windows tile the map. Shares are enlarged as DeepLab does, bilinear
    with corners aligned; the largest wins, of equal ones the lowest class. Beyond its sides the map repeats its outermost
    pixels. Scores are whole numbers, (2 * window * stride) ** 2 a pixel. ValueError unless window <= stride <= 32768.

    >>> perfect_labels(torch.tensor([[0, 0, 0, 1, 1, 0, 0, 0, 0]]), 4).tolist()
    [[0, 0, 0, 1, 1, 1, 0, 0, 0]]
    """
    _check(labels=labels)
    require_positive(stride=stride, window=window)
    if not window <= stride <= WIDEST:
        raise ValueError(f"window must be at most stride and stride at most {WIDEST}, got window {window} and stride {stride}")
    answer = most = torch.zeros_like(labels, dtype=torch.int64)
    for label in sorted(set(labels.long().flatten().tolist())):  # from the lowest: a later one has to be larger
        score = _redrawn(_redrawn(labels.eq(label).long(), stride, window).T, stride, window).T
        answer, most = torch.where(score > most, label, answer), torch.maximum(most, score)
    return answer.to(labels.dtype)


def _to_class_above(labels: Tensor) -> Tensor:
    """Pixels up to the next of another class in the same column, H + W where there is none: (H, W), int64."""
    rows = torch.arange(len(labels), device=labels.device)[:, None]
    begins = torch.cat([torch.zeros_like(labels[:1], dtype=torch.bool), labels[1:] != labels[:-1]])  # a run of one class
    start = torch.where(begins, rows, 0).cummax(0).values
    return torch.where(start > 0, rows - start + 1, sum(labels.shape))


def _redrawn(share: Tensor, stride: int, window: int) -> Tensor:
    """Down the columns only: summed in windows at every stride-th row, then interpolated between these: (H, W) -> (H, W)."""
    rows, last, reach = torch.arange(len(share), device=share.device), len(share) - 1, window // 2
    points, offsets = torch.arange(0, last + stride, stride, device=share.device), range(-reach, reach + 1)
    weighted = (min(2, window + 1 - 2 * abs(i)) * share[(points + i).clamp(0, last)] for i in offsets)
    grid, near, way = sum(weighted, start=share.new_zeros(())), rows // stride, (rows % stride)[:, None]
    return (stride - way) * grid[near] + way * grid[(near + 1).clamp(max=len(grid) - 1)]


def _check(dtypes: Sequence[torch.dtype] = LABELS, **maps: Tensor) -> None:
    for name, labels in maps.items():
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        if kind not in dtypes:
            raise TypeError(f"{name} must be a tensor (H, W) of {' or '.join(map(str, dtypes))}, got {kind}")
        if labels.dim() != 2 or not labels.numel():
            raise ValueError(f"{name} must be (H, W) with at least one pixel, got {tuple(labels.shape)}")
    shapes = [tuple(labels.shape) for labels in maps.values()]
    if len(set(shapes)) > 1:
        raise ValueError(f"{' and '.join(maps)} must be of one shape, got {' and '.join(map(str, shapes))}")
