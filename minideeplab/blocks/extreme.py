"""Rung 3. From Inception to extreme Inception (Chollet 2017, figs. 2-4): the number of segments is a dial.

Nothing but convolutions here: the figures draw no batch norm and no ReLU, and without them each step is an equality.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minideeplab.checks import check_kernel, require_divides, require_kind, require_positive
from minideeplab.geometry import same_padding


class SimplifiedInception(nn.Module):
    """Fig. 2: `towers` towers of 1 x 1 -> 3 x 3, one size of window, no pooling: (N, C, H, W) -> (N, width, H, W)."""

    def __init__(self, in_channels: int, width: int, *, towers: int = 3, kernel_size: int = 3) -> None:
        super().__init__()
        require_divides(towers, width, names=("towers", "width"))
        require_positive(in_channels=in_channels)
        self.in_channels, each = in_channels, width // towers
        self.mixes = nn.ModuleList(nn.Conv2d(in_channels, each, 1, bias=False) for _ in range(towers))
        padding = same_padding(kernel_size)
        self.looks = nn.ModuleList(nn.Conv2d(each, each, kernel_size, padding=padding, bias=False) for _ in range(towers))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([look(mix(x)) for mix, look in zip(self.mixes, self.looks, strict=True)], dim=1)


class SegmentedInception(nn.Module):
    """Fig. 3: one wide 1 x 1, its output cut into segments, a 3 x 3 on each: (N, C, H, W) -> (N, width, H, W).

    Convolution on segments is what PyTorch calls `groups`. Of equal segments there is a stop for each divisor of `width`:
    1 segment is a plain convolution behind a 1 x 1, `width` segments are fig. 4.
    """

    def __init__(self, in_channels: int, width: int, *, segments: int = 3, kernel_size: int = 3) -> None:
        super().__init__()
        require_divides(segments, width, names=("segments", "width"))
        require_positive(in_channels=in_channels)
        self.in_channels = in_channels
        self.mix = nn.Conv2d(in_channels, width, 1, bias=False)
        padding = same_padding(kernel_size)
        self.look = nn.Conv2d(width, width, kernel_size, padding=padding, groups=segments, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.look(self.mix(x))


class ExtremeInception(nn.Module):
    """Fig. 4: a 1 x 1, then one 3 x 3 filter for each of its output channels: (N, C, H, W) -> (N, width, H, W).

    A depthwise separable convolution with its halves exchanged.
    """

    def __init__(self, in_channels: int, width: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        require_positive(in_channels=in_channels, width=width)
        self.in_channels = in_channels
        self.pointwise = nn.Conv2d(in_channels, width, 1, bias=False)
        padding = same_padding(kernel_size)
        self.depthwise = nn.Conv2d(width, width, kernel_size, padding=padding, groups=width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.pointwise(x))


def segmented_from_towers(towers: SimplifiedInception) -> SegmentedInception:
    """Fig. 2 -> fig. 3: stack the 1 x 1 weights into one kernel, the 3 x 3 weights into a grouped one. The same function."""
    require_kind(SimplifiedInception, towers=towers)
    mixes = torch.cat([mix.weight for mix in _convolutions(towers.mixes)])  # (width, C, 1, 1)
    looks = torch.cat([look.weight for look in _convolutions(towers.looks)])  # (width, width / towers, k, k)
    kernel_size, segments = looks.shape[-1], len(towers.mixes)
    segmented = SegmentedInception(towers.in_channels, len(mixes), segments=segments, kernel_size=kernel_size)
    segmented.load_state_dict({"mix.weight": mixes, "look.weight": looks})
    return segmented


def towers_from_segmented(segmented: SegmentedInception) -> SimplifiedInception:
    """Fig. 3 -> fig. 2: hand each segment its own 1 x 1 and 3 x 3. The same function."""
    require_kind(SegmentedInception, segmented=segmented)
    mix, look = segmented.mix.weight, segmented.look.weight
    count = segmented.look.groups
    towers = SimplifiedInception(segmented.in_channels, len(mix), towers=count, kernel_size=look.shape[-1])
    for modules, whole in ((towers.mixes, mix), (towers.looks, look)):
        for tower, part in zip(modules, whole.chunk(count), strict=True):
            tower.load_state_dict({"weight": part})
    return towers


def extreme_from_segmented(segmented: SegmentedInception) -> ExtremeInception:
    """Fig. 3 at its last stop -> fig. 4. ValueError while a segment still holds more than one channel."""
    require_kind(SegmentedInception, segmented=segmented)
    width, segments = len(segmented.mix.weight), segmented.look.groups
    if segments != width:
        raise ValueError(f"extreme Inception needs one segment per channel: {segments} segments for {width} channels")
    extreme = ExtremeInception(segmented.in_channels, width, kernel_size=segmented.look.weight.shape[-1])
    extreme.load_state_dict({"pointwise.weight": segmented.mix.weight, "depthwise.weight": segmented.look.weight})
    return extreme


def regroup(weight: Tensor, groups: int, *, fewer: int = 1) -> Tensor:
    """The kernel of a convolution in `groups` groups, written with `fewer`: zero blocks for what the groups keep apart.

    (C_out, C_in / groups, k, k) -> (C_out, C_in / fewer, k, k). It exists where `fewer` divides `groups`: the stops of
    equal segments are a lattice, and 4 groups of 12 channels cannot be written with 3. With one group it is the dense
    kernel of the same function.

    >>> two_groups = torch.ones(4, 2, 1, 1)
    >>> regroup(two_groups, 2).flatten(1).int().tolist()
    [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    """
    check_kernel(weight)
    require_divides(groups, len(weight), names=("groups", "the output channels"))
    require_divides(fewer, groups, names=("fewer", "groups"))
    outputs, inputs = len(weight), weight.shape[1]
    wider = weight.new_zeros(outputs, inputs * groups // fewer, *weight.shape[2:])
    for o in range(outputs):
        group = o * groups // outputs  # the group that output o belongs to
        start = group % (groups // fewer) * inputs  # where its inputs begin inside the wider group
        wider[o, start : start + inputs] = weight[o]
    return wider


def _convolutions(modules: Sequence[nn.Module] | nn.ModuleList) -> list[nn.Conv2d]:
    return [module for module in modules if isinstance(module, nn.Conv2d)]
