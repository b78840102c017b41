"""Receptive fields along every path of a network, exact through strides, dilation and upsampling.

A path is a stack of grids, the input's at the bottom. On a grid two numbers matter: how far apart the outermost taps are
(`extent`) and how far apart two neighbors are (`jump`), both in steps of the grid below. Convolutions widen the extent,
strides the jump, and upsampling opens a new, finer grid. Where branches meet, the paths of all of them go on.
"""

from collections.abc import Iterable
from fractions import Fraction
from math import ceil, floor
from typing import Literal, NamedTuple

Size = int | Literal["all"]


class Grid(NamedTuple):
    """One grid of a path. With `bilinear` each of its pixels reads two neighbors of the grid below, else one."""

    extent: Fraction
    jump: Fraction
    bilinear: bool = False


Path = tuple[Grid, ...]
INPUT: Path = (Grid(Fraction(0), Fraction(1)),)


class Field(NamedTuple):
    """What one pixel of a map can see along one axis: the paths that lead to it, or the whole image.

    >>> Field().window(3, stride=2).window(3).size()
    7
    >>> merge([Field(), Field().window(3, dilation=12)]).size(), Field().whole().size()
    (25, 'all')
    """

    paths: frozenset[Path] = frozenset([INPUT])
    everything: bool = False

    def window(self, kernel: int, *, stride: int = 1, dilation: int = 1) -> "Field":
        """Behind a convolution or a pooling."""
        return self._replace(paths=frozenset(_widen(path, kernel, stride, dilation) for path in self.paths))

    def upsampled(self, ratio: Fraction, *, bilinear: bool) -> "Field":
        """Behind an upsampling: two neighbors are now `ratio` old pixels apart."""
        return self._replace(paths=frozenset((*path, Grid(Fraction(0), ratio, bilinear)) for path in self.paths))

    def whole(self) -> "Field":
        """Behind a mean over the whole map."""
        return self._replace(everything=True)

    def size(self) -> Size:
        """Input pixels, the maximum over paths, as if the image had no border; `all` behind a global mean."""
        return "all" if self.everything else max(_pixels(path) for path in self.paths)


def merge(fields: Iterable[Field]) -> Field:
    """Where branches are added or concatenated. Of two paths that differ in their last extent only, the wider is kept."""
    fields = list(fields)
    widest: dict[tuple[Path, Fraction, bool], Path] = {}
    for path in (path for field in fields for path in field.paths):
        key = (path[:-1], path[-1].jump, path[-1].bilinear)
        widest[key] = max(widest.get(key, path), path)
    return Field(frozenset(widest.values()), any(field.everything for field in fields))


def _widen(path: Path, kernel: int, stride: int, dilation: int) -> Path:
    *below, top = path
    return (*below, Grid(top.extent + (kernel - 1) * dilation * top.jump, top.jump * stride, top.bilinear))


def _pixels(path: Path) -> int:
    """Collapse the grids from the top: how many steps of the grid below does a window on this one span at most?"""
    *below, top = path
    if not below:
        return int(top.extent) + 1
    parts = top.jump.denominator  # the grid's pixels sit on every one of so many parts of a step below
    taps = int(top.extent * parts)
    reach = ceil if top.bilinear else floor
    steps = 1 + reach(Fraction(taps - 1, parts)) if taps else int(top.bilinear and parts > 1)
    grid = below[-1]
    return _pixels((*below[:-1], grid._replace(extent=grid.extent + steps * grid.jump)))
