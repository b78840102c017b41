"""Receptive fields along every path of a network, exact through strides, dilation, pooling and upsampling.

A path is a stack of grids. On each of them pixel i reads the pixels from floor((ratio * i + first) / parts) to
floor((ratio * i + last) / parts) of the grid below; the lowest reads the input. A convolution of stride s reads from s * i
minus its padding onwards, in whole steps (`parts` = 1), so stacked convolutions are one grid again; upsampling reads in
fractions of a step and puts a new grid on top. Where branches meet, the paths of all of them go on.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd, lcm, prod
from typing import Literal, NamedTuple

Size = int | Literal["all", "unknown"]


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


def window(kernel: int, *, stride: int = 1, dilation: int = 1, padding: int = 0) -> Grid:
    """A convolution or a pooling; `padding` is that before the map."""
    return Grid(stride, 1, -padding, (kernel - 1) * dilation - padding)


def transposed(kernel: int, *, stride: int = 1, dilation: int = 1, padding: int = 0) -> Grid | None:
    """A transposed convolution: pixel i reads from (i + padding - extent) / stride, rounded up, to (i + padding) / stride.

    None if there are pixels between its taps that no tap reaches: which pixels another layer reads is then no interval.
    """
    if stride > kernel or (min(stride, dilation) > 1 and kernel > 1):
        return None
    return Grid(1, stride, padding - (kernel - 1) * dilation + stride - 1, padding)


def linear(before: int, after: int, *, corners: bool) -> Grid:
    """Two neighbors are read, one where the grids coincide."""
    if corners:
        parts = max(after - 1, 1)
        return _lowest_terms(Grid(before - 1, parts, 0, parts - 1))
    return _lowest_terms(Grid(2 * before, 2 * after, before - after, before + after - 1))


def nearest(before: int, after: int) -> Grid:
    """One pixel is read."""
    return _lowest_terms(Grid(before, after))


def nearest_exact(before: int, after: int) -> Grid:
    """One pixel is read, that under the middle of the new one."""
    return _lowest_terms(Grid(2 * before, 2 * after, before, before))


def bins(before: int, after: int) -> Grid:
    """Adaptive pooling: bin i reads from i * before / after, rounded down, to (i + 1) * before / after, rounded up."""
    return _lowest_terms(Grid(before, after, 0, before - 1))


def _lowest_terms(grid: Grid) -> Grid:
    common = gcd(grid.ratio, grid.parts)
    return Grid(grid.ratio // common, grid.parts // common, grid.first // common, grid.last // common)


class Path(NamedTuple):
    """Grids from the bottom to the top, and which of a model's inputs lies below them."""

    grids: tuple[Grid, ...] = (Grid(),)
    source: int = 0

    def reach(self, pixel: int) -> tuple[int, int]:
        """The first and the last input pixel that are read for one pixel."""
        first = last = pixel
        for grid in reversed(self.grids):
            first, last = (grid.ratio * first + grid.first) // grid.parts, (grid.ratio * last + grid.last) // grid.parts
        return first, last


class Field(NamedTuple):
    """What one pixel of a map can see along one axis: the paths that lead to it, the whole image, or nobody knows what.

    No path at all is a constant, which sees nothing. The whole image stays the whole image whatever comes behind it.

    >>> look, dilated = Grid(last=2), Grid(last=24)  # three taps side by side, and three taps 12 apart
    >>> Field().through(look._replace(ratio=2)).through(look).size()
    7
    >>> merge([Field(), Field().through(dilated)]).size(), Field().whole().size(), Field().lost().through(look).size()
    (25, 'all', 'unknown')
    """

    paths: frozenset[Path] = frozenset([Path()])
    everything: bool = False
    unknown: bool = False

    def through(self, grid: Grid) -> "Field":
        """The field behind a layer of which pixel i reads the pixels that `grid` names."""
        if self.everything or self.unknown:
            return self
        paths = (path._replace(grids=(*path.grids[:-1], *grid.behind(path.grids[-1]))) for path in self.paths)
        return self._replace(paths=frozenset(paths))

    def whole(self) -> "Field":
        """The field behind a layer that reads the whole axis, such as a mean."""
        return Field(everything=True) if self.paths else self

    def lost(self) -> "Field":
        """The field behind a layer of which nobody knows what it reads."""
        return Field(unknown=True) if self.paths and not self.everything else self

    def size(self, pixels: int = 1) -> Size:
        """Input pixels from the first to the last that any path reads, as if the image had no border; or `all`, `unknown`.

        It is that of the pixel that sees most, in a map of so many `pixels`: behind an upsampling they differ.
        """
        if self.everything or self.unknown:
            return "all" if self.everything else "unknown"
        inputs = {path.source for path in self.paths}
        sizes = (_hull([path for path in self.paths if path.source == source], pixels) for source in inputs)
        return max(sizes, default=0)


CONSTANT = Field(frozenset())


def widest(sizes: Iterable[Size]) -> Size:
    """The largest of several sizes: `all` is larger than any number, and may be what `unknown` hides.

    >>> widest([3, 7]), widest([3, "unknown"]), widest(["unknown", "all"])
    (7, 'unknown', 'all')
    """
    sizes = list(sizes)
    if "all" in sizes or "unknown" in sizes:
        return "all" if "all" in sizes else "unknown"
    return max((size for size in sizes if isinstance(size, int)), default=0)


def merge(fields: Iterable[Field]) -> Field:
    """Where branches are added or concatenated. Paths that differ only in what their last grid reads become their hull."""
    fields = set(fields)
    if any(field.everything or field.unknown for field in fields):
        return Field(everything=True) if any(field.everything for field in fields) else Field(unknown=True)
    hulls: dict[tuple[Path, Grid], Path] = {}
    for path in (path for field in fields for path in field.paths):
        *below, top = path.grids
        key = path._replace(grids=tuple(below)), top._replace(first=0, last=0)
        known = hulls.get(key, path).grids[-1]
        top = top._replace(first=min(top.first, known.first), last=max(top.last, known.last))
        hulls[key] = path._replace(grids=(*below, top))
    return Field(frozenset(hulls.values()))


def _hull(paths: Sequence[Path], pixels: int) -> int:
    steps = {prod(Fraction(grid.ratio, grid.parts) for grid in path.grids) for path in paths}
    period = lcm(*(prod(grid.parts for grid in path.grids) for path in paths))
    places = range(min(period, pixels) if len(steps) == 1 else pixels)  # paths of unlike steps drift apart
    reaches = ([path.reach(place) for path in paths] for place in places)
    return max(max(last for _, last in reach) - min(first for first, _ in reach) + 1 for reach in reaches)
