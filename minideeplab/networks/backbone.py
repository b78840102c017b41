"""What a head may ask of a backbone: two maps with names, how many channels they have, and the maps of other strides.

`Features` is what DeepLab reads. `Pyramid` is the same and more, for heads that come back up in several steps (U-Net,
RefineNet). A backbone of one's own is any module that keeps this contract; there is no class to inherit from.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor, nn

from minideeplab.checks import require_finite


class Features(NamedTuple):
    """`low` (N, low_channels, ceil(H / 4), ceil(W / 4)): where; `high` (N, high_channels, ceil(H / os), ceil(W / os)): what."""

    low: Tensor
    high: Tensor


class Pyramid(Features):
    """`Features` with the last map of every stride, the output stride included: `maps[8]` (N, C, ceil(H / 8), ceil(W / 8))."""

    maps: Mapping[int, Tensor]

    @classmethod
    def of(cls, low: Tensor, maps: Mapping[int, Tensor]) -> "Pyramid":
        """From the maps by stride, in any order; `high` is the coarsest."""
        pyramid = cls(low, maps[max(maps)])
        pyramid.maps = {stride: maps[stride] for stride in sorted(maps)}
        return pyramid


class Backbone(Protocol):
    """What DeepLab asks of a backbone: `Features`, and, as integers, `low_channels`, `high_channels` and `output_stride`."""

    low_channels: int
    high_channels: int
    output_stride: int

    def __call__(self, x: Tensor) -> Features: ...


class PyramidBackbone(Backbone, Protocol):
    """What most heads of `family` ask beyond that, and ours have: the last map of every stride, and `channels` by stride."""

    channels: dict[int, int]
    def pyramid(self, x: Tensor) -> Pyramid:
        """From the finest stride to the output stride."""


def check_backbone(backbone: Backbone, *, pyramid: bool = False) -> None:
    """TypeError unless `backbone` is a module that says how many channels it hands over and at which stride."""
    names = ("low_channels", "high_channels", "output_stride") + ("channels", "pyramid") * pyramid
    missing = [name for name in names if not hasattr(backbone, name)]
    if not isinstance(backbone, nn.Module) or missing:
        got = f"{type(backbone).__name__} {f'without {missing}' if missing else 'which is no nn.Module'}"
        raise TypeError(f"a backbone is a module that returns Features, as xception65() does; got {got}")


def scaled(width: float) -> Callable[[int], int]:
    """How many channels a layer has when every layer of a network is scaled by `width`: at least one.

    >>> [scaled(0.5)(channels) for channels in (728, 3, 1)]
    [364, 2, 1]
    """
    require_finite(width=width)

    def channels(full: int) -> int:
        return max(1, round(full * width))

    return channels
