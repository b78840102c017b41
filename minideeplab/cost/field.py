"""Receptive fields along every path of a network, exact through strides, dilation, pooling and upsampling.

A path is a stack of grids. On each of them pixel i reads the pixels from floor((ratio * i + first) / parts) to
floor((ratio * i + last) / parts) of the grid below; the lowest reads the input. A convolution of stride s reads from s * i
minus its padding onwards, in whole steps (`parts` = 1), so stacked convolutions are one grid again; upsampling reads in
fractions of a step and puts a new grid on top. Where branches meet, the paths of all of them go on.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import gcd, lcm, prod
from typing import Literal, NamedTuple

Size = int | Literal["all"]


class Grid(NamedTuple):
    """How pixel i reads the grid below: from floor((ratio * i + first) / parts) to floor((ratio * i + last) / parts)."""

    ratio: int = 1
    parts: int = 1
    first: int = 0
    last: int = 0

    def behind(self, top: "Grid") -> tuple["Grid", ...]:
        """This grid on `top`: one grid if this one reads whole steps, for then no rounding stands between the two."""
        if self.parts > 1:
            return top, self
        first, last = (top.ratio * own + upper for own, upper in ((self.first, top.first), (self.last, top.last)))
        return (Grid(top.ratio * self.ratio, top.parts, first, last),)


Path = tuple[Grid, ...]


class Field(NamedTuple):
    """What one pixel of a map can see along one axis: the paths that lead to it, or the whole image.

    >>> Field().through(window(3, stride=2)).through(window(3)).size()
    7
    >>> merge([Field(), Field().through(window(3, dilation=12))]).size(), Field().whole().size()
    (25, 'all')
    """

    paths: frozenset[Path] = frozenset([(Grid(),)])
    everything: bool = False

    def through(self, grid: Grid) -> "Field":
        """Behind a layer that reads as `grid` says."""
        return self._replace(paths=frozenset((*path[:-1], *grid.behind(path[-1])) for path in self.paths))

    def whole(self) -> "Field":
        """Behind a mean over the whole map."""
        return self._replace(everything=True)

    def size(self, pixels: int = 1) -> Size:
        """Input pixels from the first to the last that any path reads, as if the image had no border; or `all`.

        It is that of the pixel that sees most, in a map of so many `pixels`: behind an upsampling they differ.
        """
        if self.everything:
            return "all"
        steps = {prod(Fraction(grid.ratio, grid.parts) for grid in path) for path in self.paths}
        period = lcm(*(prod(grid.parts for grid in path) for path in self.paths))
        places = range(min(period, pixels) if len(steps) == 1 else pixels)  # paths of unlike steps drift apart
        return max(last - first + 1 for first, last in map(self.reach, places))

    def reach(self, pixel: int) -> tuple[int, int]:
        """The first and the last input pixel that any path reads for one pixel."""
        first, last = zip(*(_reach(path, pixel) for path in self.paths), strict=True)
        return min(first), max(last)


def merge(fields: Iterable[Field]) -> Field:
    """Where branches are added or concatenated. Paths that differ only in what their last grid reads become their hull."""
    fields = list(fields)
    hulls: dict[tuple[Path, int, int], Grid] = {}
    for *below, top in (path for field in fields for path in field.paths):
        key = (tuple(below), top.ratio, top.parts)
        known = hulls.get(key, top)
        hulls[key] = top._replace(first=min(top.first, known.first), last=max(top.last, known.last))
    return Field(frozenset((*below, top) for (below, _, _), top in hulls.items()), any(field.everything for field in fields))


def _reach(path: Path, pixel: int) -> tuple[int, int]:
    first = last = pixel
    for grid in reversed(path):
        first, last = (grid.ratio * first + grid.first) // grid.parts, (grid.ratio * last + grid.last) // grid.parts
    return first, last


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
