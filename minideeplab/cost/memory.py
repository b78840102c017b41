"""Peak activation memory: how much a network must hold at once to be run operation by operation."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Operation(NamedTuple):
    """Which pieces of memory an operation reads, and how many bytes each new one takes; views share a piece."""

    reads: Collection[int]
    makes: Mapping[int, int]


def peak_bytes(operations: Sequence[Operation]) -> int:
    """The largest sum of bytes alive at the same time.

    A result lives from the operation that makes it to the last one that reads it, and an operation's inputs and results
    are alive together: nothing is computed in place or fused, and nothing is kept for a backward pass.

    >>> image, relu, shortcut = Operation([], {0: 8}), Operation([0], {1: 8}), Operation([0, 1], {2: 8})
    >>> peak_bytes([image, relu, relu._replace(reads=[1], makes={2: 8})]), peak_bytes([image, relu, shortcut])
    (16, 24)
    """
    last = {piece: turn for turn, operation in enumerate(operations) for piece in operation.reads}
    alive: dict[int, int] = {}
    peak = 0
    for turn, operation in enumerate(operations):
        alive |= operation.makes
        peak = max(peak, sum(alive.values()))
        alive = {piece: size for piece, size in alive.items() if last.get(piece, turn) > turn}
    return peak
