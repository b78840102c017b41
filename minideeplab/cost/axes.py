"""Which dimension of a tensor carries which axis of the image, and what its pixels see along it.

Networks move their axes about: channels last, tokens in one row, a flattened map. Receptive fields follow them as long as it
is certain where an axis lies; where it is not, they are unknown.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple

from minideeplab.cost.receptive_field import CONSTANT, Field, Grid, Path, Size, merge, widest

Shape = Sequence[int]
COUNT = 3  # axes of an image at most: depth, height, width


class Spot(NamedTuple):
    """A dimension, counted from the last, which is -1; and if it holds other axes too, the stride in it and the length."""

    dim: int
    shared: tuple[int, int] | None = None


class Seen(NamedTuple):
    """What the pixels of a tensor see: a field for each axis of the image, and the spot of that axis, None if it is gone."""

    fields: tuple[Field, ...] = (CONSTANT,) * COUNT
    spots: tuple[Spot | None, ...] = (None,) * COUNT

    @classmethod
    def of_input(cls, number: int, dims: int) -> "Seen":
        """An input sees itself. (N, C, ...) has axes behind the channels, (N, F) one of F, and more than three are too many."""
        axes = max(dims - 2, 1)
        own = Field(frozenset([Path(source=number)]))
        fields = tuple((own.lost() if axes > COUNT else own) if axis < axes else CONSTANT for axis in range(COUNT))
        return cls(fields, tuple(Spot(-1 - axis) if axis < min(axes, dims) else None for axis in range(COUNT)))

    def change(self, rule: Callable[[Field, Spot], tuple[Field, Spot | None]]) -> "Seen":
        """The same with a rule for every axis that has a spot."""
        pairs = [rule(field, spot) if spot else (field, None) for field, spot in zip(*self, strict=True)]
        return Seen(tuple(field for field, _ in pairs), tuple(spot for _, spot in pairs))

    def lost(self) -> "Seen":
        """What comes out of an operation that may have read anything, and put it anywhere."""
        return Seen(tuple(field.lost() for field in self.fields))

    def whole(self, dims: Collection[int]) -> "Seen":
        """Whatever lies in these dimensions is read from one end to the other, and stays where it is."""
        return self.change(lambda field, spot: (field.whole() if spot.dim in dims else field, spot))

    def lost_along(self, dims: Collection[int]) -> "Seen":
        """The pixels of these dimensions are rearranged; the others stay."""
        return self.change(lambda field, spot: (field.lost() if spot.dim in dims else field, spot))

    def without(self, dims: Collection[int], read: Callable[[Field], Field]) -> "Seen":
        """These dimensions are read and fall away, and the others close the gaps."""

        def fall(field: Field, spot: Spot) -> tuple[Field, Spot | None]:
            if spot.dim in dims:
                return read(field), None
            return field, spot._replace(dim=spot.dim + sum(dim > spot.dim for dim in dims))

        return self.change(fall)

    def through(self, grids: Mapping[int, Grid | None], shape: Shape, *, alone: bool = False) -> "Seen":
        """Each of these dimensions is read through a grid; None is one that nobody knows.

        A dimension without an axis carries something that may have come from anywhere, unless the grid reads it `alone`:
        pixel by pixel, as a slice or a padding does.
        """
        grids = {dim: grid for dim, grid in grids.items() if alone or grid != Grid()}

        def read(field: Field, spot: Spot) -> tuple[Field, Spot | None]:
            if spot.dim not in grids:
                return field, spot
            grid = grids[spot.dim]
            return (field.lost(), spot) if grid is None or spot.shared else (field.through(grid), spot)

        carried = {spot.dim for spot in self.spots if spot}
        stray = not alone and any(dim not in carried and shape[dim] > 1 for dim in grids)
        return self.lost() if stray else self.change(read)

    def moved(self, places: Sequence[int]) -> "Seen":
        """Dimension `places[i]` becomes dimension i."""
        count = len(places)
        return self.change(lambda field, spot: (field, spot._replace(dim=places.index(count + spot.dim) - count)))

    def broadcast(self, before: Shape, after: Shape) -> "Seen":
        """An axis of one pixel is repeated: every pixel reads that one."""

        def repeat(field: Field, spot: Spot) -> tuple[Field, Spot | None]:
            return (field.through(Grid(0)), None) if before[spot.dim] == 1 != after[spot.dim] else (field, spot)

        return self.change(repeat)

    def reshaped(self, before: Shape, after: Shape) -> "Seen":
        """The elements keep their order; axes are found again by the step from one of their pixels to the next."""

        def find(field: Field, spot: Spot) -> tuple[Field, Spot | None]:
            step, length = spot.shared or (1, before[spot.dim])
            step *= prod(before[len(before) + spot.dim + 1 :])
            for dim in range(-1, -len(after) - 1, -1):
                inner = prod(after[len(after) + dim + 1 :])
                if inner <= step and step * length <= inner * after[dim] and step % inner == 0 and after[dim] > 1:
                    alone = step == inner and length == after[dim]
                    return field, Spot(dim, None if alone else (step // inner, length))
            return (field.through(Grid(0)) if length == 1 else field.lost()), None

        return self.change(find)

    def size(self, shape: Shape) -> Size:
        """The receptive field, its longest side, of a tensor of this shape."""
        lengths = (1 if spot is None else spot.shared[1] if spot.shared else shape[spot.dim] for spot in self.spots)
        return widest(field.size(length) for field, length in zip(self.fields, lengths, strict=True))


def meet(seen: Iterable[Seen]) -> Seen:
    """What is seen where tensors are combined pixel by pixel. Axes that do not lie in the same spot make it unknown."""
    seen, fields, spots = list(seen), list[Field](), list[Spot | None]()
    for axis in range(COUNT):
        field = merge(one.fields[axis] for one in seen)
        found = {one.spots[axis] for one in seen} - {None}
        fields.append(field.lost() if len(found) > 1 else field)
        spots.append(found.pop() if len(found) == 1 else None)
    return Seen(tuple(fields), tuple(spots))
